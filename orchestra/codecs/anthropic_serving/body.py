"""The body of a request to Anthropic's Messages API: the fields we read, in their JSON form."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]


class MessagesSource(msgspec.Struct):
    """The source of an image or a document: its bytes, its address, or a document's text."""

    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    content: str | list[MessagesBlock] | None = None


class MessagesTransformations(msgspec.Struct):
    """The treatment of images that are too large."""

    oversized_image: str | None = None


class MessagesBlock(msgspec.Struct):
    """A block of a message, of the system prompt, or of a tool result."""

    type: str
    text: str | None = None
    cache_control: dict[str, object] | None = None
    source: MessagesSource | str | None = None
    """A text in search results, and in blocks that are refused."""
    transformations: MessagesTransformations | None = None
    title: str | None = None
    context: str | None = None
    citations: dict[str, object] | list[object] | None = None
    """In a document, whether it may be cited; in an assistant's text, its citations."""
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, object] | None = None
    tool_use_id: str | None = None
    tool_name: str | None = None
    """The tool that a tool search has found."""
    content: str | list[MessagesBlock] | None = None
    is_error: bool | None = None
    extra_content: object = None
    """Not Anthropic's: Google's seal on the call, as in OpenAI's dialect."""


class MessagesMessage(msgspec.Struct):
    """One message."""

    role: Literal["user", "assistant", "system"]
    content: str | list[MessagesBlock]
    clear_at: Literal["next_user_message", "never"] | None = None
    """In a system message: how long the model sees it."""
    output_config: dict[str, object] | None = None


class MessagesTool(msgspec.Struct):
    """A tool; without a type, or with `custom`, the caller defines and runs it."""

    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, object] | None = None
    strict: bool | None = None
    cache_control: dict[str, object] | None = None
    allowed_callers: list[str] | None = None


class MessagesToolChoice(msgspec.Struct):
    """Whether tools may be called, or must be."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class MessagesThinking(msgspec.Struct):
    """Whether a model thinks, and the most tokens for it."""

    type: Literal["enabled", "adaptive", "disabled", "between_tools"]
    budget_tokens: _Count | None = None
    display: str | None = None


class MessagesFormat(msgspec.Struct):
    """The required format of the answer."""

    type: Literal["json_schema"]
    schema: dict[str, object]


class MessagesOutput(msgspec.Struct):
    """Options of the answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: MessagesFormat | None = None


class MessagesMetadata(msgspec.Struct):
    """The end user, in a form that is sent to the provider."""

    user_id: str | None = None


class MessagesBody(msgspec.Struct):
    """The fields of the body that we read."""

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
    """The older name of `output_config.format`."""
    metadata: MessagesMetadata | None = None
    cache_control: dict[str, object] | None = None
    anthropic_version: object = None
    """In requests to Claude at Amazon and Google; elsewhere it is a header."""
    compaction: object = None
    container: object = None
    context_management: object = None
    diagnostics: object = None
    mcp_servers: object = None
    thread: object = None
    orchestra: dict[str, object] | None = None
