"""The bodies of Bedrock's Converse, from our requests.

Converse has no tool choice "none", so the tools are left out instead. But Converse requires them
if the conversation contains tool calls or results, so this combination cannot be expressed. Options
of single model families go into `additionalModelRequestFields`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import attrs
import msgspec

from orchestra.codecs.bedrock.efforts import CLAUDE, effort_fields
from orchestra.codecs.bedrock.extra_fields import EXTRAS, extra_field, unknown_field
from orchestra.codecs.data_urls import with_bytes
from orchestra.codecs.dialect import refuse, refuse_system_files
from orchestra.codecs.enforced_schema import enforced, enforced_output
from orchestra.codecs.files import PDF, refuse_citations, text_of, title_of, unread
from orchestra.codecs.prompt_cache import has_mark
from orchestra.codecs.raw_json import merged, without_nulls
from orchestra.codecs.seals import ANTHROPIC, REDACTED, opened, own
from orchestra.codecs.tool_calls import arguments_object, call_id, told_apart
from orchestra.codecs.turns import alternating
from orchestra.errors import CapabilityError
from orchestra.values import (
    ChatRequest,
    FilePart,
    ForcedTool,
    ImagePart,
    ImageUrlPart,
    Json,
    JsonOutput,
    Part,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCall,
    ToolResult,
)

_IMAGE_FORMATS = frozenset(("png", "jpeg", "gif", "webp"))
_OFFICE = "application/vnd.openxmlformats-officedocument."
_FILE_FORMATS: Mapping[str, str] = {
    PDF: "pdf",
    "text/csv": "csv",
    "text/html": "html",
    "text/markdown": "md",
    "application/msword": "doc",
    f"{_OFFICE}wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    f"{_OFFICE}spreadsheetml.sheet": "xlsx",
}
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9()\[\]-]+")
_NAME_CHARS = 180
"""The most characters of a file's name: Converse allows 200; the rest is for a number."""
_TOP_K: tuple[tuple[str, tuple[str, ...]], ...] = (
    (CLAUDE, ("top_k",)),
    ("amazon.nova", ("inferenceConfig", "topK")),
    ("cohere.", ("k",)),
    ("mistral.", ("top_k",)),
)
"""The path of a family's `top_k` in `additionalModelRequestFields`."""
_CACHING = (CLAUDE, "amazon.nova", ":application-inference-profile/")
"""Families with a prompt cache; others refuse cache marks. A profile does not show its family."""
_HIDDEN = re.compile(r":(?:application-inference-profile|provisioned-model|custom-model)[\w-]*/")
"""Part of ARNs that do not show the model's family."""
_CACHE_POINT: Json = {"cachePoint": {"type": "default"}}
_CALL_IDS = r"[a-zA-Z0-9_.:-]{1,64}"
"""Tool call ids that Converse accepts; others are replaced."""
_CLAUDES_CALL_IDS = r"[a-zA-Z0-9_-]{1,64}"


@attrs.frozen
class _Family:
    """The differences between requests to model families."""

    caches: bool
    """The family accepts marks for the prompt cache."""
    caches_tools: bool
    """The family accepts these marks after tools, too."""
    may_be_claude: bool
    """Only Claude accepts thoughts with Claude's seals, and cites files."""
    call_ids: str

    @classmethod
    def of(cls, model: str) -> _Family:
        """The family of a model id."""
        claude = CLAUDE in model
        return cls(
            caches=any(family in model for family in _CACHING),
            caches_tools=claude,
            may_be_claude=claude or _HIDDEN.search(model) is not None,
            call_ids=_CLAUDES_CALL_IDS if claude else _CALL_IDS,
        )


def converse_body(model: str, request: ChatRequest) -> Json:
    """The body of a Converse call; the extras of `bedrock` are merged into it.

    Reasoning is sent back only with its signature. Empty text is left out, as Converse refuses it.

    Raises:
        CapabilityError: Converse cannot express something in the request.
    """
    refuse(request, "Converse", "seed", "presence_penalty", "frequency_penalty", "logprobs")
    body = chat_body(request, model)
    effort = effort_fields(model, request, hidden=_HIDDEN.search(model) is not None)
    for part in (_top_k(model, request), effort, _output(request.output)):
        body = merged(body, part)
    return merged(body, request.extras.get(EXTRAS, {}))


