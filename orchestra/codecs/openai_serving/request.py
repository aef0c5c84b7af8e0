"""Reads the body of an OpenAI chat request, from our own clients, as a `ChatRequest`.

Rules of the file: every error begins with the field's path, as in `messages[0].role: ...`. Fields
that we do not know become extras, for all servers with this dialect, or for OpenAI only if others
would refuse them, and reach the server unchanged. Fields that `allowed` does not allow are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import attrs
import msgspec

from orchestra.codecs.files import handed_in
from orchestra.codecs.openai.reasoning_details import kept_details
from orchestra.codecs.openai.request import DIALECT
from orchestra.codecs.openai_serving.body import (
    ChatBody,
    ChatFile,
    ChatForced,
    ChatFormat,
    ChatFunction,
    ChatMessage,
    ChatPart,
    ChatUrl,
)
from orchestra.codecs.prompt_cache import has_mark
from orchestra.codecs.seals import google_seal
from orchestra.codecs.serving.allowlist import USUAL_ALLOWLIST, Allowlist
from orchestra.codecs.serving.requests import (
    EMPTY,
    ServedChat,
    asked_of,
    extras_of,
    image_part,
    refuse_fields,
    refused,
    tags_in,
    unreadable,
)
from orchestra.codecs.serving.results import called, joined, result_parts
from orchestra.values import (
    ChatRequest,
    FilePart,
    ForcedTool,
    Json,
    JsonOutput,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
)

_EXTRAS_FOR = "openai"
STORED_DEPTH_MAX = 200
"""The deepest nesting of stored messages, so that the JSON around them can be read as well."""
_OPENAI_ONLY = frozenset(
    (
        *("user", "service_tier", "safety_identifier", "prompt_cache_key", "audio", "modalities"),
        *("prompt_cache_retention", "prompt_cache_options", "prediction", "web_search_options"),
        *("verbosity", "moderation"),
    )
)
"""Fields that other servers with this dialect do not know, and several refuse."""
MISSING = "it is missing; send a text, or a list of parts"
"""Why a message without content is refused, and a result of a tool without output."""
_ELSEWHERE = {"n_predict": "send `max_tokens`", "n_cmpl": "send `n`"}
"""Names of fields that llama.cpp heeds before the usual ones."""
_OLD = {"functions": "tools", "function_call": "tool_choice"}
_UNSUPPORTED = {
    "audio": "this server stores no audio; send its transcript as `content`",
    "function_call": "it is the old form of `tool_calls`; send `tool_calls`",
}
_BODIES = msgspec.json.Decoder(ChatBody)


def served_chat(
    body: bytes, allowed: Allowlist = USUAL_ALLOWLIST, *, stores: bool = True
) -> ServedChat:
    """Read the body of a `POST /v1/chat/completions`.

    `allowed` tells which guarded fields are allowed. Without `stores`, `store` is ignored.

    Raises:
        InvalidRequestError: a field is wrong; the message begins with its path.
    """
    asked, everything = asked_of(_BODIES, body)
    store = stores and bool(asked.store)
    if store:
        refuse_deep("messages", everything["messages"], "leave out `store`")
    streamed = asked.stream_options and asked.stream_options.include_usage
    return ServedChat(
        asked.model,
        _request(asked, _extras(asked, everything, allowed), allowed),
        stream=bool(asked.stream),
        include_usage=bool(streamed),
        choices=asked.n or 1,
        store=store,
        metadata=tags_in(asked.metadata),
        messages=everything["messages"] if store else (),
    )


def refuse_deep(field: str, value: object, instead: str) -> None:
    """Refuse a field whose value is nested too deeply to be stored; `instead` says what to do.

    Raises:
        InvalidRequestError: lists and objects in it are nested deeper than `STORED_DEPTH_MAX`.
    """
    level = [value]
    for _ in range(STORED_DEPTH_MAX):
        if not level:
            return
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    if any(isinstance(each, dict | list) for each in level):
        why = f"it is nested deeper than {STORED_DEPTH_MAX}, and cannot be stored; {instead}"
        raise refused(field, why)


def _extras(asked: ChatBody, everything: Json, allowed: Allowlist) -> dict[str, Json]:
    """The fields that we do not know, and the options of our own policies."""
    for old, new in _OLD.items():  # a client that sends both knows the new one
        if everything.pop(old, None) is not None and new not in everything:
            raise refused(old, f"it is the old form of {new!r}; send {new!r}")
    return extras_of(asked, everything, allowed, meant_for, _ELSEWHERE)


def meant_for(field: str) -> str:
    """The extras' key for an unknown field: that of OpenAI alone, or that of the whole dialect."""
    return _EXTRAS_FOR if field in _OPENAI_ONLY else DIALECT


def _request(asked: ChatBody, extras: Mapping[str, Json], allowed: Allowlist) -> ChatRequest:
    stop = asked.stop or ()
    limit = asked.max_completion_tokens
    return ChatRequest(
        messages=tuple(joined(_messages(asked.messages, allowed), "tool")),
        temperature=asked.temperature,
        output_tokens_max=limit if limit is not None else asked.max_tokens,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        seed=asked.seed,
        top_p=asked.top_p,
        top_k=asked.top_k,
        presence_penalty=asked.presence_penalty,
        frequency_penalty=asked.frequency_penalty,
        reasoning_effort=asked.reasoning_effort,
        tools=tuple(_tool(each.function) for each in asked.tools or ()),
        tool_choice=_choice(asked.tool_choice),
        parallel_tool_calls=asked.parallel_tool_calls,
        output=_output(asked.response_format),
        extras=extras,
        logprobs=_logprobs(asked),
    )


