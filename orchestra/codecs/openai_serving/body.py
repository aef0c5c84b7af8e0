"""The body of an OpenAI chat request: the fields that we read, in their JSON form."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

CHOICES_MAX = 16
"""The most answers to one request; each is a separate call."""
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


class ChatUrl(msgspec.Struct):
    """The address of an image."""

    url: str
    detail: str | None = None


class ChatFile(msgspec.Struct):
    """A file inside the request."""

    file_data: str | None = None
    filename: str | None = None
    file_id: str | None = None


class ChatPart(msgspec.Struct):
    """A part of a message's content."""

    type: str
    text: str | None = None
    image_url: ChatUrl | str | None = None
    file: ChatFile | None = None
    refusal: str | None = None
    cache_control: dict[str, object] | None = None
    """Not OpenAI's: Anthropic's mark for the prompt cache, as OpenRouter and LiteLLM accept it."""


class ChatCalledFunction(msgspec.Struct):
    """The function that a call names, and its arguments."""

    name: str
    arguments: str = "{}"


class ChatCall(msgspec.Struct):
    """A tool call in an assistant's message."""

    id: str
    function: ChatCalledFunction
    extra_content: object = None
    """Not OpenAI's: Google's seal on the call, as in Google's OpenAI-compatible API."""


class ChatMessage(msgspec.Struct):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ChatPart] | None = None
    refusal: str | None = None
    name: str | None = None
    cache_control: dict[str, object] | None = None
    tool_calls: list[ChatCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    audio: object = None
    function_call: object = None
    reasoning_details: object = None
    """Not OpenAI's: OpenRouter's list of sealed reasoning."""


class ChatFunction(msgspec.Struct):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, object] | None = None
    strict: bool | None = None


class ChatTool(msgspec.Struct):
    """A tool."""

    type: Literal["function"]
    function: ChatFunction


class ChatNamed(msgspec.Struct):
    """The name of a function."""

    name: str


class ChatForced(msgspec.Struct):
    """The tool that the model has to call."""

    type: Literal["function"]
    function: ChatNamed


class ChatSchema(msgspec.Struct):
    """The JSON Schema of the answer."""

    schema: dict[str, object]
    name: str = "answer"
    strict: bool | None = None
    description: str | None = None


class ChatFormat(msgspec.Struct):
    """The required format of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: ChatSchema | None = None


class ChatStreamOptions(msgspec.Struct):
    """Options of a stream."""

    include_usage: bool | None = None


class ChatBody(msgspec.Struct):
    """The fields of the body that we read."""

    model: str
    messages: Annotated[list[ChatMessage], msgspec.Meta(min_length=1)]
    stream: bool | None = None
    stream_options: ChatStreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=CHOICES_MAX)] | None = None
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )
    tools: list[ChatTool] | None = None
    tool_choice: Literal["auto", "none", "required"] | ChatForced | None = None
    parallel_tool_calls: bool | None = None
    response_format: ChatFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    orchestra: dict[str, object] | None = None
