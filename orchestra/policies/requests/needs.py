"""The abilities and the room that a request needs, and what a model lacks for it. Pure.

Rules of the file: an ability that is not known to be missing never counts as missing; tokens are
estimated, since no provider has counted them yet.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import msgspec

from orchestra.errors import CapabilityError
from orchestra.policies.requests.file_tokens import file_tokens
from orchestra.policies.requests.tokens import text_bytes
from orchestra.rankings import AnyRequest, RerankRequest
from orchestra.values import (
    Capabilities,
    ChatRequest,
    EmbedRequest,
    FilePart,
    ImagePart,
    ImageUrlPart,
    Message,
    Part,
    ReasoningPart,
    ToolCall,
    ToolResult,
)

BYTES_PER_TOKEN = 4
"""OpenAI's rule of thumb for English; other languages have fewer bytes per token."""
IMAGE_TOKENS = 1_000
"""About what providers count for an image of a million pixels, whatever its size in bytes."""
PAGE_TOKENS = 1_500 + IMAGE_TOKENS
"""About what Anthropic counts for a page of a file: its text and its image."""
LARGE_PARTS = 2_000
"""Serializing as many messages, parts and tools takes up to 8 ms."""
ABILITIES = ("vision", "files", "tools", "json_schema", "reasoning", "embeddings", "reranking")

_UNREAD = "the model reads no {}: leave the {} out, or ask another model"


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """The needs of a request: abilities, named as in `Capabilities`, and room in tokens.

    `context_tokens` have to fit into the model at once: the prompt with the longest answer
    requested, or the longest text to embed. `input_tokens` are all tokens sent. `output_tokens` is
    the longest answer requested, None if the request does not bound it.
    """

    vision: bool = False
    files: bool = False
    tools: bool = False
    json_schema: bool = False
    reasoning: bool = False
    embeddings: bool = False
    reranking: bool = False
    context_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int | None = None

    @property
    def any_ability(self) -> bool:
        """Whether it needs any ability."""
        made = self.embeddings or self.reranking
        to_read = self.vision or self.files
        return to_read or self.tools or self.json_schema or self.reasoning or made


def needs_of(request: AnyRequest) -> Needs:
    """The needs of a request; tokens are estimated at four bytes each."""
    if isinstance(request, RerankRequest):  # most providers cut texts that are too long
        sizes = [_tokens(text_bytes(text)) for text in request.texts]
        return Needs(reranking=True, input_tokens=sum(sizes), output_tokens=0)
    if isinstance(request, EmbedRequest):
        sizes = [_tokens(text_bytes(text)) for text in request.texts]
        longest = max(sizes, default=0)
        return Needs(
            embeddings=True, context_tokens=longest, input_tokens=sum(sizes), output_tokens=0
        )
    size, images, calls, files = _content_of(request.messages)
    schema = request.output.schema if request.output else None
    if request.tools:
        size += sum(
            text_bytes(f"{tool.name}{tool.description}{tool.parameters}") for tool in request.tools
        )
    if schema is not None:
        size += text_bytes(str(schema))
    prompt = _tokens(size) + images * IMAGE_TOKENS + sum(map(_read, files))
    return Needs(
        vision=images > 0,
        files=not all(file.is_text for file in files),
        tools=bool(request.tools) or calls,
        json_schema=schema is not None,
        reasoning=request.reasoning_effort not in (None, "none") and not request.effort_if_able,
        context_tokens=prompt + (request.output_tokens_max or 0),
        input_tokens=prompt,
        output_tokens=request.output_tokens_max,
    )


def is_large(request: AnyRequest) -> bool:
    """Whether the request has so many parts that serializing it would delay other runs."""
    if not isinstance(request, ChatRequest):  # its texts are serialized as one list
        return False
    several = (each.content for each in request.messages if not isinstance(each.content, str))
    return len(request.messages) + len(request.tools) + sum(map(len, several)) > LARGE_PARTS


def lacks(needs: Needs, can: Capabilities) -> tuple[str, ...]:
    """What a model is known to lack for these needs, in words for errors; empty if nothing."""
    found = []
    if needs.any_ability:
        found = [
            f"no {ability}"
            for ability in ABILITIES
            if getattr(needs, ability) and getattr(can, ability) is False
        ]
    if can.context_tokens is not None and needs.context_tokens > can.context_tokens:
        found.append(f"{can.context_tokens} tokens of context, not about {needs.context_tokens}")
    most, asked = can.output_tokens_max, needs.output_tokens
    if most is not None and asked is not None and asked > most:
        found.append(f"{most} tokens of output, not {asked}")
    return tuple(found)


def fitting(request: ChatRequest, can: Capabilities) -> ChatRequest:
    """The request for a model with these capabilities: without an optional effort it cannot make.

    See `ChatRequest.effort_if_able`.

    Raises:
        CapabilityError: the request has an image or a file that the model is known not to read.
    """
    if can.vision is False or can.files is False:
        _, images, _, files = _content_of(request.messages)
        if images and can.vision is False:
            raise CapabilityError(_UNREAD.format("images", "image"))
        if can.files is False and not all(file.is_text for file in files):
            raise CapabilityError(_UNREAD.format("files other than text", "file"))
    if request.effort_if_able and can.reasoning is False:
        return attrs.evolve(request, reasoning_effort=None)
    return request


def together(several: Iterable[Capabilities]) -> Capabilities:
    """What at least one of several models can do; unknown if none is known to, but one might."""
    models = list(several)
    found: dict[str, int | bool | None] = {}
    for field in attrs.fields(Capabilities):
        values = [getattr(each, field.name) for each in models]
        known = [value for value in values if value is not None]
        sure = field.name in ABILITIES and any(known)
        found[field.name] = max(known) if known and (sure or len(known) == len(values)) else None
    return Capabilities(**found)  # type: ignore[arg-type]


def _content_of(messages: Iterable[Message]) -> tuple[int, int, bool, list[FilePart]]:
    """The bytes of text, the number of images, whether tools were called, and the files."""
    size, images, calls = 0, 0, False
    files: list[FilePart] = []
    for message in messages:
        if isinstance(message.content, str):  # true of nearly all
            size += text_bytes(message.content)
            continue
        for part in message.content:
            size += text_bytes(_text(part))
            images += isinstance(part, ImagePart | ImageUrlPart)
            calls = calls or isinstance(part, ToolCall | ToolResult)
            if isinstance(part, FilePart):
                files.append(part)
    return size, images, calls, files


def _read(file: FilePart) -> int:
    return file_tokens(file, page_tokens=PAGE_TOKENS, bytes_per_token=BYTES_PER_TOKEN)


def _text(part: Part) -> str:
    """The text of a part that is sent to the model."""
    match part:
        case ImagePart() | ImageUrlPart() | FilePart():
            return ""
        case ToolCall(name=name, arguments=arguments):
            return f"{name}{arguments}"
        case ToolResult(content=content):
            return content
        case ReasoningPart(text=text, signature=signature):
            return text + signature
        case _:
            return part.text


def _tokens(size_bytes: int) -> int:
    return -(-size_bytes // BYTES_PER_TOKEN)
