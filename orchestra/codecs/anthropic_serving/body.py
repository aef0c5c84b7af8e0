"""The body of a request to Anthropic's Messages API: what we have a field for, as it is in JSON."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]


class MessagesSource(msgspec.Struct):
    """Where the bytes of an image or a document are, or a document's text."""

    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    content: str | list[MessagesBlock] | None = None


class MessagesTransformations(msgspec.Struct):
    """What becomes of an image that is too large."""

    oversized_image: str | None = None


class MessagesBlock(msgspec.Struct):
    """A block of a message, of the system's words, or of what a tool has given."""

    type: str
    text: str | None = None
    cache_control: dict[str, object] | None = None
    source: MessagesSource | str | None = None
    """Text only in blocks that are refused."""
    transformations: MessagesTransformations | None = None
    title: str | None = None
    context: str | None = None
    citations: dict[str, object] | list[object] | None = None
    """Of a document, whether it is to be cited; of an answer, what it cites."""
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, object] | None = None
    tool_use_id: str | None = None
    tool_name: str | None = None
    """The tool that a search for tools has found."""
    content: str | list[MessagesBlock] | None = None
    is_error: bool | None = None
    extra_content: object = None
    """Not Anthropic's own: Google's seal on the call, as in OpenAI's dialect."""


class MessagesMessage(msgspec.Struct):
    """One message."""

    role: Literal["user", "assistant", "system"]
    content: str | list[MessagesBlock]
    clear_at: Literal["next_user_message", "never"] | None = None
    """Of the system's: until when the model sees it."""
    output_config: dict[str, object] | None = None


class MessagesTool(msgspec.Struct):
    """A tool: of one that has no type, or is `custom`, the caller says what it takes."""

    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, object] | None = None
    strict: bool | None = None
    cache_control: dict[str, object] | None = None
    allowed_callers: list[str] | None = None


class MessagesToolChoice(msgspec.Struct):
    """Whether tools may be, or have to be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class MessagesThinking(msgspec.Struct):
    """Whether a model is to think, and how many tokens long."""

    type: Literal["enabled", "adaptive", "disabled", "between_tools"]
    budget_tokens: _Count | None = None
    display: str | None = None


class MessagesFormat(msgspec.Struct):
    """The form that an answer has to have."""

    type: Literal["json_schema"]
    schema: dict[str, object]


class MessagesOutput(msgspec.Struct):
    """How an answer is to be."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: MessagesFormat | None = None


class MessagesMetadata(msgspec.Struct):
    """Who asks, as the provider is told."""

    user_id: str | None = None


class MessagesBody(msgspec.Struct):
    """What of a body we have a field for."""

    model: str
    messages: Annotated[list[MessagesMessage], msgspec.Meta(min_length=1)]
    max_tokens: _Count | None = None
    system: str | list[MessagesBlock] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    tools: list[MessagesTool] | None = None
    tool_choice: MessagesToolChoice | None = None
    thinking: MessagesThinking | None = None
    output_config: MessagesOutput | None = None
    output_format: MessagesFormat | None = None
    """The older place of `output_config.format`."""
    metadata: MessagesMetadata | None = None
    cache_control: dict[str, object] | None = None
    anthropic_version: object = None
    """Of requests to Claude at Amazon and Google; elsewhere it is a header."""
    compaction: object = None
    container: object = None
    context_management: object = None
    diagnostics: object = None
    mcp_servers: object = None
    thread: object = None
    orchestra: dict[str, object] | None = None
