"""The bodies of Cohere's `/v2/chat`, `/v2/embed` and `/v2/rerank`, from our requests.

Cohere cannot be told to call a certain tool, so all other tools are left out. The plan for a tool
call (`tool_plan`) is sent separately from the thoughts before an answer. Files to be cited are sent
outside the conversation, in `documents`, each of which Cohere cites as a whole; with them, it cites
without being asked to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from orchestra.codecs.cohere.citations import document_id
from orchestra.codecs.cohere.embeddings import embed_fields
from orchestra.codecs.dialect import refuse
from orchestra.codecs.files import text_of, title_of, unread, without_files
from orchestra.codecs.rankings import rerank_fields
from orchestra.codecs.raw_json import merged, without_nulls
from orchestra.codecs.tool_calls import arguments_text, function_tool
from orchestra.errors import CapabilityError
from orchestra.rankings import RerankRequest
from orchestra.values import (
    ChatRequest,
    EmbedRequest,
    FilePart,
    ForcedTool,
    ImagePart,
    ImageUrlPart,
    Json,
    JsonOutput,
    Message,
    Part,
    ReasoningEffort,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolChoice,
    ToolResult,
)

_THINKING: Mapping[ReasoningEffort, Json] = {
    "none": {"type": "disabled"},
    "minimal": {"type": "enabled", "token_budget": 512},
    "low": {"type": "enabled", "token_budget": 2_048},
    "medium": {"type": "enabled", "token_budget": 8_192},
    "high": {"type": "enabled", "token_budget": 31_000},  # the most that Cohere recommends
    "xhigh": {"type": "enabled"},
    "max": {"type": "enabled"},
}
_CHOICES: Mapping[ToolChoice | None, str | None] = {None: None, "auto": None, "none": "NONE"}


def chat_body(model: str, request: ChatRequest, *, stream: bool) -> Json:
    """The body of a chat call.

    Raises:
        CapabilityError: Cohere's API cannot express something in the request.
    """
    refuse(request, "Cohere", "logprobs", "parallel_tool_calls")
    body: Json = {
        "model": model,
        "messages": [each for message in request.messages for each in _messages(message)],
        "stream": stream,
        "temperature": request.temperature,
        "max_tokens": request.output_tokens_max,
        "stop_sequences": list(request.stop) or None,
        "seed": request.seed,
        "p": request.top_p,
        "k": request.top_k,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "thinking": _thinking(request),
        "response_format": request.output and _response_format(request.output),
        "documents": list(_documents(request)) or None,
        **_tools(request),
    }
    for name, what in (("documents", "cite files"), ("tools", "be given tools")):
        if request.output and body.get(name):  # as Cohere's reference of response_format says
            raise CapabilityError(
                f"Cohere cannot answer in JSON and {what} in one request: leave out one of the two"
            )
    return merged(without_nulls(body), request.extras.get("cohere", {}))


def _thinking(request: ChatRequest) -> Json | None:
    effort, budget = request.reasoning_effort, request.reasoning_tokens_max
    if effort is None:
        return None
    fields = _THINKING[effort]
    return fields if budget is None else {**fields, "token_budget": budget}


def embed_body(model: str, request: EmbedRequest) -> Json:
    """The body of an embedding call; the default purpose is `document`."""
    return merged({"model": model, **embed_fields(request)}, request.extras.get("cohere", {}))


def rerank_body(model: str, request: RerankRequest) -> Json:
    """The body of a rerank call."""
    return merged({"model": model, **rerank_fields(request)}, request.extras.get("cohere", {}))


def _tools(request: ChatRequest) -> Json:
    tools, choice = request.tools, request.tool_choice
    if isinstance(choice, ForcedTool):
        tools = tuple(tool for tool in tools if tool.name == choice.name)
        if not tools:
            raise CapabilityError(
                f"tool_choice requires the tool {choice.name!r}, which is not among the request's "
                f"tools: {[tool.name for tool in request.tools]}"
            )
    if not tools:
        return {}
    return {
        "tools": [function_tool(tool) for tool in tools],
        "strict_tools": True if any(tool.strict for tool in tools) else None,
        "tool_choice": _CHOICES.get(choice, "REQUIRED"),
    }


def _response_format(output: JsonOutput) -> Json:
    schema = {} if output.schema is None else {"json_schema": output.schema}
    return {"type": "json_object", **schema}


def _documents(request: ChatRequest) -> Iterator[Json]:
    """The files to be cited, each in the passages that it has, with its index among all files."""
    parts = (part for message in request.messages for part in message.parts)
    files = (part for part in parts if isinstance(part, FilePart))
    for index, file in enumerate(files):
        if not file.citations:
            continue
        if not file.is_text:
            raise unread(file, "Cohere")
        about = {"title": title_of(file), "url": file.source}
        named = {name: each for name, each in about.items() if each}
        for at, text in enumerate(file.passages or (text_of(file),)):
            id_ = document_id(index, at if file.passages else None)
            yield {"id": id_, "data": {"text": text, **named}}


def _is_cited(part: Part) -> bool:
    return isinstance(part, FilePart) and part.citations


def _messages(message: Message) -> Iterator[Json]:
    """The messages for one of our turns: first a message for each tool result, then the rest."""
    for part in message.parts:
        if isinstance(part, ToolResult):
            yield {"role": "tool", "tool_call_id": part.call_id, "content": _result(part)}
    rest = tuple(
        part for part in message.parts if not (isinstance(part, ToolResult) or _is_cited(part))
    )
    parts = without_files(rest, "Cohere")
    if message.role == "assistant":
        yield _assistant(parts)
    elif parts:
        role = "user" if message.role == "tool" else message.role
        yield {"role": role, "content": _content(parts)}


def _assistant(parts: tuple[Part, ...]) -> Json:
    thoughts = "".join(part.text for part in parts if isinstance(part, ReasoningPart))
    calls = [_call(part) for part in parts if isinstance(part, ToolCall)]
    rest = tuple(part for part in parts if not isinstance(part, ReasoningPart | ToolCall))
    turn: Json = {"role": "assistant"}
    if calls:
        turn |= {"tool_calls": calls} | ({"tool_plan": thoughts} if thoughts else {})
    if thoughts and not calls:
        thinking = {"type": "thinking", "thinking": thoughts}
        return turn | {"content": [thinking, *map(_part, rest)]}
    return turn | {"content": _content(rest)} if rest or not calls else turn


def _content(parts: tuple[Part, ...]) -> str | list[Json]:
    if all(isinstance(part, TextPart) for part in parts):
        return "".join(part.text for part in parts if isinstance(part, TextPart))
    return [_part(part) for part in parts]


def _part(part: Part) -> Json:
    match part:
        case TextPart(text=text):
            return {"type": "text", "text": text}
        case ImageUrlPart(url=url):
            return {"type": "image_url", "image_url": {"url": url}}
        case ImagePart():
            return {"type": "image_url", "image_url": {"url": part.data_url}}
        case _:
            raise CapabilityError(
                f"Cohere does not accept a {type(part).__name__} here; reasoning and tool calls "
                "belong in an assistant's turn"
            )


def _call(call: ToolCall) -> Json:
    function = {"name": call.name, "arguments": arguments_text(call.arguments)}
    return {"id": call.id, "type": "function", "function": function}


def _result(result: ToolResult) -> str:
    """The content of a tool result; Cohere has no field for an error, so a JSON object has it."""
    if result.is_error:
        return msgspec.json.encode({"error": result.content}).decode()
    return result.content