def chat_body(request: ChatRequest, model: str) -> Json:
    """The common part of bodies for Converse and for Nova's models.

    Raises:
        CapabilityError: neither can express something in the request.
    """
    refuse_system_files(request, "Bedrock")
    family = _Family.of(model)
    body: Json = {
        "messages": list(_turns(request, family)),
        "system": list(_system(request, family)),
        "inferenceConfig": _inference_config(request),
        "toolConfig": _tool_config(request, family),
    }
    return {name: value for name, value in body.items() if value or name == "messages"}


def system_texts(request: ChatRequest) -> list[str]:
    """The texts of the system messages, from anywhere in the conversation, without empty ones.

    Raises:
        CapabilityError: a system message has an image or a file.
    """
    refuse_system_files(request, "Bedrock")
    texts = (each.text for each in request.messages if each.role == "system")
    return [text for text in texts if text.strip()]


def _inference_config(request: ChatRequest) -> Json:
    return without_nulls(
        {
            "maxTokens": request.output_tokens_max,
            "temperature": request.temperature,
            "topP": request.top_p,
            "stopSequences": list(request.stop) or None,
        }
    )


def _system(request: ChatRequest, family: _Family) -> Iterator[Json]:
    for message in request.messages:
        if message.role == "system" and message.text.strip():
            yield {"text": message.text}
            if family.caches and any(map(has_mark, message.parts)):
                yield _CACHE_POINT


def _turns(request: ChatRequest, family: _Family) -> Iterator[Json]:
    """The conversation with alternating roles; tool results come first in the user's turn."""
    turns = alternating(
        (each.role, _blocks_with_marks(each.parts, family))
        for each in told_apart(request.messages)
        if each.role != "system"
    )
    _name_apart(block["document"] for _, turn in turns for block in turn if "document" in block)
    for role, turn in turns:
        yield {"role": role, "content": sorted(turn, key=lambda block: "toolResult" not in block)}


def _blocks_with_marks(parts: tuple[Part, ...], family: _Family) -> Iterator[Json]:
    """The blocks of these parts; after a part with a mark for the prompt cache, there is a mark."""
    for part in parts:
        blocks = list(_blocks(part, family))
        yield from blocks
        if family.caches and blocks and has_mark(part):
            yield _CACHE_POINT


def _blocks(part: Part, family: _Family) -> Iterator[Json]:
    match part:
        case TextPart(text=text):
            if text.strip():
                yield {"text": text}
        case ImagePart() | ImageUrlPart():
            yield {"image": _image(with_bytes(part))}
        case FilePart():
            yield _file(part, family)
        case ReasoningPart(text=text, signature=signature):
            yield from _thought(text, signature, family)
        case ToolCall(id=id_, name=name, arguments=arguments):
            used = {"toolUseId": call_id(id_, family.call_ids), "name": name}
            yield {"toolUse": used | {"input": arguments_object(arguments)}}
        case ToolResult(call_id=id_, content=content, is_error=is_error):
            texts = [{"text": content}] if content.strip() else []
            # Only some families accept a status, so the usual one is left out.
            status = {"status": "error"} if is_error else {}
            used = {"toolUseId": call_id(id_, family.call_ids)}
            yield {"toolResult": {**used, "content": texts, **status}}


def _thought(text: str, signature: str, family: _Family) -> Iterator[Json]:
    """The block of a thought; none if the family does not accept its seal, or it has none."""
    origin, seal = opened(signature)
    if origin and not family.may_be_claude:
        return
    if origin == REDACTED:
        yield {"reasoningContent": {"redactedContent": seal}}
    elif seal := own(signature, ANTHROPIC):
        yield {"reasoningContent": {"reasoningText": {"text": text, "signature": seal}}}


