"""The body of a request to OpenAI's responses API: the fields that we read, in their JSON form."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


class ResponsesPart(msgspec.Struct):
    """A part of a message's content, or of a tool's result."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_data: str | None = None
    filename: str | None = None
    file_id: str | None = None
    file_url: str | None = None


class ResponsesThought(msgspec.Struct):
    """A piece of a model's thoughts."""

    text: str = ""


class ResponsesItem(msgspec.Struct):
    """An item of a conversation: a message, a call, its result, a thought, or a reference."""

    type: str = "message"
    id: str | None = None
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: str | list[ResponsesPart] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[ResponsesPart] | None = None
    summary: list[ResponsesThought] | None = None
    encrypted_content: str | None = None
    extra_content: object = None
    """Not OpenAI's: Google's seal on the call, as in `ChatCall`."""


class ResponsesTool(msgspec.Struct):
    """A tool: a function, or a namespace of several."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, object] | None = None
    strict: bool | None = None
    tools: list[ResponsesTool] | None = None
    allowed_callers: list[str] | None = None


class ResponsesForced(msgspec.Struct):
    """The tool that the model has to call."""

    type: Literal["function"]
    name: str


class ResponsesFormat(msgspec.Struct):
    """The required format of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    name: str = "answer"
    schema: dict[str, object] | None = None
    strict: bool | None = None
    description: str | None = None


class ResponsesText(msgspec.Struct):
    """Options of the answer's text."""

    format: ResponsesFormat | None = None
    verbosity: str | None = None


class ResponsesReasoning(msgspec.Struct):
    """Options of the model's thinking."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    mode: str | None = None


class ResponsesBody(msgspec.Struct):
    """The fields of the body that we read."""

    model: str
    input: str | Annotated[list[ResponsesItem], msgspec.Meta(min_length=1)]
    instructions: str | None = None
    stream: bool | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    metadata: dict[str, str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: _Count | None = None
    tools: list[ResponsesTool] | None = None
    tool_choice: Literal["auto", "none", "required"] | ResponsesForced | None = None
    parallel_tool_calls: bool | None = None
    text: ResponsesText | None = None
    reasoning: ResponsesReasoning | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    include: list[str] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    background: bool | None = None
    conversation: object = None
    prompt: object = None
    max_tool_calls: int | None = None
    stream_options: object = None
    access_programs: object = None
    background_options: object = None
    client_metadata: object = None
    """Codex's, about its sessions; chat APIs refuse it."""
    context_management: object = None
    image: object = None
    orchestra: dict[str, object] | None = None
