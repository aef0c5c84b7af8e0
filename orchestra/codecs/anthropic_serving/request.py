"""Reads the body of a request to Anthropic's Messages API, from our own clients.

The tool results in a user's message become a turn of their own, before the rest of the message.

Rules of the file: every error begins with the field's path, as in `messages[0].role: ...`. Fields
that we do not know become extras for Anthropic, and reach it unchanged. Guarded fields that
`allowed` does not allow are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import attrs
import msgspec

from orchestra.codecs.anthropic.request import BUDGETS
from orchestra.codecs.anthropic_serving.body import (
    MessagesBlock,
    MessagesBody,
    MessagesMessage,
    MessagesSource,
    MessagesTool,
)
from orchestra.codecs.files import handed_in, without_files
from orchestra.codecs.prompt_cache import has_mark, is_marked, with_last_marked, with_marks
from orchestra.codecs.seals import ANTHROPIC, REDACTED, google_seal, opened, sealed
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
    unreadable,
)
from orchestra.codecs.serving.results import called, result_parts, result_turns, turn
from orchestra.values import (
    ChatRequest,
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
    Tool,
    ToolCall,
    ToolChoice,
)

_NOT_HERE = {
    "compaction": "this server does not summarize conversations; ask for a summary in a message, "
    "or leave `compaction` out",
    "container": "this server has no containers, in which a provider runs code; leave it out",
    "mcp_servers": "this server does not connect to MCP servers; connect to them yourself, and "
    "send their tools in `tools`",
}
_THREADLESS = "thread_unsupported_request"
"""The code that makes the tool runners of Anthropic's clients continue without a thread."""
_EFFORT_IF_ADAPTIVE: ReasoningEffort = "high"
"""Anthropic's own default."""
_NO_THOUGHTS = ("disabled", "between_tools")
"""With `between_tools`, Claude reports its progress as thoughts, but does not think either."""
_ROLES = {
    "user": "text, image, document, search_result and tool_result are",
    "system": "text is",
}
_BODIES = msgspec.json.Decoder(MessagesBody)


def served_messages(body: bytes, allowed: Allowlist = USUAL_ALLOWLIST) -> ServedChat:
    """Read the body of a `POST /v1/messages`; `allowed` tells which guarded fields are allowed.

    Raises:
        InvalidRequestError: a field is wrong; the message begins with its path.
    """
    asked, everything = asked_of(_BODIES, body)
    refuse_fields(asked, _NOT_HERE)
    if asked.thread:
        why = "conversations are not stored at a provider; leave it out, and send all messages"
        raise refused("thread", why, _THREADLESS)
    request = _request(asked, _extras(asked, everything, allowed), allowed)
    if asked.cache_control is not None:
        request = with_last_marked(request) if is_marked(request) else with_marks(request)
    return ServedChat(asked.model, request, stream=bool(asked.stream))


def _extras(asked: MessagesBody, everything: Json, allowed: Allowlist) -> dict[str, Json]:
    found = extras_of(asked, everything, allowed, lambda _: ANTHROPIC)
    if asked.metadata is not None and asked.metadata.user_id is not None:
        found.setdefault(ANTHROPIC, {})["metadata"] = {"user_id": asked.metadata.user_id}
    if asked.thinking is not None and asked.thinking.display is not None:
        found.setdefault(ANTHROPIC, {})["thinking"] = {"display": asked.thinking.display}
    return found


def _request(asked: MessagesBody, extras: dict[str, Json], allowed: Allowlist) -> ChatRequest:
    choice = asked.tool_choice
    single = choice.disable_parallel_tool_use if choice is not None else None
    effort = _effort(asked)
    required = asked.thinking is not None and asked.thinking.type == "enabled"
    budget = asked.thinking.budget_tokens if asked.thinking is not None and required else None
    return ChatRequest(
        messages=(*_system(asked.system), *_messages(asked.messages, allowed)),
        temperature=asked.temperature,
        output_tokens_max=asked.max_tokens,
        stop=tuple(asked.stop_sequences or ()),
        top_p=asked.top_p,
        top_k=asked.top_k,
        reasoning_effort=effort,
        effort_if_able=effort is not None and not required,
        reasoning_tokens_max=budget,
        tools=tuple(_tools(asked.tools or ())),
        tool_choice=_choice(asked),
        parallel_tool_calls=None if single is None else not single,
        output=_output(asked),
        extras=extras,
    )


def _effort(asked: MessagesBody) -> ReasoningEffort | None:
    """The reasoning effort; a budget becomes the least effort with as many tokens.

    Models that take no budget use this effort. Adaptive thinking and an effort are only wishes:
    coding agents send them to every model.
    """
    thinking = asked.thinking
    effort = asked.output_config.effort if asked.output_config else None
    if thinking is not None and thinking.type in _NO_THOUGHTS:
        return "none"
    if effort is not None:
        return effort
    if thinking is None:
        return None
    if thinking.budget_tokens is None:
        return _EFFORT_IF_ADAPTIVE
    enough = (each for each, most in BUDGETS.items() if thinking.budget_tokens <= most)
    return next(enough, "max")


