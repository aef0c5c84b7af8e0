"""The bodies of OpenAI's `/chat/completions`, from our requests.

Text is sent as a string if possible, since many servers accept lists only from users. A tool
result is a message of its own; it has no error field, so its text says that it is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from orchestra.codecs.dialect import no_field
from orchestra.codecs.files import PDF, as_text_part, refuse_citations, unread
from orchestra.codecs.gemini.request import wants_seals
from orchestra.codecs.openai.quirks import Quirks
from orchestra.codecs.openai.reasoning_details import details_of, with_ids, with_unsealed
from orchestra.codecs.prompt_cache import has_mark
from orchestra.codecs.raw_json import merged, without_nulls
from orchestra.codecs.seals import UNSEALED, google_content
from orchestra.codecs.tool_calls import arguments_text
from orchestra.errors import CapabilityError
from orchestra.values import (
    ChatRequest,
    Extras,
    FilePart,
    ForcedTool,
    ImagePart,
    ImageUrlPart,
    Json,
    JsonOutput,
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

DIALECT = "openai-dialect"
"""The extras' key for all servers with this dialect; extras for a single server override these."""
_BRIDGE = "OK."
_BEYOND_XHIGH = re.compile(r"\bgpt-(5\.([6-9]|\d\d)|[6-9]|\d\d)")
"""OpenAI's models with the effort `max`: since GPT-5.6; earlier ones have none above `xhigh`."""


def chat_body(model: str, request: ChatRequest, quirks: Quirks, *, stream: bool) -> Json:
    """The body of a chat call.

    Raises:
        CapabilityError: this server cannot express something in the request.
    """
    body: Json = {
        "model": model,
        "messages": _messages(model, request, quirks),
        "temperature": request.temperature,
        "top_p": request.top_p,
        quirks.max_tokens_key: request.output_tokens_max,
        "stop": list(request.stop) or None,
        **_sampling(model, request, quirks),
        **_tools(request, quirks),
        "response_format": request.output and _response_format(request.output, quirks),
    }
    asked = without_nulls(body)
    if stream:
        asked["stream"] = True
        if quirks.include_usage:
            asked["stream_options"] = {"include_usage": True}
    return with_extras(asked, request.extras, quirks)


def _messages(model: str, request: ChatRequest, quirks: Quirks) -> list[Json]:
    messages = [each for message in request.messages for each in messages_of(message, quirks)]
    if not quirks.user_after_tool:
        messages = list(_bridged(messages))
    if (quirks.google_seals or quirks.reasoning_details) and wants_seals(model):
        for message in messages:
            if calls := message.get("tool_calls"):
                _mark_unsealed(message, calls[0], quirks)
    return messages


def _bridged(messages: list[Json]) -> Iterator[Json]:
    """The messages, with an assistant's between a tool's result and a user's message."""
    before = ""
    for message in messages:
        if before == "tool" and message["role"] == "user":
            yield {"role": "assistant", "content": _BRIDGE}
        yield message
        before = message["role"]


def _mark_unsealed(message: Json, call: Json, quirks: Quirks) -> None:
    """Mark the first call of a turn as unsealed if it has no seal: otherwise Gemini refuses it."""
    if quirks.reasoning_details:
        details = message.get("reasoning_details", [])
        message["reasoning_details"] = with_unsealed(details, call["id"])
    elif "extra_content" not in call:
        call |= google_content(UNSEALED)


def with_extras(body: Json, extras: Extras, quirks: Quirks) -> Json:
    """The body with the extras for this server."""
    for name in (DIALECT, quirks.name):
        if more := extras.get(name):
            body = merged(body, more)
    return body


