"""Citations: passages of a text, and the folds that keep them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestra.answers import Completion
from orchestra.citations import Citation, Cited, Span, passages
from orchestra.policies.answers.replayed import events_of
from orchestra.policies.answers.sizes import held_bytes
from orchestra.policies.caching.cache import decode, encode, sealed
from orchestra.values import ModelEvent, Stopped, StopReason, TextDelta, TextPart, ToolCall

END = Stopped(StopReason.END)
texts = st.text("ab. ", min_size=1, max_size=12)
places = st.integers(0, 30)
citations = st.builds(
    Citation,
    places,
    places,
    quote=texts,
    title=texts,
    source=texts,
    index=st.none() | places,
    span=st.none() | st.builds(Span, st.just("pages"), places, places),
)
several = st.lists(citations, max_size=4).map(tuple)
parts = st.lists(texts.map(TextPart) | st.just(ToolCall("c", "f")), max_size=3)


def sorted_citations(found: Completion) -> list[str]:
    return sorted(map(repr, found.citations))


@given(st.lists(texts, max_size=3), several)
def test_pieces_are_the_texts_and_each_citation_stands_where_its_passage_begins(
    said: list[str], cited: tuple[Citation, ...]
) -> None:
    pieces = list(passages(said, cited))
    assert ["".join(text for text, _ in each) for each in pieces] == said
    assert all(text for each in pieces for text, _ in each)
    at, told = 0, list[Citation]()
    for text, found in [piece for each in pieces for piece in each]:
        for each in found:
            assert at <= each.start < at + len(text) or each.start >= each.end
        at += len(text)
        told += found
    placed = [each for each in cited if each.start < each.end and each.start < at]
    whole = [each for each in cited if each.start >= each.end and said]
    assert sorted(map(repr, told)) == sorted(map(repr, placed + whole))


@given(parts, several)
def test_a_replayed_answer_cites_the_same(
    said: list[TextPart | ToolCall], cited: tuple[Citation, ...]
) -> None:
    """Each text follows a call here: two that follow each other are one part."""
    apart = [each for part in said for each in (ToolCall("c", "f"), part)]
    answer = Completion(tuple(apart), END, citations=tuple(dict.fromkeys(cited)))
    found = Completion.of(events_of(answer))
    assert found.text == answer.text
    assert sorted_citations(found) == sorted_citations(answer)


@given(texts, several)
def test_a_cached_answer_cites_the_same(text: str, cited: tuple[Citation, ...]) -> None:
    answer = Completion((TextPart(text),), END, citations=cited)
    data = encode("key", answer, 1 << 20)
    assert data is not None
    found = decode("key", data)
    assert found is not None
    assert (found[0].text, found[0].citations) == (text, cited)


def test_passages_that_overlap_are_one_and_those_that_touch_are_two() -> None:
    first, second, third = Citation(2, 5), Citation(4, 6), Citation(6, 8)
    assert list(passages(["0123456789"], [second, first, third])) == [
        [("01", ()), ("2345", (first, second)), ("67", (third,)), ("89", ())]
    ]


def test_a_citation_of_the_whole_answer_stands_at_its_beginning() -> None:
    whole, part = Citation(0, 0, source="s"), Citation(2, 3)
    pieces = [("ab", (whole,)), ("c", (part,))]
    assert list(passages(["abc", "def"], [part, whole])) == [pieces, [("def", ())]]


def test_text_is_the_same_with_and_without_citations() -> None:
    said: list[ModelEvent] = [TextDelta("a"), TextDelta("b"), END]
    cited: list[ModelEvent] = [
        TextDelta("a"),
        Cited(),
        TextDelta("b"),
        Cited((Citation(1, 2),)),
        END,
    ]
    with_, without = Completion.of(cited), Completion.of(said)
    assert with_.parts == without.parts == (TextPart("ab"),)
    assert with_.citations == (Citation(1, 2),)
    assert with_.with_usage(None) == with_


def test_what_is_cited_counts_towards_the_size_of_an_answer() -> None:
    """In a reader's window, for late joiners, and in the cache."""
    large = Cited((Citation(0, 1, "x" * 1000),))
    assert held_bytes(large) > 1000
    answer = Completion((TextPart("x"),), END, citations=large.citations)
    assert encode("key", answer, 1000) is None


def test_an_answer_that_was_cached_before_there_were_citations_is_read() -> None:
    answer = Completion((TextPart("Sky"),), Stopped(StopReason.END, "stop"))
    old = ("", "", (StopReason.END, "stop", None), ("", ()), [("text", "Sky")])
    data = sealed("key", old, 1 << 20)
    assert data is not None
    assert data[:1] == b"\x02", "the version of the entries of that time"
    assert data == encode("key", answer, 1 << 20), "and an old server reads the new entry"
    found = decode("key", data)
    assert found is not None
    assert found[0].parts == answer.parts
