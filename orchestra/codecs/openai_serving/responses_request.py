"""Reads the body of a request to OpenAI's responses API, from our own clients, as a `ChatRequest`.

A conversation is a list of items. It may continue a stored response (`previous_response_id`), or
refer to stored items by their ids; the caller looks them up and passes them to `served_response`.

Rules of the file: extras and errors are as in `request`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs
import msgspec

from orchestra.codecs.openai_serving.body import ChatFile
from orchestra.codecs.openai_serving.request import (
    MISSING,
    file_part,
    meant_for,
    refuse_deep,
)
from orchestra.codecs.openai_serving.responses_body import (
    ResponsesBody,
    ResponsesFormat,
    ResponsesItem,
    ResponsesPart,
    ResponsesTool,
)
from orchestra.codecs.seals import google_seal, opened
from orchestra.codecs.serving.allowlist import USUAL_ALLOWLIST, Allowlist
from orchestra.codecs.serving.requests import (
    EMPTY,
    ServedChat,
    asked_of,
    check_callers,
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
    ForcedTool,
    Json,
    JsonOutput,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCall,
)

REFERENCES_MAX = 64
"""The most stored responses that the items of one request may refer to."""
_ITEM_ID = re.compile(r"(?:msg|fc|rs)_([A-Za-z0-9.:-]{1,100})_\d{1,6}")
_LOGPROBS = "message.output_text.logprobs"
_NOT_HERE = {
    "access_programs": "not supported here: API keys decide who may use what; leave it out",
    "background": "not supported here; send POST /v1/pipelines/NAME/runs with "
    "Prefer: respond-async",
    "conversation": "not supported here; use previous_response_id, or send all messages",
    "context_management": "this server does not shorten conversations; leave it out, and send less",
    "prompt": "this server has no stored prompts; write a pipeline for a prompt that is used again",
}
_OF_CHATS = {
    "messages": "send `input`",
    "max_tokens": "send `max_output_tokens`",
    "max_completion_tokens": "send `max_output_tokens`",
    "n": "a response has one answer; leave it out, or send a chat",
    "n_predict": "send `max_output_tokens`",  # as in a chat
    "n_cmpl": "a response has one answer; leave it out, or send a chat",
}
"""Fields that would replace those of the chat request that a provider gets for a response."""
_BODIES = msgspec.json.Decoder(ResponsesBody)
_ECHOED: Json = {
    "instructions": None,
    "max_output_tokens": None,
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
"""The fields of a request that its response repeats, with the values of missing fields."""


@attrs.frozen
class AskedResponse:
    """A request body whose references to stored items are not resolved yet.

    `stores` tells whether this server stores responses.
    """

    body: ResponsesBody
    everything: Json
    stores: bool = True

    @property
    def kept(self) -> bool:
        """Whether the answer is to be stored: by default it is, as at OpenAI."""
        return self.stores and self.body.store is not False

    def items(self) -> list[Json]:
        """The items of its input, unchanged."""
        given = self.everything["input"]
        return [{"role": "user", "content": given}] if isinstance(given, str) else given

    def referred(self) -> list[str]:
        """The ids of the stored responses that its item references belong to.

        Raises:
            InvalidRequestError: there are too many ids, or a reference is not the id of an item.
        """
        found: dict[str, None] = {}
        for at, item in enumerate(self.items()):
            if item.get("type") == "item_reference":
                found[_response_of(str(item.get("id")), f"input[{at}].id")] = None
        if len(found) > REFERENCES_MAX:
            why = f"it references items of {len(found)} responses; the limit is {REFERENCES_MAX}"
            raise refused("input", why)
        return list(found)

    def resolved(self, outputs: Mapping[str, Sequence[Json]]) -> list[Json]:
        """The items, with references replaced by stored items; `outputs` has these by response id.

        Each item may be referenced once, as at OpenAI: a reference is short and its item may be
        long, so repeated references could turn a small request into gigabytes.

        Raises:
            InvalidRequestError: a referenced item is not stored, or is referenced twice.
        """
        stored = {each.get("id"): each for kept in outputs.values() for each in kept}
        found, before = list[Json](), set[str]()
        for at, item in enumerate(self.items()):
            if item.get("type") == "item_reference":
                id_ = str(item.get("id"))
                if id_ in before:
                    why = f"the item {id_[:100]!r} is referenced twice; reference it once"
                    raise refused(f"input[{at}].id", why)
                before.add(id_)
                if (named := stored.get(id_)) is None:
                    why = (
                        f"no item {id_[:100]!r} is stored; if `store` was false, send the item "
                        "itself"
                    )
                    raise refused(f"input[{at}].id", why)
                item = named  # noqa: PLW2901 - replaces the reference
            found.append(item)
        return found

    def echo(self) -> Json:
        """The fields of the request that the response repeats."""
        fields: Json = dict(_ECHOED)
        fields |= {key: value for key in fields if (value := self.everything.get(key)) is not None}
        tools = [{"parameters": None, "strict": None, **each} for each in fields["tools"]]
        text = {"format": {"type": "text"}, **fields["text"]}
        return {**fields, "tools": tools, "text": text, "store": self.kept}


def asked_response(body: bytes, *, stores: bool = True) -> AskedResponse:
    """Read the body of a `POST /v1/responses`; `stores` tells whether this server stores responses.

    Raises:
        InvalidRequestError: a field is wrong; the message begins with its path.
    """
    asked, everything = asked_of(_BODIES, body)
    refuse_fields(asked, _NOT_HERE)
    if asked.truncation == "auto":
        why = "this server does not shorten an input that is too long; leave it out"
        raise refused("truncation", why)
    if asked.reasoning is not None and asked.reasoning.mode not in (None, "standard"):
        why = f"{asked.reasoning.mode[:100]!r} is not supported here; leave it out"
        raise refused("reasoning.mode", f"{why}, or ask another model")
    options = everything.get("prompt_cache_options")
    if isinstance(options, dict) and options.get("prewarm"):
        why = "this server answers every request; leave it out"
        raise refused("prompt_cache_options.prewarm", why)
    return AskedResponse(asked, everything, stores)


def served_response(
    asked: AskedResponse, items: Sequence[Json], allowed: Allowlist = USUAL_ALLOWLIST
) -> ServedChat:
    """The request to be answered; `items` is the whole conversation, with its stored part.

    Raises:
        InvalidRequestError: a field is wrong; the message begins with its path.
    """
    body = asked.body
    if asked.kept:
        refuse_deep("input", items, "send `store` as false")
    return ServedChat(
        body.model,
        _request(asked, _read(items), allowed),
        stream=bool(body.stream),
        store=asked.kept,
        metadata=tags_in(body.metadata),
        messages=items if asked.kept else (),
    )


def _read(items: Sequence[Json]) -> list[ResponsesItem]:
    try:
        return msgspec.convert(items, list[ResponsesItem])
    except msgspec.ValidationError as error:  # in items stored by another version
        raise refused("input", str(error)) from error


def _response_of(item: str, where: str) -> str:
    """The id of the response that an item belongs to."""
    found = _ITEM_ID.fullmatch(item)
    if found is None:
        why = f"{item[:100]!r} is not the id of an item of a response of this server"
        raise refused(where, why)
    return f"resp_{found[1]}"


def _request(asked: AskedResponse, items: list[ResponsesItem], allowed: Allowlist) -> ChatRequest:
    body, wanted = asked.body, asked.body.text
    everything = asked.everything
    if wanted is not None and wanted.verbosity is not None:
        everything = {**everything, "verbosity": wanted.verbosity}
    first = [Message("system", body.instructions)] if body.instructions else []
    likely = body.top_logprobs is not None or _LOGPROBS in (body.include or ())
    return ChatRequest(
        messages=(*first, *joined(_messages(items, allowed), "assistant", "tool")),
        temperature=body.temperature,
        output_tokens_max=body.max_output_tokens,
        top_p=body.top_p,
        reasoning_effort=body.reasoning.effort if body.reasoning else None,
        tools=tuple(_tools(body.tools or ())),
        tool_choice=body.tool_choice
        if body.tool_choice is None or isinstance(body.tool_choice, str)
        else ForcedTool(body.tool_choice.name),
        parallel_tool_calls=body.parallel_tool_calls,
        output=_output(wanted.format if wanted else None),
        extras=extras_of(body, everything, allowed, meant_for, _OF_CHATS),
        logprobs=(body.top_logprobs or 0) if likely else None,
    )


def _messages(items: Iterable[ResponsesItem], allowed: Allowlist) -> Iterator[Message]:
    """One message for each item."""
    names: dict[str, str] = {}
    for at, item in enumerate(items):
        where = f"input[{at}]"
        match item.type:
            case "message":
                yield _message(item, where, allowed)
            case "function_call":
                call = _call(item, where)
                names[call.id] = call.name
                yield Message("assistant", (call,))
            case "function_call_output":
                yield Message("tool", _result(item, where, names, allowed))
            case "reasoning":
                thoughts = [*(item.summary or ()), *_thoughts(item)]
                text, seal = "".join(each.text or "" for each in thoughts), _seal(item)
                if text or seal:
                    yield Message("assistant", (ReasoningPart(text, seal),))
            case _:
                why = (
                    f"an item of type {item.type[:100]!r} cannot be read here; message, "
                    "function_call, function_call_output, reasoning and item_reference are known"
                )
                raise refused(f"{where}.type", why)


def _message(item: ResponsesItem, where: str, allowed: Allowlist) -> Message:
    if item.role is None:
        raise refused(f"{where}.role", "it is missing: system, developer, user or assistant")
    if item.content is None:
        raise refused(f"{where}.content", MISSING)
    if not item.content and item.content != "" and item.role != "assistant":
        raise refused(f"{where}.content", EMPTY)
    role, content = "system" if item.role == "developer" else item.role, item.content
    if isinstance(content, str):
        return Message(role, content)
    shown = allowed if role == "user" else None
    parts = tuple(_part(each, f"{where}.content[{at}]", shown) for at, each in enumerate(content))
    message = Message(role, parts)
    return Message(role, message.text) if role == "system" else message


def _part(part: ResponsesPart, where: str, allowed: Allowlist | None) -> Part:
    match part.type:
        case "input_text" | "output_text" | "text" if part.text is not None:
            return TextPart(part.text)
        case "refusal" if part.refusal is not None:
            return TextPart(part.refusal)
        case "input_image" if part.image_url is not None and allowed is not None:
            return image_part(part.image_url, part.detail, f"{where}.image_url", allowed)
        case "input_file" if allowed is not None:
            if part.file_url is not None:
                why = "files are not fetched; send the file itself, as file_data"
                raise refused(f"{where}.file_url", why)
            return file_part(ChatFile(part.file_data, part.filename, part.file_id), where)
    seen = "input_text, input_image with an image_url and input_file with file_data are"
    known = seen if allowed else "text is"
    raise unreadable("a part of type", part.type, where, known)


def _thoughts(item: ResponsesItem) -> Iterable[ResponsesPart]:
    return item.content if isinstance(item.content, list) else ()


def _seal(item: ResponsesItem) -> str:
    """A provider's seal; "" if it has no origin, since it was not sent by this server."""
    seal = item.encrypted_content or ""
    return seal if opened(seal)[0] else ""