def _choice(asked: MessagesBody) -> ToolChoice | None:
    choice = asked.tool_choice
    if choice is None:
        return None
    match choice.type:
        case "any":
            return "required"
        case "tool":
            if choice.name is None:
                raise refused("tool_choice.name", "it is missing; name the tool to be called")
            return ForcedTool(choice.name)
        case _:
            return choice.type


def _output(asked: MessagesBody) -> JsonOutput | None:
    config = asked.output_config
    wanted = config.format if config is not None and config.format else asked.output_format
    return None if wanted is None else JsonOutput(wanted.schema)


def _tools(tools: Iterable[MessagesTool]) -> Iterator[Tool]:
    for at, tool in enumerate(tools):
        where = f"tools[{at}]"
        if tool.type not in (None, "custom"):
            why = (
                f"{str(tool.type)[:100]!r} is a tool that Anthropic defines or runs; send one of "
                "your own, with name, description and input_schema"
            )
            raise refused(f"{where}.type", why)
        if not tool.name:
            raise refused(f"{where}.name", "it is missing")
        if tool.input_schema is None:
            why = "it is missing; send the JSON Schema of the tool's input"
            raise refused(f"{where}.input_schema", why)
        check_callers(tool.allowed_callers, where)
        yield Tool(
            tool.name,
            tool.description or "",
            tool.input_schema,
            strict=bool(tool.strict),
            prompt_cache=tool.cache_control is not None,
        )


def _system(system: str | list[MessagesBlock] | None) -> Iterator[Message]:
    if system:
        yield _system_message(system, "system")


def _system_message(content: str | list[MessagesBlock], where: str) -> Message:
    """The texts as one, each a paragraph; as parts if one has a mark for the prompt cache."""
    if isinstance(content, str):
        return Message("system", content)
    texts = [_text(each, f"{where}[{at}]") for at, each in enumerate(content)]
    if not any(map(has_mark, texts)):
        return Message("system", "\n\n".join(each.text for each in texts))
    apart = [attrs.evolve(each, text=f"{each.text}\n\n") for each in texts[:-1]]
    return Message("system", (*apart, *texts[-1:]))


def _text(block: MessagesBlock, where: str) -> TextPart:
    if block.type != "text" or block.text is None:
        raise _unreadable(block, where, "system")
    return TextPart(block.text, prompt_cache=block.cache_control is not None)


def _messages(messages: Sequence[MessagesMessage], allowed: Allowlist) -> Iterator[Message]:
    names: dict[str, str] = {}
    last = max((at for at, each in enumerate(messages) if each.role == "user"), default=-1)
    for at, message in enumerate(messages):
        where, content = f"messages[{at}]", message.content or ""
        if message.content == [] and message.role == "user":
            raise refused(f"{where}.content", EMPTY)
        if message.output_config:
            why = "only the whole request has one; send it beside `messages`"
            raise refused(f"{where}.output_config", why)
        if message.clear_at == "next_user_message" and at < last:
            continue
        if isinstance(content, str):
            yield Message(message.role, content)
        elif message.role == "system":
            yield _system_message(content, f"{where}.content")
        elif message.role == "assistant":
            parts = tuple(
                _assistant_part(each, f"{where}.content[{i}]") for i, each in enumerate(content)
            )
            names |= {each.id: each.name for each in parts if isinstance(each, ToolCall)}
            yield turn("assistant", parts)
        else:
            yield from _user(content, f"{where}.content", names, allowed)


def _user(
    blocks: Sequence[MessagesBlock], where: str, names: dict[str, str], allowed: Allowlist
) -> Iterator[Message]:
    """The turns for a user's message: the tool results, then their images and the user's parts."""
    results, rest = list[Part](), list[Part]()
    for at, block in enumerate(blocks):
        here = f"{where}[{at}]"
        if block.type == "tool_result":
            results += _result(block, here, names, allowed)
        else:
            rest += _shown(block, here, allowed)
    yield from result_turns((*results, *rest))


def _result(
    block: MessagesBlock, where: str, names: dict[str, str], allowed: Allowlist
) -> tuple[Part, ...]:
    call = called(block.tool_use_id, names, f"{where}.tool_use_id")
    content, parts = block.content or "", list[Part]()
    if not isinstance(content, str):
        for at, each in enumerate(content):
            shown = _shown(each, f"{where}.content[{at}]", allowed)
            as_text = each.type == "search_result" and not _to_cite(each)
            parts += without_files(tuple(shown), "a tool's result") if as_text else shown
    given = content if isinstance(content, str) else parts
    marked = block.cache_control is not None
    return result_parts(*call, given, is_error=bool(block.is_error), marked=marked)


