"""Tokens estimated from bytes, for limits that apply before the provider has counted. Pure.

Estimates are rather too large than too small: the excess is given back when the real number is
known.
"""

from __future__ import annotations

import msgspec

from orchestra.accounts import Certainty, Usage
from orchestra.policies.requests.extras import EXTRAS
from orchestra.policies.requests.file_tokens import file_tokens
from orchestra.rankings import AnyRequest, RerankRequest
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
"""English has about 4 bytes per token; Chinese 3 per character, which is often one token."""
IMAGE_TOKENS = 1_600
"""The most that Anthropic counts for an image; OpenAI counts about 1,100 in high detail."""
PAGE_TOKENS = 3_000 + IMAGE_TOKENS
"""The most that Anthropic counts for a page of a file, text and image; others count less."""
MESSAGE_TOKENS = 4
"""The tokens of a message in addition to its text, as OpenAI counts."""
OUTPUT_TOKENS = 1_000
"""The assumed length of an answer that the request does not bound: about a page and a half."""

CHUNK_TOKENS = 500
"""Cohere divides a text that is longer, with the query, into chunks; each counts as a text.

The query is in each chunk, and takes at most half of it: Cohere cuts it.
"""
SEARCH_CHUNKS = 100
"""The texts of a search unit, at Cohere and on Bedrock."""

BYTES_PER_TOKEN_MOST = 16
"""More than any long answer has: English has 4 bytes per token, Hindi and Georgian 10."""
BYTES_OF_SHORT_ANSWERS = 256
"""A short answer may consist of one long token; those of spaces have up to 128 bytes."""
OUTPUT_TOKENS_MOST = 128_000
"""The longest answer of any model, for models whose limit is unknown."""


class Estimate(msgspec.Struct, frozen=True):
    """The estimated tokens of a call: its input, and its output.

    If `bounded`, the request allows no more than this output. `searches` are the search units that
    a call of a rerank model is billed as, 0 for other calls.
    """

    input: int
    output: int = 0
    bounded: bool = False
    searches: int = 0

    @property
    def total(self) -> int:
        """Input and output together."""
        return self.input + self.output

    def received(self, size_bytes: int) -> int:
        """The estimated tokens of so many bytes of output.

        If `bounded`, that is at most `output`: the provider charges for no more, though the text
        looks like more, and no more money is held. Unless the size shows that it ignores the bound.
        """
        tokens = tokens_of(size_bytes)
        if self.bounded and size_bytes <= covered_bytes(self.output, bounded=True):
            return min(tokens, self.output)
        return tokens


def estimated(request: AnyRequest) -> Estimate:
    """The estimate for any call."""
    if isinstance(request, ChatRequest):
        return of_chat(request)
    return of_texts(request) if isinstance(request, EmbedRequest) else of_ranking(request)


def of_chat(request: ChatRequest) -> Estimate:
    """The estimate for a chat request."""
    size = images = files = 0
    for message in request.messages:
        if isinstance(message.content, str):  # nearly always: then there are no parts to make
            size += text_bytes(message.content)
        else:
            size += sum(map(_size, message.content))
            images += sum(isinstance(part, ImagePart | ImageUrlPart) for part in message.content)
            files += sum(_read(part) for part in message.content if isinstance(part, FilePart))
        if message.name:  # a client's, of any length
            size += text_bytes(message.name)
    for tool in request.tools:
        size += len(msgspec.json.encode(tool.parameters))
        size += text_bytes(tool.name) + text_bytes(tool.description)
    if request.output is not None and request.output.schema is not None:
        size += text_bytes(str(request.output.schema)) + text_bytes(request.output.name)
        size += text_bytes(request.output.description or "")
    if request.extras:  # they may contain a schema, or a predicted answer
        sent = {name: fields for name, fields in request.extras.items() if name != EXTRAS}
        size += text_bytes(str(sent)) if sent else 0
    counted = tokens_of(size) + MESSAGE_TOKENS * len(request.messages) + IMAGE_TOKENS * images
    most = request.output_tokens_max
    return Estimate(counted + files, most or OUTPUT_TOKENS, bounded=bool(most))


def of_texts(request: EmbedRequest) -> Estimate:
    """The estimate for texts to embed."""
    return Estimate(tokens_of(sum(map(text_bytes, request.texts))))


def of_ranking(request: RerankRequest) -> Estimate:
    """The estimate for texts to rerank: the model reads each of them together with the query."""
    query = text_tokens(request.query)
    sizes = list(map(text_tokens, request.texts))
    room = CHUNK_TOKENS - min(query, CHUNK_TOKENS // 2)
    chunks = sum(max(1, -(-size // room)) for size in sizes)
    return Estimate(query * len(sizes) + sum(sizes), searches=-(-chunks // SEARCH_CHUNKS))


def text_tokens(text: str) -> int:
    """The estimated tokens of one text."""
    return tokens_of(text_bytes(text))


def tokens_taken(
    estimate: Estimate, usage: Usage | None, *, output_bytes: int = 0, whole: bool = True
) -> int:
    """The tokens of a call: the provider's count, if it is exact and the answer is `whole`.

    Otherwise, as for a failed or cut answer, at least the estimated input and the output received.
    """
    counted = 0 if usage is None else usage.input_tokens + usage.output_tokens
    if whole and usage is not None and usage.certainty is Certainty.EXACT:
        return counted
    return max(counted, estimate.input + estimate.received(output_bytes))


def output_bytes(event: ModelEvent) -> int:
    """The bytes of output in an event, in UTF-8."""
    match event:
        case TextDelta(text=text) | ReasoningDelta(text=text) | RefusalDelta(text=text):
            return text_bytes(text)
        case ToolCallDelta(name=name, arguments=arguments):
            return text_bytes(name) + text_bytes(arguments)
        case _:
            return 0


def answer_bytes(parts: tuple[Part, ...]) -> int:
    """The bytes of output in a complete answer, in UTF-8."""
    return sum(map(_size, parts))


def _size(part: Part) -> int:
    match part:
        case TextPart(text=text) | ReasoningPart(text=text):
            return text_bytes(text)
        case ToolCall(name=name, arguments=arguments):
            return text_bytes(name) + text_bytes(arguments)
        case ToolResult(content=content):
            return text_bytes(content)
        case _:
            return 0


def _read(file: FilePart) -> int:
    read = file_tokens(file, page_tokens=PAGE_TOKENS, bytes_per_token=BYTES_PER_TOKEN)
    return read + text_tokens(file.name)


def text_bytes(text: str) -> int:
    """The bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def covered_bytes(tokens: int, *, bounded: bool) -> int:
    """The bytes of an answer beyond which money for so many tokens may be too little.

    With `bounded`, the provider was told to stop after so many tokens: an answer of this size
    shows that it ignores that, whatever the language.
    """
    if bounded:
        return tokens * BYTES_PER_TOKEN_MOST + BYTES_OF_SHORT_ANSWERS
    return tokens * BYTES_PER_TOKEN


def tokens_of(size_bytes: int) -> int:
    """The estimated tokens of a text with so many bytes in UTF-8."""
    return -(-size_bytes // BYTES_PER_TOKEN)