def _call(item: ResponsesItem, where: str) -> ToolCall:
    for field in ("call_id", "name"):
        if not getattr(item, field):
            raise refused(f"{where}.{field}", "it is missing")
    seal = google_seal(item.extra_content)
    return ToolCall(item.call_id or "", item.name or "", item.arguments or "{}", seal)


def _result(
    item: ResponsesItem, where: str, names: Mapping[str, str], allowed: Allowlist
) -> tuple[Part, ...]:
    call, given = called(item.call_id, names, f"{where}.call_id"), item.output
    if given is None:
        raise refused(f"{where}.output", MISSING)
    if isinstance(given, str):
        return result_parts(*call, given)
    parts = [_part(each, f"{where}.output[{at}]", allowed) for at, each in enumerate(given)]
    return result_parts(*call, parts)


def _tools(tools: Sequence[ResponsesTool]) -> Iterator[Tool]:
    """The functions, including those in namespaces; their calls have the namespace as a field."""
    names = {each.name for each in tools if each.type != "namespace"}
    for at, each in enumerate(tools):
        if each.type != "namespace":
            yield _tool(each, f"tools[{at}]")
            continue
        for n, inner in enumerate(each.tools or ()):
            where = f"tools[{at}].tools[{n}]"
            if inner.name in names:
                why = f"there is another tool {inner.name!r}; names must differ in all namespaces"
                raise refused(f"{where}.name", why)
            names.add(inner.name)
            yield _tool(inner, where)


def _tool(tool: ResponsesTool, where: str) -> Tool:
    if tool.type == "custom":
        why = "custom tools are not supported; send a function with one string as its parameter"
        raise refused(f"{where}.type", why)
    if tool.type != "function":
        why = (
            f"{tool.type[:100]!r} is a tool that OpenAI runs itself, which this server does not "
            "have; send functions, or ask a pipeline that has tools of its own"
        )
        raise refused(f"{where}.type", why)
    if not tool.name:
        raise refused(f"{where}.name", "it is missing")
    check_callers(tool.allowed_callers, where)
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return Tool(tool.name, tool.description or "", parameters, strict=bool(tool.strict))


def _output(wanted: ResponsesFormat | None) -> JsonOutput | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return JsonOutput()
    if wanted.schema is None:
        raise refused("text.format.schema", "it is missing, but the type requires it")
    return JsonOutput(wanted.schema, wanted.name, bool(wanted.strict), wanted.description)