def _shown(block: MessagesBlock, where: str, allowed: Allowlist) -> list[Part]:
    """The parts for a block of a user's message or of a tool result."""
    source = block.source
    match block.type:
        case "text" if block.text is not None:
            return [_text(block, where)]
        case "image" if isinstance(source, MessagesSource):
            changes = block.transformations
            if changes is not None and changes.oversized_image == "error":
                why = "this server does not measure images; leave it out"
                raise refused(f"{where}.transformations.oversized_image", why)
            return [_kept(_image(source, f"{where}.source", allowed), block)]
        case "document" if isinstance(source, MessagesSource):
            context = [TextPart(block.context)] if block.context else []
            document = _document(source, block.title or "", f"{where}.source")
            return [*context, _kept(_citable(document, block), block)]
        case "search_result" if block.title is not None and isinstance(source, str):
            return [_kept(_citable(_search_result(block, where), block), block)]
        case "tool_reference" if block.tool_name is not None:
            found = f"The tool {block.tool_name!r} can be called now.\n"
            return [TextPart(found, prompt_cache=block.cache_control is not None)]
        case _:
            raise _unreadable(block, where, "user")


def _to_cite(block: MessagesBlock) -> bool:
    return isinstance(block.citations, dict) and bool(block.citations.get("enabled"))


def _citable(part: FilePart, block: MessagesBlock) -> FilePart:
    """The part, with `citations` if its block asks for them."""
    return attrs.evolve(part, citations=True) if _to_cite(block) else part


def _search_result(block: MessagesBlock, where: str) -> FilePart:
    """A search result, as a document with its title and its source as the name."""
    source = str(block.source)
    texts = _texts(block.content, f"{where}.content")
    return _in_pieces(texts, f"{block.title} ({source})", source)


def _texts(content: str | list[MessagesBlock] | None, where: str) -> tuple[str, ...]:
    """The texts of a document that is cited block by block."""
    blocks = [] if isinstance(content, str) else content or []
    texts = [_text(each, f"{where}[{at}]").text for at, each in enumerate(blocks)]
    found = (content,) if isinstance(content, str) else tuple(texts)
    if not any(found):
        raise refused(where, "it has no text; send a text, or a list of text blocks")
    return found


def _in_pieces(texts: tuple[str, ...], name: str, source: str = "") -> FilePart:
    data = "\n\n".join(texts).encode(errors="replace")
    return FilePart(data, "text/plain", name, passages=texts, source=source)


def _kept(part: ImagePart | ImageUrlPart | FilePart, block: MessagesBlock) -> Part:
    """The part, with a mark for the prompt cache if its block has one."""
    return attrs.evolve(part, prompt_cache=block.cache_control is not None)


def _image(source: MessagesSource, where: str, allowed: Allowlist) -> ImagePart | ImageUrlPart:
    if source.type == "url" and source.url is not None:
        return image_part(source.url, None, f"{where}.url", allowed)
    if source.type == "base64" and source.data is not None:
        url = f"data:{source.media_type or 'image/png'};base64,{source.data}"
        return image_part(url, None, f"{where}.data", allowed)
    raise unreadable("an image of source type", source.type, where, "base64 and url are")


def _document(source: MessagesSource, name: str, where: str) -> FilePart:
    if source.type == "content":
        return _in_pieces(_texts(source.content, f"{where}.content"), name)
    if source.data is None or source.type not in ("text", "base64"):
        why = (
            f"a document of source type {source.type[:100]!r} cannot be read here, or lacks a "
            "field: files are neither stored nor fetched; send the document itself, as base64, "
            "text or content"
        )
        raise refused(f"{where}.type", why)
    if source.type == "text":
        return FilePart(source.data.encode(errors="replace"), "text/plain", name)
    try:
        kind = source.media_type or "application/pdf"
        return handed_in(f"data:{kind};base64,{source.data}", name)
    except ValueError as error:
        raise refused(f"{where}.data", str(error)) from error


def _assistant_part(block: MessagesBlock, where: str) -> Part:
    """The part for a block of an assistant's message: a thought, a text or a tool call."""
    match block.type:
        case "text" if block.text is not None:
            return _text(block, where)
        case "thinking" if block.thinking is not None:
            return ReasoningPart(block.thinking, _seal(block.signature or ""))
        case "redacted_thinking" if block.data is not None:
            return ReasoningPart("", sealed(REDACTED, block.data))
        case "tool_use" if block.id is not None and block.name is not None:
            arguments = msgspec.json.encode(block.input or {}).decode()
            return ToolCall(block.id, block.name, arguments, google_seal(block.extra_content))
        case _:
            raise _unreadable(block, where, "assistant")


def _seal(signature: str) -> str:
    """A client's seal with its origin; a seal without one is Anthropic's own."""
    return signature if opened(signature)[0] else sealed(ANTHROPIC, signature)


def _unreadable(block: MessagesBlock, where: str, role: str) -> Exception:
    known = _ROLES.get(role, "text, thinking, redacted_thinking and tool_use are")
    return unreadable("a block of type", block.type, where, known)
