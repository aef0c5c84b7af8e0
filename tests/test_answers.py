from __future__ import annotations

import time
from collections.abc import Callable
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Usage
from orchestra.answers import ANSWER_CHARS_MAX, Answer, AnswerPart, Completion
from orchestra.citations import Citation, Cited
from orchestra.errors import MalformedStreamError, TruncatedStreamError
from orchestra.logprobs import Logprobs, TokenLogprob
from orchestra.values import (
    Began,
    Message,
    ModelEvent,
    ReasoningDelta,
    ReasoningPart,
    RefusalDelta,
    Stopped,
    StopReason,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    UsageReport,
)

STOP = Stopped(StopReason.END, "stop")
TEXTS = st.text(max_size=4)
FULL = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=4)
PARTS = st.lists(
    st.one_of(
        st.builds(TextPart, FULL),
        st.builds(ReasoningPart, TEXTS, FULL),
        st.builds(ReasoningPart, FULL),
        st.builds(ToolCall, FULL, FULL, FULL | st.just("{}"), st.just("") | FULL),
    ),
    max_size=6,
).map(lambda parts: tuple(separate(parts)))
EVENTS = st.lists(
    st.one_of(
        st.builds(TextDelta, TEXTS),
        st.builds(ReasoningDelta, TEXTS, st.just("") | FULL),
        st.builds(RefusalDelta, TEXTS),
        st.builds(ToolCallDelta, st.integers(0, 2), TEXTS, TEXTS, TEXTS, TEXTS),
        st.builds(UsageReport, st.builds(Usage, st.integers(0, 9), st.integers(0, 9))),
        st.builds(Began, TEXTS, TEXTS),
    ),
    max_size=12,
)


def separate(parts: list[AnswerPart]) -> list[AnswerPart]:
    """Without those that nothing parts from the one before: they would be one with it."""
    kept: list[AnswerPart] = []
    for part in parts:
        last = kept[-1] if kept else None
        joins = type(last) is type(part) and not isinstance(part, ToolCall)
        if not joins or (isinstance(last, ReasoningPart) and last.signature):
            kept.append(part)
    return kept


def split(text: str, data: st.DataObject) -> list[str]:
    at = data.draw(st.integers(0, len(text)))
    return [text[:at], "", text[at:]]


def told(parts: tuple[AnswerPart, ...], data: st.DataObject) -> list[ModelEvent]:
    """The parts as events, each in pieces."""
    events: list[ModelEvent] = []
    calls = 0
    for part in parts:
        match part:
            case TextPart(text=text):
                events += map(TextDelta, split(text, data))
            case ReasoningPart(text=text, signature=signature):
                events += map(ReasoningDelta, split(text, data))
                events.append(ReasoningDelta("", signature))
            case ToolCall():
                events.append(ToolCallDelta(calls, part.id, part.name, signature=part.signature))
                events += [
                    ToolCallDelta(calls, arguments=piece) for piece in split(part.arguments, data)
                ]
                calls += 1
    return events


@given(PARTS, st.data())
def test_an_answer_in_pieces_comes_to_its_parts(
    parts: tuple[AnswerPart, ...], data: st.DataObject
) -> None:
    answer = Completion.of([*told(parts, data), STOP])
    assert answer.parts == parts
    assert answer.text == "".join(part.text for part in parts if isinstance(part, TextPart))
    assert answer.tool_calls == tuple(part for part in parts if isinstance(part, ToolCall))
    assert answer.message == Message("assistant", parts)


@given(EVENTS)
def test_an_answer_that_has_not_stopped_is_none(events: list[ModelEvent]) -> None:
    with pytest.raises(TruncatedStreamError):
        Completion.of(events)


@given(EVENTS)
def test_nothing_that_was_said_is_lost_or_said_twice(events: list[ModelEvent]) -> None:
    answer = Completion.of([*events, STOP])
    assert answer.text == "".join(each.text for each in events if isinstance(each, TextDelta))
    assert answer.reasoning == "".join(
        each.text for each in events if isinstance(each, ReasoningDelta)
    )
    assert answer.refusal == "".join(each.text for each in events if isinstance(each, RefusalDelta))
    seals = [part.signature for part in answer.parts if isinstance(part, ReasoningPart)]
    assert [seal for seal in seals if seal] == [
        each.signature for each in events if isinstance(each, ReasoningDelta) and each.signature
    ]