def messages_of(message: Message, quirks: Quirks) -> Iterator[Json]:
    """The messages for a turn; each tool result is a message of its own.

    Raises:
        CapabilityError: a part is not allowed in such a turn.
    """
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    for result in results:
        text = f"Error: {result.content}" if result.is_error else result.content
        content = _content("tool", (TextPart(text, result.prompt_cache),), quirks)
        yield {"role": "tool", "tool_call_id": quirks.call_id(result.call_id), "content": content}
    rest = tuple(part for part in message.parts if not isinstance(part, ToolResult))
    if rest or not results:
        turn = _turn(message.role, rest, quirks)
        yield {**turn, "name": message.name} if message.name and quirks.names else turn


def _turn(role: Role, parts: tuple[Part, ...], quirks: Quirks) -> Json:
    if role == "assistant":
        return _assistant(parts, quirks)
    if role == "tool":
        raise CapabilityError(
            f"a tool's turn has {_names(parts)}, but only tool results are allowed; send other "
            "parts in a user's turn"
        )
    return {"role": role, "content": _content(role, parts, quirks)}


def _content(role: str, parts: tuple[Part, ...], quirks: Quirks) -> str | list[Json]:
    """The content as one text if possible: many servers accept lists only from users."""
    marks = quirks.prompt_cache and any(map(_is_marked, parts))
    if not marks and (role != "user" or all(isinstance(part, TextPart) for part in parts)):
        return _text(role, parts, quirks)
    mark: Json = {"cache_control": {"type": "ephemeral"}} if marks else {}
    return [_part(role, part, quirks) | (mark if _is_marked(part) else {}) for part in parts]


def _is_marked(part: Part) -> bool:
    """Whether a part is a text with a mark for the prompt cache; other parts take no marks here."""
    return isinstance(part, TextPart) and has_mark(part)


def _assistant(parts: tuple[Part, ...], quirks: Quirks) -> Json:
    content = tuple(part for part in parts if not isinstance(part, ReasoningPart | ToolCall))
    thought = "".join(part.text for part in parts if isinstance(part, ReasoningPart))
    calls = [_call(part, quirks) for part in parts if isinstance(part, ToolCall)]
    details = _details(parts, quirks) if quirks.reasoning_details else []
    text = _text("assistant", content, quirks)
    message: Json = {"role": "assistant", "content": text if text or not calls else None}
    if calls:
        message["tool_calls"] = calls
    if details:
        message["reasoning_details"] = details
    elif thought and quirks.reasoning_key:
        message[quirks.reasoning_key] = thought
    return message


def _call(call: ToolCall, quirks: Quirks) -> Json:
    record: Json = {
        "id": quirks.call_id(call.id),
        "type": "function",
        "function": {"name": call.name, "arguments": arguments_text(call.arguments)},
    }
    return {**record, **google_content(call.signature)} if quirks.google_seals else record


def _details(parts: tuple[Part, ...], quirks: Quirks) -> list[Json]:
    ids = {part.id: quirks.call_id(part.id) for part in parts if isinstance(part, ToolCall)}
    return with_ids(details_of(parts), ids)


def _text(role: str, parts: tuple[Part, ...], quirks: Quirks) -> str:
    return "".join(_part(role, part, quirks)["text"] for part in parts)


def _image(url: str, detail: str | None) -> Json:
    return {"url": url} if detail is None else {"url": url, "detail": detail}


def _part(role: str, part: Part, quirks: Quirks) -> Json:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if role == "user" and isinstance(part, ImagePart):
        return {"type": "image_url", "image_url": _image(part.data_url, part.detail)}
    if role == "user" and isinstance(part, ImageUrlPart):
        return {"type": "image_url", "image_url": _image(part.url, part.detail)}
    if role == "user" and isinstance(part, FilePart):
        return _file(part, quirks)
    raise CapabilityError(
        f"{_names((part,))} is not allowed in a turn of role {role!r}; images and files belong in "
        "a user's turn, reasoning and calls in an assistant's"
    )


