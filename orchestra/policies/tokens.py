"""Tokens, estimated from bytes, for limits that have to be kept before anybody has counted. Pure.

An estimate is rather too large: what it is over the truth is given back when the truth is known.
"""

from __future__ import annotations

import msgspec

from orchestra.accounts import Certainty, Usage
from orchestra.policies.file_tokens import file_tokens
from orchestra.values import (
    ChatRequest,
    EmbedRequest,
    FilePart,
    ImagePart,
    ImageUrlPart,
    ModelEvent,
    Part,
    ReasoningDelta,
    ReasoningPart,
    RefusalDelta,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    ToolResult,
)

BYTES_PER_TOKEN = 3
"""English has about 4 bytes a token, Chinese 3 a character, which is often one token."""
IMAGE_TOKENS = 1_600
"""The most that Anthropic counts for one; OpenAI counts about 1,100 in high detail."""
PAGE_TOKENS = 3_000 + IMAGE_TOKENS
"""The most of a file's page at Anthropic: its text, and its image; nobody counts more."""
MESSAGE_TOKENS = 4
"""What a turn costs beside its text, by OpenAI's own count."""
OUTPUT_TOKENS = 1_000
"""Of an answer that nobody has bounded: about a page and a half."""

OUTPUT_TOKENS_MOST = 128_000
"""The most that any model says at once, where it is not known of this one."""


class Estimate(msgspec.Struct, frozen=True):
    """Tokens that a call may take: of its question, and the most of its answer."""

    input: int
    output: int = 0

    @property
    def total(self) -> int:
        """Both together."""
        return self.input + self.output


def estimated(request: ChatRequest | EmbedRequest) -> Estimate:
    """Of any call."""
    return of_chat(request) if isinstance(request, ChatRequest) else of_texts(request)


def of_chat(request: ChatRequest) -> Estimate:
    """Of a question and its answer."""
    size = images = files = 0
    for message in request.messages:
        if isinstance(message.content, str):  # as nearly all of them: no part is made of it
            size += _length(message.content)
        else:
            size += sum(map(_size, message.content))
            images += sum(isinstance(part, ImagePart | ImageUrlPart) for part in message.content)
            files += sum(_read(part) for part in message.content if isinstance(part, FilePart))
    for tool in request.tools:
        size += len(msgspec.json.encode(tool.parameters))
        size += _length(tool.name) + _length(tool.description)
    if request.output is not None and request.output.schema is not None:
        size += _length(str(request.output.schema))
    if request.extras:  # among them may be a schema, or a prediction of the answer
        size += _length(str(dict(request.extras)))
    counted = tokens_of(size) + MESSAGE_TOKENS * len(request.messages) + IMAGE_TOKENS * images
    return Estimate(counted + files, request.output_tokens_max or OUTPUT_TOKENS)


def of_texts(request: EmbedRequest) -> Estimate:
    """Of texts to be embedded."""
    return Estimate(tokens_of(sum(map(_length, request.texts))))


def text_tokens(text: str) -> int:
    """Of one text."""
    return tokens_of(_length(text))


def tokens_taken(
    estimate: Estimate, usage: Usage | None, *, said_bytes: int = 0, whole: bool = True
) -> int:
    """What a call took: what its provider counted, if it has counted all of it.

    Where it has not, as of a failed or cut answer, no less than its question, and what was said
    of the answer. None of the answer's estimate stays.
    """
    counted = 0 if usage is None else usage.input_tokens + usage.output_tokens
    if whole and usage is not None and usage.certainty is Certainty.EXACT:
        return counted
    return max(counted, estimate.input + tokens_of(said_bytes))


def said_bytes(event: ModelEvent) -> int:
    """The bytes of an answer in one of its events."""
    match event:
        case TextDelta(text=text) | ReasoningDelta(text=text) | RefusalDelta(text=text):
            return _length(text)
        case ToolCallDelta(name=name, arguments=arguments):
            return _length(name) + _length(arguments)
        case _:
            return 0


def answer_bytes(parts: tuple[Part, ...]) -> int:
    """The bytes of a whole answer."""
    return sum(map(_size, parts))


def _size(part: Part) -> int:
    match part:
        case TextPart(text=text) | ReasoningPart(text=text):
            return _length(text)
        case ToolCall(name=name, arguments=arguments):
            return _length(name) + _length(arguments)
        case ToolResult(content=content):
            return _length(content)
        case _:
            return 0


def _read(file: FilePart) -> int:
    read = file_tokens(file, page_tokens=PAGE_TOKENS, bytes_per_token=BYTES_PER_TOKEN)
    return read + text_tokens(file.name)


def _length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def tokens_of(size_bytes: int) -> int:
    """Of a text of so many bytes in UTF-8."""
    return -(-size_bytes // BYTES_PER_TOKEN)
