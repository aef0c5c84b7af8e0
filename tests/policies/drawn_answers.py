"""Requests and answers, as Hypothesis draws them."""

from __future__ import annotations

from hypothesis import strategies as st

from orchestra.accounts import Usage
from orchestra.values import (
    Began,
    ChatRequest,
    FilePart,
    ForcedTool,
    ImagePart,
    ImageUrlPart,
    JsonOutput,
    Message,
    ModelEvent,
    ReasoningDelta,
    ReasoningPart,
    RefusalDelta,
    Stopped,
    StopReason,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    UsageReport,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
WORDS = st.sampled_from(["", "a", "b", "{}"])
USAGES = st.builds(Usage, st.integers(0, 9), st.integers(0, 9), reasoning_tokens=st.integers(0, 9))
SAID: st.SearchStrategy[ModelEvent] = st.one_of(
    st.builds(TextDelta, TEXTS),
    st.builds(TextDelta, st.sampled_from(["x" * 4096, "y" * 9000])),
    st.builds(ReasoningDelta, TEXTS, WORDS),
    st.builds(ToolCallDelta, st.integers(0, 2), WORDS, WORDS, WORDS, WORDS),
    st.builds(Began, WORDS, WORDS),
    st.builds(UsageReport, USAGES),
)
WHOLE = st.sampled_from([StopReason.END, StopReason.STOP_SEQUENCE, StopReason.TOOL_CALLS])
STOPPED = st.builds(Stopped, WHOLE, st.none() | WORDS, st.none() | WORDS)
PARTS = st.one_of(
    st.builds(TextPart, WORDS),
    st.builds(ImagePart, st.sampled_from([b"a", b"b"]), WORDS),
    st.builds(ImageUrlPart, WORDS),
    st.builds(FilePart, st.sampled_from([b"a", b"b"]), WORDS, WORDS),
    st.builds(ReasoningPart, WORDS, WORDS),
    st.builds(ToolCall, WORDS, WORDS, WORDS, WORDS),
    st.builds(ToolResult, WORDS, WORDS, WORDS, st.booleans()),
)
MESSAGES = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    WORDS | st.lists(PARTS, max_size=2).map(tuple),
)
SCHEMAS = st.sampled_from([{}, {"type": "object"}, {"type": "string"}])
REQUESTS = st.builds(
    ChatRequest,
    st.lists(MESSAGES, max_size=2).map(tuple),
    temperature=st.none() | st.sampled_from([0.0, 1.0]),
    output_tokens_max=st.none() | st.integers(1, 2),
    stop=st.lists(WORDS, max_size=1).map(tuple),
    seed=st.none() | st.integers(0, 1),
    top_p=st.none() | st.just(0.5),
    top_k=st.none() | st.just(1),
    presence_penalty=st.none() | st.just(0.5),
    frequency_penalty=st.none() | st.just(0.5),
    reasoning_effort=st.none() | st.just("low"),
    tools=st.lists(st.builds(Tool, WORDS, WORDS, SCHEMAS, st.booleans()), max_size=1).map(tuple),
    tool_choice=st.none() | st.just("auto") | st.builds(ForcedTool, WORDS),
    parallel_tool_calls=st.none() | st.booleans(),
    output=st.none() | st.builds(JsonOutput, st.none() | SCHEMAS, WORDS, st.booleans()),
    extras=st.sampled_from([{}, {"openai": {"a": 1}}, {"orchestra": {"conversation": "1"}}]),
)


@st.composite
def whole_answers(draw: st.DrawFn) -> tuple[ModelEvent, ...]:
    """The events of an answer that came to its end, and says something."""
    said = draw(st.lists(SAID, max_size=6))
    contents: list[ModelEvent] = [TextDelta("!"), ToolCallDelta(1, "id", "f", "{}")]
    some = draw(st.sampled_from(contents))
    return (*said, some, draw(STOPPED), *draw(st.lists(st.builds(UsageReport, USAGES), max_size=1)))


@st.composite
def broken_answers(draw: st.DrawFn) -> tuple[ModelEvent, ...]:
    """The events of an answer that is not whole, though its stream may end like one."""
    said = draw(st.lists(SAID, max_size=4))
    bad = [reason for reason in StopReason if reason.value not in ("end", "stop_sequence")]
    bad.remove(StopReason.TOOL_CALLS)
    match draw(st.sampled_from(["refused", "reason", "silent", "nothing"])):
        case "refused":
            return (*said, RefusalDelta("no"), TextDelta("!"), draw(STOPPED))
        case "reason":
            return (*said, TextDelta("!"), Stopped(draw(st.sampled_from(bad))))
        case "silent":
            return (TextDelta("!"), *said)
        case _:
            return (TextDelta(""), draw(STOPPED))
