"""The values that travel on wires: requests to models, events of answers, passages of stores.

All are frozen and do no I/O. A closed set of cases is a union of classes, such as `ModelEvent`,
so that type checkers can check a `match` over it for completeness.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import attrs

from orchestra.accounts import Usage, check_most
from orchestra.attached import Attached, Citable, registered
from orchestra.citations import Cited
from orchestra.eventclass import event, frozen
from orchestra.logprobs import Logprobs

Json: TypeAlias = dict[str, Any]
"""A JSON object, as `json.loads` gives it."""
Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
Scalar: TypeAlias = str | int | float | bool | None
Metadata: TypeAlias = Mapping[str, Scalar]
Details: TypeAlias = Mapping[str, str]
NO_METADATA: Metadata = MappingProxyType({})  # by a factory: as a default, it has no JSON Schema
NO_DETAILS: Details = MappingProxyType({})


def _written(given: Mapping[str, object]) -> str:
    return repr(dict(given))  # as a plain dict, also for the read-only default


@attrs.frozen(repr=False)
class Vector:
    """An embedding: `len(vector)` numbers as little-endian float32.

    Kept as bytes: immutable, and readable by `numpy.frombuffer(vector.data, "<f4")` without a copy.
    """

    data: bytes

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Vector:
        """Make a vector of these numbers, rounded to float32."""
        return cls(struct.pack(f"<{len(numbers)}f", *numbers))

    def __repr__(self) -> str:
        """As source code, if short."""
        return f"Vector.of({list(self)})" if len(self) <= 16 else f"<Vector of {len(self)}>"  # noqa: PLR2004

    def __len__(self) -> int:
        return len(self.data) // 4

    def __iter__(self) -> Iterator[float]:
        return iter(struct.unpack(f"<{len(self)}f", self.data))


@frozen
class Passage:
    """A piece of a document, as a store keeps and finds it.

    `id` is unique in its collection; `source` says where a person can look the text up; `score` is
    its similarity to the query (cosine, -1 to 1; after `rerank`, the model's score), or 0.0.
    """

    id: str
    text: str
    source: str = ""
    score: float = 0.0
    metadata: Metadata = attrs.field(factory=lambda: NO_METADATA, repr=_written)


@frozen
class Label:
    """The answer of a classifier: the name of the best label, and how sure the classifier is.

    `confidence` is the score of the best label, 0 to 1; `scores` holds those of all labels, and
    they sum to 1. `str` gives the name, so that prompts read naturally.
    """

    name: str
    confidence: float
    scores: Mapping[str, float] = attrs.field(factory=lambda: MappingProxyType({}), repr=_written)

    def __str__(self) -> str:
        return self.name


@frozen
class TextPart:
    """A piece of text in a message.

    `prompt_cache` asks the provider to cache the prompt up to the end of this text, for requests
    with the same beginning; only Anthropic and Bedrock need to be asked.
    """

    text: str
    prompt_cache: bool = False


@frozen
class ImagePart(Attached):
    """An image. `detail` is how closely OpenAI looks at it ("low" is cheap); others ignore it."""

    media_type: str = attrs.field(default="image/png", converter=registered)
    detail: str | None = None


@frozen
class ImageUrlPart:
    """An image that the provider fetches, or a `data:` URL; the rest as in `ImagePart`."""

    url: str
    detail: str | None = None
    prompt_cache: bool = False


@frozen
class FilePart(Citable):
    """A file for the model to read: a PDF or, for any model, UTF-8 text. The model sees `name`."""

    media_type: str = attrs.field(default="application/pdf", converter=registered)
    name: str = ""


@frozen
class ReasoningPart:
    """A model's reasoning before its answer. If `text` is empty, the provider withheld it.

    `signature` is the provider's seal on it, prefixed with the provider (`anthropic:c2VhbA==`;
    without a prefix it may go to any). It must be sent back with the conversation, or the provider
    refuses the next turn; it is never sent to other providers.
    """

    text: str
    signature: str = attrs.field(default="", repr=False)


@frozen
class ToolCall:
    """A function call that a model asks for; `arguments` is JSON text, "{}" if there are none.

    `id` links a `ToolResult` to this call; `signature` as in `ReasoningPart`.
    """

    id: str
    name: str
    arguments: str = "{}"
    signature: str = attrs.field(default="", repr=False)


@frozen
class ToolResult:
    """What a called function returned or, with `is_error`, why it failed.

    `prompt_cache` as in `TextPart`.
    """

    call_id: str
    name: str
    content: str
    is_error: bool = False
    prompt_cache: bool = False


Part: TypeAlias = (
    TextPart | ImagePart | ImageUrlPart | FilePart | ReasoningPart | ToolCall | ToolResult
)


@frozen
class Message:
    """One turn of a conversation: text, or parts in order.

    Images and files belong in a user's turn, reasoning and tool calls in an assistant's, results in
    a tool's; codecs rearrange them where needed. `name` tells speakers of one role apart; only
    OpenAI uses it.
    """

    role: Role
    content: str | tuple[Part, ...]
    name: str | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """The content as parts; empty text gives no part."""
        if isinstance(self.content, str):
            return (TextPart(self.content),) if self.content else ()
        return self.content

    @property
    def text(self) -> str:
        """Its text parts, joined."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, TextPart))