@pytest.mark.parametrize(
    ("said", "expected"), [("  x = 1\n", "  x = 1\n"), (" \n", "{}"), ("", "{}")]
)
def test_blanks_around_arguments_are_the_models(said: str, expected: str) -> None:
    """A custom tool is called with free text; only nothing at all is an empty object."""
    (call,) = Completion.of([ToolCallDelta(0, "x", "run", said), STOP]).tool_calls
    assert call.arguments == expected


@given(EVENTS)
def test_calls_are_put_together_by_their_index(events: list[ModelEvent]) -> None:
    """In the order in which they were begun, however their pieces are mixed."""
    pieces = [each for each in events if isinstance(each, ToolCallDelta)]
    order = list(dict.fromkeys(each.index for each in pieces))
    calls = Completion.of([*events, STOP]).tool_calls
    assert len(calls) == len(order)
    for call, index in zip(calls, order, strict=True):
        own = [each for each in pieces if each.index == index]
        said = "".join(each.arguments for each in own)
        assert call.arguments == (said if said.strip() else "{}")
        assert call.id == next((each.id for each in own if each.id), "")
        assert call.name == next((each.name for each in own if each.name), "")


@given(EVENTS)
def test_the_last_usage_and_the_last_name_count(events: list[ModelEvent]) -> None:
    answer = Completion.of([*events, STOP])
    usages = [each.usage for each in events if isinstance(each, UsageReport)]
    begun = [each for each in events if isinstance(each, Began)]
    assert answer.usage == (usages[-1] if usages else None)
    assert (answer.id, answer.model) == ((begun[-1].id, begun[-1].model) if begun else ("", ""))


@given(EVENTS)
def test_no_two_texts_stand_side_by_side(events: list[ModelEvent]) -> None:
    parts = Completion.of([*events, STOP]).parts
    for kind, run in groupby(parts, type):
        assert kind is not TextPart or len(list(run)) == 1
    assert TextPart("") not in parts
    assert ReasoningPart("") not in parts


def test_a_thought_is_closed_by_its_signature() -> None:
    events: list[ModelEvent] = [
        ReasoningDelta("a"),
        ReasoningDelta("", "1"),
        ReasoningDelta("b", "2"),
        STOP,
    ]
    assert Completion.of(events).parts == (ReasoningPart("a", "1"), ReasoningPart("b", "2"))


def test_an_empty_piece_parts_nothing() -> None:
    events: list[ModelEvent] = [ReasoningDelta("a"), TextDelta(""), ReasoningDelta("b"), STOP]
    assert Completion.of(events).parts == (ReasoningPart("ab"),)


def test_a_call_without_arguments_has_an_empty_object() -> None:
    call = ToolCallDelta(0, "c1", "now")
    assert Completion.of([call, STOP]).tool_calls == (ToolCall("c1", "now", "{}"),)


def test_the_first_words_of_an_answer_do_not_slow_down_the_last() -> None:
    def cost_s(count: int) -> float:
        began = time.process_time()
        answer = Answer()
        for _ in range(count):
            answer.add(TextDelta("word "))
        answer.add(STOP)
        assert len(answer.completion().text) == 5 * count
        return time.process_time() - began

    cost_s(1_000)
    few, many = min(cost_s(5_000) for _ in range(3)), min(cost_s(50_000) for _ in range(3))
    assert many < 40 * few


@pytest.mark.parametrize(
    "kind",
    [
        TextDelta,
        ReasoningDelta,
        RefusalDelta,
        lambda text: ReasoningDelta("", text),
        lambda text: ToolCallDelta(0, arguments=text),
        lambda text: ToolCallDelta(0, signature=text),
        lambda text: Logprobs((TokenLogprob("a", -1.0, None),) * (len(text) // 256)),
        lambda text: Cited((Citation(0, 0, text[256:]),)),
    ],
)
def test_an_answer_has_a_bound_whatever_it_is_made_of(kind: Callable[[str], ModelEvent]) -> None:
    answer, piece = Answer(), kind("x" * 2**20)
    answer.add(UsageReport(Usage(3, 4)))
    for _ in range(ANSWER_CHARS_MAX >> 20):
        answer.add(piece)
    with pytest.raises(MalformedStreamError, match="over 67108864 characters"):
        answer.add(piece)
    answer.stopped = STOP
    assert answer.completion() == Completion((), STOP, Usage(3, 4)), "what is left may be kept long"