def _file(part: FilePart, quirks: Quirks) -> Json:
    """The part for a file: OpenAI accepts only PDFs; other files are sent as text."""
    if part.is_text:
        return {"type": "text", "text": as_text_part(part, quirks.name).text}
    refuse_citations(part, quirks.name)
    if not quirks.files or part.media_type != PDF:
        raise unread(part, quirks.name)
    name = part.name or "file.pdf"  # without one it is refused
    return {"type": "file", "file": {"filename": name, "file_data": part.data_url}}


def _names(parts: tuple[Part, ...]) -> str:
    return ", ".join(type(part).__name__ for part in parts) or "nothing"


def _sampling(model: str, request: ChatRequest, quirks: Quirks) -> Json:
    """The fields that not every server supports."""
    words = {
        "seed": quirks.seed_key,
        "top_k": quirks.top_k,
        "presence_penalty": quirks.penalties,
        "frequency_penalty": quirks.penalties,
    }
    body: Json = {}
    for field, word in words.items():
        value: float | None = getattr(request, field)
        if value is not None:
            body[_word(word, field, value, quirks)] = value
    body |= _effort(model, request, quirks)
    if request.logprobs is not None:
        body[_word(quirks.logprobs, "logprobs", request.logprobs, quirks)] = True
        body["top_logprobs"] = request.logprobs or None
    return body


def _effort(model: str, request: ChatRequest, quirks: Quirks) -> Json:
    """The field for the effort; for a wish that the server has no value for, `high` or no field."""
    effort = request.reasoning_effort
    if effort is None:
        return {}
    if effort == "none" and quirks.thinking_switch:
        return {"thinking": {"type": "disabled"}}
    found = quirks.efforts.get(effort)
    if found is None and request.effort_if_able:
        high = quirks.efforts.get("high") if effort in {"xhigh", "max"} else None
        return {} if high is None else {"reasoning_effort": high}
    word = _word(found, "reasoning_effort", effort, quirks)
    highest = effort == "max" and word == "xhigh" and _BEYOND_XHIGH.search(model)
    return {"reasoning_effort": "max" if highest else word}


def _tools(request: ChatRequest, quirks: Quirks) -> Json:
    body: Json = {}
    if request.tools:
        _word(quirks.tools, "tools", [tool.name for tool in request.tools], quirks)
        body["tools"] = [_tool(tool, quirks) for tool in request.tools]
    choice = request.tool_choice
    # OpenAI refuses a tool choice without tools.
    if choice is not None and (request.tools or choice not in {"auto", "none"}):
        body["tool_choice"] = _choice(choice)
    if request.parallel_tool_calls is not None and request.tools:
        if quirks.parallel_tool_calls:
            body["parallel_tool_calls"] = request.parallel_tool_calls
        elif not request.parallel_tool_calls:
            _word(None, "parallel_tool_calls", value=False, quirks=quirks)
    return body


def _tool(tool: Tool, quirks: Quirks) -> Json:
    function: Json = {"name": tool.name, "parameters": tool.parameters}
    if tool.description:
        function["description"] = tool.description
    if tool.strict and quirks.strict_tools:
        function["strict"] = True
    return {"type": "function", "function": function}


def _choice(choice: ToolChoice) -> str | Json:
    if isinstance(choice, ForcedTool):
        return {"type": "function", "function": {"name": choice.name}}
    return choice


def _response_format(output: JsonOutput, quirks: Quirks) -> Json:
    if output.schema is None:
        _word(quirks.json_object, "output", "a JSON object", quirks)
        return {"type": "json_object"}
    _word(quirks.json_schema, "output", "a JSON schema", quirks)
    schema = {"name": output.name, "schema": output.schema, "strict": output.strict}
    if output.description is not None:
        schema["description"] = output.description
    return {"type": "json_schema", "json_schema": schema}


def _word(word: str | bool | None, field: str, value: object, quirks: Quirks) -> str:
    """The server's word for a field or its value; True means that the word is `field`.

    Raises:
        CapabilityError: the server has none.
    """
    if not word:
        raise no_field(field, value, repr(quirks.name))
    return field if word is True else word