def _logprobs(asked: ChatBody) -> int | None:
    if asked.logprobs:
        return asked.top_logprobs or 0
    if asked.top_logprobs:
        raise refused("top_logprobs", "it requires `logprobs`; send `logprobs` as true")
    return None


def _messages(messages: list[ChatMessage], allowed: Allowlist) -> Iterator[Message]:
    names: dict[str, str] = {}
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if message.tool_calls and message.role != "assistant":
            raise refused(
                f"{where}.tool_calls",
                f"the role {message.role!r} cannot have tool calls, only an assistant's message",
            )
        for call in message.tool_calls or ():
            names[call.id] = call.function.name
        match message.role:
            case "tool":
                yield _result(message, where, names, allowed)
            case "assistant":
                yield attrs.evolve(_assistant(message, where), name=message.name)
            case "system" | "developer":
                system = Message("system", _content(message, where), message.name)
                marks = any(map(has_mark, system.parts))
                yield system if marks else attrs.evolve(system, content=system.text)
            case _:
                yield Message("user", _content(message, where, allowed), message.name)


def _result(
    message: ChatMessage, where: str, names: Mapping[str, str], allowed: Allowlist
) -> Message:
    call = called(message.tool_call_id, names, f"{where}.tool_call_id")
    return Message("tool", result_parts(*call, _content(message, where, allowed)))


def _assistant(message: ChatMessage, where: str) -> Message:
    refuse_fields(message, _UNSUPPORTED, where)
    content = _content(message, where) or message.refusal or ""
    thought = message.reasoning_content or message.reasoning or ""
    seal = kept_details(message.reasoning_details)
    if not message.tool_calls and not (thought or seal):
        return Message("assistant", content)
    calls = tuple(
        ToolCall(
            call.id, call.function.name, call.function.arguments, google_seal(call.extra_content)
        )
        for call in message.tool_calls or ()
    )
    thoughts = (ReasoningPart(thought, seal),) if thought or seal else ()
    return Message("assistant", (*thoughts, *Message("assistant", content).parts, *calls))


def _content(
    message: ChatMessage, where: str, allowed: Allowlist | None = None
) -> str | tuple[Part, ...]:
    """The content of a message; `allowed` tells which images are allowed, None allows only text."""
    content, kept = message.content, message.cache_control is not None
    if content in (None, []) and message.role != "assistant":
        raise refused(f"{where}.content", MISSING if content is None else EMPTY)
    if content is None or isinstance(content, str):
        return (TextPart(content, prompt_cache=True),) if content and kept else content or ""
    parts = [
        _part(part, f"{where}.content[{index}]", allowed) for index, part in enumerate(content)
    ]
    if kept and parts and isinstance(parts[-1], TextPart):
        parts[-1] = attrs.evolve(parts[-1], prompt_cache=True)
    return tuple(parts)


def _part(part: ChatPart, where: str, allowed: Allowlist | None) -> Part:
    if part.type == "text" and part.text is not None:
        return TextPart(part.text, prompt_cache=part.cache_control is not None)
    if part.type == "refusal" and part.refusal is not None:
        return TextPart(part.refusal)
    if part.type == "image_url" and part.image_url is not None and allowed is not None:
        image = part.image_url if isinstance(part.image_url, ChatUrl) else ChatUrl(part.image_url)
        return image_part(image.url, image.detail, f"{where}.image_url", allowed)
    if part.type == "file" and part.file is not None and allowed is not None:
        return file_part(part.file, f"{where}.file")
    known = "text, image_url and file are" if allowed else "text is"
    raise unreadable("a part of type", part.type, where, known)


def file_part(file: ChatFile, where: str) -> FilePart:
    """The file inside a request.

    Raises:
        InvalidRequestError: the file is missing, is only given by an id, or cannot be read.
    """
    if file.file_id is not None:
        why = "this server stores no files; send the file itself, as file_data"
        raise refused(f"{where}.file_id", why)
    if file.file_data is None:
        why = "it is missing; send the file itself, as data:application/pdf;base64,..."
        raise refused(f"{where}.file_data", why)
    try:
        return handed_in(file.file_data, file.filename or "")
    except ValueError as error:
        raise refused(f"{where}.file_data", str(error)) from error


def _tool(function: ChatFunction) -> Tool:
    parameters = function.parameters
    if parameters is None:
        parameters = {"type": "object", "properties": {}}
    return Tool(function.name, function.description or "", parameters, strict=bool(function.strict))


def _choice(choice: Literal["auto", "none", "required"] | ChatForced | None) -> ToolChoice | None:
    return ForcedTool(choice.function.name) if isinstance(choice, ChatForced) else choice


def _output(wanted: ChatFormat | None) -> JsonOutput | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return JsonOutput()
    schema = wanted.json_schema
    if schema is None:
        raise refused("response_format.json_schema", "it is missing, but the type requires it")
    return JsonOutput(schema.schema, schema.name, bool(schema.strict), schema.description)
