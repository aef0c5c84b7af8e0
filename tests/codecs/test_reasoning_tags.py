"""Reasoning in tags: taken out of the text, however it is cut, and nothing else is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.openai.quirks import GENERIC
from orchestra.codecs.reasoning_tags import ReasoningTags, TaggedDecoder, untagged
from orchestra.errors import TruncatedStreamError
from orchestra.values import (
    ModelEvent,
    ReasoningDelta,
    Stopped,
    StopReason,
    TextDelta,
    ToolCallDelta,
)
from tests.recordings import needed, recordings

THINK = ReasoningTags("<think>", "</think>")
OPENED = ReasoningTags("", "</think>")
END = Stopped(StopReason.END, "stop")
texts = st.text("<>/think \na", max_size=30)
plain = st.text("thinka b\n", max_size=12)


def cut(text: str, at: Sequence[int]) -> list[ModelEvent]:
    """The text in pieces, some of them empty."""
    places = [0, *sorted(each % (len(text) + 1) for each in at), len(text)]
    return [TextDelta(text[a:b]) for a, b in pairwise(places)]


def split(events: Sequence[ModelEvent], tags: ReasoningTags = THINK) -> tuple[str, str]:
    """The reasoning and the answer."""
    found = untagged([*events, END], tags)
    assert found[-1] == END
    return (
        "".join(each.text for each in found if isinstance(each, ReasoningDelta)),
        "".join(each.text for each in found if isinstance(each, TextDelta)),
    )


@given(texts, st.lists(st.integers(0, 99), max_size=9), st.sampled_from([THINK, OPENED]))
def test_however_the_text_is_cut_the_result_is_the_same(
    text: str, at: list[int], tags: ReasoningTags
) -> None:
    assert split(cut(text, at), tags) == split([TextDelta(text)], tags)


@given(
    st.text(" \n", max_size=3),
    plain,
    st.text(" \n", max_size=3),
    texts,
    st.lists(st.integers(0, 99)),
)
def test_what_is_in_the_tags_is_reasoning_and_the_rest_is_the_answer(
    before: str, reasoning: str, gap: str, answer: str, at: list[int]
) -> None:
    text = f"{before}<think>{reasoning}</think>{gap}{answer}"
    assert split(cut(text, at)) == (reasoning, answer.lstrip())
    assert split(cut(f"{reasoning}</think>{gap}{answer}", at), OPENED) == (
        reasoning,
        answer.lstrip(),
    )


@given(texts, st.lists(st.integers(0, 99)))
def test_a_text_that_does_not_begin_with_the_tag_is_unchanged(text: str, at: list[int]) -> None:
    if not text.lstrip().startswith("<think>"):
        assert split(cut(text, at)) == ("", text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>Hm.</think>\n\nYes.", ("Hm.", "Yes.")),
        ("<think></think>Yes.", ("", "Yes.")),
        ("<think>Hm.", ("Hm.", "")),  # it was stopped at its `output_tokens_max`
        ("<think>Hm.</thi", ("Hm.</thi", "")),
        ("<thi", ("", "<thi")),
        ("Write <think>a</think>.", ("", "Write <think>a</think>.")),
        ("<think>a</think>b<think>c</think>", ("a", "b<think>c</think>")),
    ],
)
def test_examples(text: str, expected: tuple[str, str]) -> None:
    for size in (1, 2, 100):
        pieces = [TextDelta(text[at : at + size]) for at in range(0, len(text), size)]
        assert split(pieces) == expected


def test_a_tool_call_comes_after_the_text_before_it() -> None:
    call = ToolCallDelta(0, "1", "look", "{}")
    assert untagged([TextDelta("<thi"), call, END], THINK) == [TextDelta("<thi"), call, END]
    assert untagged([TextDelta("<think>a</"), call, END], THINK) == [
        *(ReasoningDelta("a"), ReasoningDelta("</")),
        *(call, END),
    ]


def test_a_cut_stream_is_still_an_error() -> None:
    decoder = TaggedDecoder(OpenAiDialect(GENERIC).decoder(), THINK)
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"<think>a</think>b"}}]}\n\n'
    assert decoder.feed(chunk)[-2:] == [ReasoningDelta("a"), TextDelta("b")]
    assert not decoder.done
    with pytest.raises(TruncatedStreamError):
        decoder.close()


@needed
def test_recorded_answers_with_tags_are_split() -> None:
    found = 0
    for each in recordings(lambda each: each.kind == "json" and b"<think>" in each.body):
        events = OpenAiDialect(GENERIC).decode(each.body)
        (whole,) = [event.text for event in events if isinstance(event, TextDelta)]
        reasoning, answer = split(events[:-1])
        assert reasoning
        assert "think>" not in reasoning + answer
        assert whole.replace("<think>", "").replace("</think>", "").split() == (
            f"{reasoning} {answer}".split()
        )
        found += 1
    assert found == 3
