"""Where a provider is told to keep what it has read: marks behind what comes again as it is. Pure.

Anthropic and Bedrock keep nothing unless they are told up to where; what they find again costs a
tenth, and what they keep a quarter more. Tools are read before all else, so a mark anywhere keeps
them too.
"""

from __future__ import annotations

import attrs

from orchestra.values import (
    ChatRequest,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCall,
    ToolResult,
)


def is_marked(request: ChatRequest) -> bool:
    """Whether a request has marks of its own."""
    parts = (part for message in request.messages for part in message.parts)
    return any(map(has_mark, (*request.tools, *parts)))


def has_mark(part: Part | Tool) -> bool:
    """Whether the provider is told to keep what it has read up to the end of this."""
    return not isinstance(part, ReasoningPart | ToolCall) and part.prompt_cache


def with_marks(request: ChatRequest) -> ChatRequest:
    """The request with marks where the next one may begin alike: one with marks is as it is.

    They stand behind the last words of the system, which other conversations share, and behind
    the last turn, with which this one goes on.
    """
    if is_marked(request) or not request.messages:
        return request
    messages = list(request.messages)
    for at, message in reversed(list(enumerate(messages))):
        if message.role == "system":
            messages[at] = _marked(message)
            break
    return with_last_marked(attrs.evolve(request, messages=tuple(messages)))


def with_last_marked(request: ChatRequest) -> ChatRequest:
    """The request with a mark behind its last turn, whatever other marks it has."""
    *before, last = request.messages
    return attrs.evolve(request, messages=(*before, _marked(last)))


def _marked(message: Message) -> Message:
    parts = list(message.parts)
    for at in reversed(range(len(parts))):
        part = parts[at]
        if isinstance(part, TextPart | ToolResult):
            parts[at] = attrs.evolve(part, prompt_cache=True)
            return attrs.evolve(message, content=tuple(parts))
    return message