@frozen
class Tool:
    """A function that a model may ask for; `parameters` is the JSON Schema of its arguments.

    `strict` asks the provider to enforce the schema, where it can; `prompt_cache` as in `TextPart`.
    """

    name: str
    description: str
    parameters: Json
    strict: bool = False
    prompt_cache: bool = False


@frozen
class ForcedTool:
    """Require the model to call the tool of this name."""

    name: str


ToolChoice: TypeAlias = Literal["auto", "none", "required"] | ForcedTool
ReasoningEffort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Extras: TypeAlias = Mapping[str, Json]
NO_EXTRAS: Extras = MappingProxyType({})


@frozen
class JsonOutput:
    """Require a JSON object as the answer; with a schema, one that fits it.

    `strict` asks the provider to enforce the schema, where it can. OpenAI refuses to, unless every
    object in it requires all its members and has `additionalProperties: false`.
    """

    schema: Json | None = None
    name: str = "answer"
    strict: bool = True
    description: str | None = None


@frozen
class ChatRequest:
    """A request to a model, independent of any provider's dialect.

    A field that is None is left to the provider's default. With `effort_if_able`, a
    model that is known not to reason gets no effort. `reasoning_tokens_max`
    is given beside an effort, for models that take a number instead. `extras` go into the body
    unchanged, by the name of the provider: `{"openai": {"service_tier": "flex"}}`; other providers
    never see them.
    """

    messages: tuple[Message, ...]
    temperature: float | None = None
    output_tokens_max: int | None = attrs.field(default=None, validator=check_most)
    stop: tuple[str, ...] = ()
    seed: int | None = None
    top_p: float | None = None
    top_k: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    reasoning_effort: ReasoningEffort | None = None
    effort_if_able: bool = False
    reasoning_tokens_max: int | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    output: JsonOutput | None = None
    extras: Extras = attrs.field(default=NO_EXTRAS, repr=_written)
    logprobs: int | None = None
    """Ask for the log probability of each token, and of this many alternatives to each."""


class StopReason(Enum):
    """Why a model stopped generating."""

    END = "end"
    LENGTH = "length"
    STOP_SEQUENCE = "stop_sequence"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    """The model or its provider refused to say more."""
    PAUSED = "paused"
    """The provider wants the turn sent back, to continue it."""
    OTHER = "other"
    """A reason that only this provider has: see `Stopped.raw`."""

    def __repr__(self) -> str:
        """As source code."""
        return f"{type(self).__name__}.{self.name}"


@event
class Began:
    """The answer has begun: its `id`, the `model`, and `details` in the provider's own words."""

    id: str
    model: str
    details: Details = attrs.field(default=NO_DETAILS, repr=_written)


@event
class TextDelta:
    """The next piece of the answer's text."""

    text: str


@event
class ReasoningDelta:
    """The next piece of the reasoning; `signature` covers all pieces since the last signature."""

    text: str
    signature: str = attrs.field(default="", repr=False)


@event
class RefusalDelta:
    """The next piece of the text in which a model refuses to answer; not part of the answer."""

    text: str


@event
class ToolCallDelta:
    """The next piece of a tool call: `index` is the call's position in the answer, from 0.

    The first piece of a call has its whole `id` and `name`; in later pieces they are "".
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    signature: str = attrs.field(default="", repr=False)


@event
class UsageReport:
    """The usage of the call so far, and the provider's `raw` report; a later one replaces it."""

    usage: Usage
    raw: Json = attrs.field(factory=dict)


@event
class Stopped:
    """The answer is complete. A stream without this event was cut.

    `raw` is the provider's own word for the reason, `sequence` the stop sequence that was met, and
    `category` the subject of a refusal, if the provider sent them. Only a `UsageReport` may follow.
    """

    reason: StopReason
    raw: str | None = None
    sequence: str | None = None
    category: str | None = None


_Delta: TypeAlias = TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta
ModelEvent: TypeAlias = Began | _Delta | Logprobs | Cited | UsageReport | Stopped

Purpose: TypeAlias = Literal["query", "document", "classification", "clustering"]
"""The use of the vectors: some models embed queries and documents differently."""


@frozen
class EmbedRequest:
    """Texts to turn into vectors, each with `dimensions` numbers, if given."""

    texts: tuple[str, ...]
    purpose: Purpose | None = None
    dimensions: int | None = None
    extras: Extras = NO_EXTRAS


@frozen
class Embeddings:
    """One vector for each text, in order, as the provider gave them."""

    vectors: tuple[Vector, ...]
    usage: Usage | None = None
    model: str = ""


@frozen(kw_only=True)
class Capabilities:
    """What a model can do; None means unknown: nothing is refused. `files` means PDFs."""

    context_tokens: int | None = None
    output_tokens_max: int | None = attrs.field(default=None, validator=check_most)
    tools: bool | None = None
    vision: bool | None = None
    files: bool | None = None
    json_schema: bool | None = None
    reasoning: bool | None = None
    embeddings: bool | None = None
    reranking: bool | None = None