def _image(part: ImagePart | ImageUrlPart) -> Json:
    if isinstance(part, ImagePart):
        kind = part.media_type.removeprefix("image/")
        source: Json = {"bytes": part.base64}
    else:
        kind = part.url.rpartition(".")[2].lower().replace("jpg", "jpeg")
        source = {"s3Location": {"uri": part.url}}
        if not part.url.startswith("s3://"):
            raise CapabilityError(
                f"Bedrock does not fetch {part.url[:200]!r}: send the image itself, or an s3:// "
                "address"
            )
    if kind not in _IMAGE_FORMATS:
        raise CapabilityError(
            f"Bedrock does not accept images of the format {kind!r}, only {sorted(_IMAGE_FORMATS)}"
        )
    return {"format": kind, "source": source}


def _file(file: FilePart, family: _Family) -> Json:
    """The block of a file; a search result, if it was found by a search and is to be cited."""
    if not file.citations:
        return {"document": _document(file)}
    if not family.may_be_claude:
        refuse_citations(file, "Bedrock, with another model than Claude,")
    cited: Json = {"citations": {"enabled": True}}
    pieces = [{"text": text} for text in file.passages or ((text_of(file),) if file.source else ())]
    if file.source:
        found = {"source": file.source, "title": title_of(file), "content": pieces}
        return {"searchResult": found | cited}
    document = _document(file) | cited
    return {"document": document | ({"source": {"content": pieces}} if pieces else {})}


def _document(file: FilePart) -> Json:
    kind = _FILE_FORMATS.get(file.media_type) or ("txt" if file.is_text else None)
    if kind is None:
        raise unread(file, "Bedrock")
    stem, dot, ending = file.name.rpartition(".")
    name = _NOT_IN_NAMES.sub(" ", stem if dot else ending).strip()[:_NAME_CHARS]
    return {"format": kind, "name": name.strip() or "document", "source": {"bytes": file.base64}}


def _name_apart(documents: Iterable[Json]) -> None:
    """Add numbers to equal names of documents, which Converse refuses."""
    taken = set[str]()
    for document in documents:
        name, number = document["name"], len(taken) + 1
        while document["name"].lower() in taken:
            document["name"] = f"{name} ({number})"
            number += 1
        taken.add(document["name"].lower())


def _tool_config(request: ChatRequest, family: _Family) -> Json | None:
    if not request.tools or request.tool_choice == "none":
        _refuse_lost_tools(request)
        return None
    refuse(request, "Converse", "parallel_tool_calls")
    tools = list[Json]()
    for tool in request.tools:
        tools.append({"toolSpec": _tool(tool)})
        if family.caches_tools and has_mark(tool):
            tools.append(_CACHE_POINT)
    choice: Json | None = None
    match request.tool_choice:
        case "auto":
            choice = {"auto": {}}
        case "required":
            choice = {"any": {}}
        case ForcedTool(name=name):
            choice = {"tool": {"name": name}}
    return {"tools": tools, **({"toolChoice": choice} if choice else {})}


def _tool(tool: Tool) -> Json:
    schema = enforced(tool.parameters) if tool.strict else tool.parameters
    return {
        "name": tool.name,
        **({"description": tool.description} if tool.description else {}),
        "inputSchema": {"json": schema},
        **({"strict": True} if tool.strict else {}),
    }


def _refuse_lost_tools(request: ChatRequest) -> None:
    used = any(
        isinstance(part, ToolCall | ToolResult)
        for message in request.messages
        for part in message.parts
    )
    if used and request.tool_choice == "none":
        raise CapabilityError(
            "Converse has no tool choice 'none', and requires the tools of a conversation with "
            "tool calls: leave tool_choice out, or send the conversation without its tool calls"
        )


def _output(output: JsonOutput | None) -> Json:
    if output is None:
        return {}
    text = msgspec.json.encode(enforced_output(output, "Bedrock")).decode()
    schema = {"name": output.name, "schema": text}
    text_format = {"type": "json_schema", "structure": {"jsonSchema": schema}}
    return {"outputConfig": {"textFormat": text_format}}


def _top_k(model: str, request: ChatRequest) -> Json:
    if request.top_k is None:
        return {}
    for family, path in _TOP_K:
        if family in model:
            return extra_field(path, request.top_k)
    raise unknown_field(model, f"top_k={request.top_k}")
