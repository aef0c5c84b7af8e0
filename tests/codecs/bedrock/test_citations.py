"""What Converse's answers cite, streamed and whole."""

from __future__ import annotations

import json
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.answers import Completion
from orchestra.citations import Citation, Cited, Span
from orchestra.codecs.bedrock.citations import read_citation
from orchestra.codecs.bedrock.converse import BedrockDialect
from orchestra.values import Json, ModelEvent, Stopped, TextDelta
from tests.codecs.amazon import CUTS, event, pieces

DIALECT = BedrockDialect()
WEB: Json = {"location": {"web": {"url": "https://a.test/x", "domain": "a.test"}}}
PAGE: Json = {
    "title": "Report",
    "sourceContent": [{"text": "Grass "}, {"text": "is green."}],
    "location": {"documentPage": {"documentIndex": 1, "start": 2, "end": 3}},
}
Block: TypeAlias = tuple[str, list[Json]]
"""A text and its citations."""


def streamed(blocks: list[Block], *, first: bool = False, cuts: list[int] | None = None) -> Any:
    """The events of a stream in which each block's citations come before or after its text."""
    frames = [event("messageStart", b'{"role": "assistant"}')]
    for index, (text, citations) in enumerate(blocks):
        texts: list[Json] = [{"text": text[:2]}, {"text": text[2:]}]
        told: list[Json] = [{"citation": each} for each in citations]
        for delta in told + texts if first else texts + told:
            piece = {"contentBlockIndex": index, "delta": delta}
            frames.append(event("contentBlockDelta", json.dumps(piece).encode()))
        frames.append(event("contentBlockStop", b'{"contentBlockIndex": %d}' % index))
    frames.append(event("messageStop", b'{"stopReason": "end_turn"}'))
    decoder = DIALECT.decoder()
    data = b"".join(frames)
    found = [each for piece in pieces(data, cuts or []) for each in decoder.feed(piece)]
    return [*found, *decoder.close()]


def whole(blocks: list[Block]) -> list[ModelEvent]:
    content = [
        {"citationsContent": {"content": [{"text": text}] if text else [], "citations": citations}}
        if citations
        else {"text": text}
        for text, citations in blocks
    ]
    body = {"output": {"message": {"content": content}}, "stopReason": "end_turn"}
    return DIALECT.decode(json.dumps(body).encode())


def cited(events: list[ModelEvent]) -> list[tuple[str, str]]:
    """Every cited passage and the address or title of its source."""
    answer = Completion.of(events)
    return [(answer.text[each.start : each.end], each.source) for each in answer.citations]


BLOCKS = st.lists(
    st.tuples(st.sampled_from(["", "abc", "d", "efgh"]), st.lists(st.just(WEB), max_size=2)),
    max_size=5,
)


@given(BLOCKS, CUTS)
def test_citations_are_the_same_whole_streamed_and_before_or_after_their_text(
    blocks: list[Block], cuts: list[int]
) -> None:
    expected = Completion.of(whole(blocks))
    for first in (False, True):
        events = streamed(blocks, first=first, cuts=cuts)
        assert Completion.of(events).citations == expected.citations
        assert Completion.of(events).text == "".join(text for text, _ in blocks)


@given(BLOCKS)
def test_the_passage_of_a_citation_is_the_text_of_its_block(blocks: list[Block]) -> None:
    told = [(text, citations) for text, citations in blocks if text]
    own = [text for text, citations in told for _ in citations]
    assert [passage for passage, _ in cited(whole(told))] == own


def test_citations_without_a_text_belong_to_the_text_before_them() -> None:
    """So Nova cites the web pages that it has searched."""
    told: list[Block] = [("Hello. ", []), ("It rains.", []), ("", [WEB]), ("", [WEB]), (" Bye", [])]
    for events in (streamed(told), whole(told)):
        assert cited(events) == [("It rains.", "https://a.test/x")] * 2


def test_citations_without_a_text_belong_to_the_text_before_a_call_too() -> None:
    use = {"toolUseId": "t", "name": "f", "input": {}}
    content = [{"text": "It rains."}, {"toolUse": use}, {"citationsContent": {"citations": [WEB]}}]
    body = {"output": {"message": {"content": content}}, "stopReason": "tool_use"}
    events = DIALECT.decode(json.dumps(body).encode())
    assert cited(events) == [("It rains.", "https://a.test/x")]


def test_where_a_passage_begins_is_told() -> None:
    kinds = [type(each) for each in streamed([("ab", []), ("cd", [WEB]), ("ef", [])])]
    assert kinds == [TextDelta, Cited, TextDelta, Cited, TextDelta, Stopped]


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        (WEB, Citation(0, 0, "", "a.test", "https://a.test/x")),
        (PAGE, Citation(0, 0, "Grass is green.", "Report", "", 1, Span("pages", 2, 3))),
        (
            {"location": {"documentChar": {"documentIndex": 0, "start": 0, "end": 4}}},
            Citation(0, 0, index=0, span=Span("characters", 0, 4)),
        ),
        (
            {"location": {"documentChunk": {"documentIndex": 0, "start": 0, "end": 1}}},
            Citation(0, 0, index=0, span=Span("blocks", 0, 1)),
        ),
        (
            {
                "source": "https://b.test/",
                "title": "B",
                "location": {"searchResultLocation": {"searchResultIndex": 2, "start": 1}},
            },
            Citation(0, 0, "", "B", "https://b.test/", 2),
        ),
        ({"location": 5, "title": [], "sourceContent": "x"}, Citation(0, 0)),
        ({"location": {"somewhere": {}}}, Citation(0, 0)),
    ],
)
def test_each_kind_of_location_is_read(told: Json, meant: Citation) -> None:
    assert read_citation(told) == meant


@pytest.mark.parametrize("kind", [{}, {"type": "server_tool_use"}])
def test_a_call_between_texts_begins_no_passage(kind: Json) -> None:
    use = {"toolUseId": "t", "name": "f", "input": {}, **kind}
    content = [{"text": "a"}, {"toolUse": use}, {"text": "b"}]
    body = {"output": {"message": {"content": content}}, "stopReason": "tool_use"}
    assert Cited() not in DIALECT.decode(json.dumps(body).encode())
