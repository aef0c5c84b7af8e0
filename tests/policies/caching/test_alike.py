"""Questions that ask the same, and questions that only look so, with the embedded embedder."""

from __future__ import annotations

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.policies.caching.alike import (
    QUESTION_CHARS_MAX,
    Known,
    decode_index,
    encode_index,
    may_ask_the_same,
    nearest,
    question_of,
    scope_of,
    with_known,
)
from orchestra.policies.caching.cache import SemanticRule, sealed
from orchestra.providers.wordllama import WordLlamaEmbedder
from orchestra.values import ChatRequest, ImageUrlPart, Message, TextPart, Vector
from tests.policies.drawn_answers import REQUESTS, WORDS

EMBEDDER = WordLlamaEmbedder()
SAME = [
    ("How do I cancel my subscription?", "How can I cancel my subscription"),
    ("Where is my order?", "Where's my order?"),
    ("How do I reset my password?", "How can I reset my password?"),
    ("What are the opening hours?", "What are your opening hours?"),
    ("What is the refund policy?", "What's the refund policy?"),
    ("How long does shipping take?", "How long does the shipping take?"),
]
"""Over the threshold: 0.964 to 0.998. A freer paraphrase is under it (0.60 to 0.93): a miss."""
MARKED = [
    ("Can I carry over 5 vacation days?", "Can I carry over 6 vacation days?"),
    ("What was revenue in 2023?", "What was revenue in 2024?"),
    ("Can I return opened items?", "Can't I return opened items?"),
    ("Is smoking allowed in the office?", "Is smoking not allowed in the office?"),
    ("How do I convert euros to dollars?", "How do I convert dollars to euros?"),
    ("Does Paul report to Mary?", "Does Mary report to Paul?"),
    ("Who is the manager of Anna Schmidt?", "Who is the manager of Anna Schulz?"),
    ("Is the deadline at the end of May?", "Is the deadline at the end of June?"),
    ("What happens before the trial ends?", "What happens after the trial ends?"),
    ("Is it cheaper than $5?", "Is it cheaper than €5?"),
    ("Is -5 allowed?", "Is 5 allowed?"),
    ("May I bring two guests?", "May I bring three guests?"),
    ("Is it written in C++?", "Is it written in C#?"),
    ("Do you ship to the US?", "Do you ship to us?"),
]
"""Told apart by their marks: by their vectors, six of the fourteen are the same (0.950 to 1.000)."""
WORDED = [
    ("How do I enable notifications?", "How do I disable notifications?"),
    ("How do I open an account?", "How do I close an account?"),
    ("How do I increase the limit?", "How do I decrease the limit?"),
    (
        "Can a contractor take leave after a long time?",
        "Can an employee take leave after a long time?",
    ),
    ("What is the maximum?", "What is the minimum?"),
]
"""Told apart by their vectors, too: 0.54 to 0.84."""
NEAR = [
    ("How do I turn on dark mode?", "How do I turn off dark mode?"),
    ("Is it legal to record a phone call?", "Is it illegal to record a phone call?"),
    (
        "What should I do when the alarm in the left wing of the building goes off at night?",
        "What should I do when the alarm in the right wing of the building goes off at night?",
    ),
    (
        "How do I reset the admin password of the staging database server in the cluster?",
        "How do I reset the admin password of the production database server in the cluster?",
    ),
]
"""Told apart by their words alone: 0.952 to 0.963."""
APOSTROPHES = [
    ("Où est l'école ?", "Où est l'église ?"),
    ("Où est l’école ?", "Où est l’église ?"),
    ("What is the policy'always'free?", "What is the policy?"),
    ("quand ouvre d'habitude l'entrée?", "quand ouvre d'habitude l'annexe?"),
]
"""Words that differ only behind an apostrophe."""


def similar(
    one: str,
    other: str,
    threshold: float = SemanticRule().threshold,
    *,
    paraphrases: bool = False,
) -> bool:
    async def main() -> bool:
        first, second = await EMBEDDER.embed([one, other])
        known = [Known("k", one, first)]
        return bool(nearest(known, other, second, threshold, paraphrases=paraphrases))

    return trio.run(main)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_asks_the_same_is_found(one: str, other: str) -> None:
    assert similar(one, other)
    assert similar(other, one)


@pytest.mark.parametrize(("one", "other"), MARKED)
def test_numbers_names_negations_signs_and_order_are_not_confused(one: str, other: str) -> None:
    """However near the vectors are."""
    assert not may_ask_the_same(one, other, paraphrases=True)
    for mine, yours in ((one, other), (other, one)):
        assert not similar(mine, yours, threshold=0.0, paraphrases=True)


@pytest.mark.parametrize(("one", "other"), WORDED)
def test_other_words_are_told_apart_by_the_threshold(one: str, other: str) -> None:
    assert not similar(one, other, paraphrases=True)


@pytest.mark.parametrize(("one", "other"), NEAR)
def test_a_plain_word_is_another_question_unless_paraphrases_are_wanted(
    one: str, other: str
) -> None:
    assert not similar(one, other, threshold=0.0)
    assert similar(one, other, paraphrases=True)


@pytest.mark.parametrize(("one", "other"), APOSTROPHES)
def test_what_is_behind_an_apostrophe_is_a_part_of_its_word(one: str, other: str) -> None:
    assert not may_ask_the_same(one, other)
    assert may_ask_the_same("What's the policy?", "What is the policy?"), "but not an ending"


@given(st.text(max_size=30))
def test_a_text_has_the_marks_of_itself(text: str) -> None:
    assert may_ask_the_same(text, text)


@pytest.mark.parametrize(
    ("message", "question"),
    [
        (Message("user", "hello?"), "hello?"),
        (Message("user", (TextPart("hel"), TextPart("lo"))), "hello"),
        (Message("user", (TextPart("what is this?"), ImageUrlPart("u"))), None),
        (Message("assistant", "hello"), None),
        (Message("user", " "), None),
        (Message("user", "x" * (QUESTION_CHARS_MAX + 1)), None),
    ],
)
def test_only_a_short_text_of_the_user_may_be_said_otherwise(
    message: Message, question: str | None
) -> None:
    assert question_of(ChatRequest((message,))) == question
    assert question_of(ChatRequest(())) is None


@given(REQUESTS, REQUESTS, WORDS, WORDS)
def test_a_scope_is_everything_but_the_last_words(
    one: ChatRequest, other: ChatRequest, tenant: str, embedder: str
) -> None:
    def asking(request: ChatRequest, words: str) -> ChatRequest:
        return attrs.evolve(request, messages=(*request.messages, Message("user", words)))

    def scope(request: ChatRequest, tenant: str = tenant, embedder: str = embedder) -> str | None:
        return scope_of(tenant, "m", embedder, request)

    mine = asking(one, "a")
    assert scope(mine) == scope(asking(one, "b"))
    assert (scope(mine) == scope(asking(other, "a"))) == (one == other)
    assert scope(mine) != scope(mine, tenant=f"{tenant}!")
    assert scope(mine) != scope(mine, embedder=f"{embedder}!")


@given(st.lists(st.tuples(st.integers(0, 5), WORDS), max_size=12), st.integers(1, 4))
def test_what_was_used_least_is_forgotten(used: list[tuple[int, str]], most: int) -> None:
    known: tuple[Known, ...] = ()
    for number, words in used:
        known = with_known(known, Known(f"k{number}", words, Vector.of([1.0])), most)
    recent = list(dict.fromkeys(number for number, _ in reversed(used)))[:most]
    assert [each.key for each in known] == [f"k{number}" for number in reversed(recent)]


@given(st.lists(st.builds(Known, WORDS, WORDS, st.just(Vector.of([0.5, 1.0])))), st.data())
def test_an_index_comes_back_or_is_empty(known: list[Known], data: st.DataObject) -> None:
    written = encode_index("s", known) or b""
    assert decode_index("s", written) == tuple(known)
    assert decode_index("other", written) == ()
    at = data.draw(st.integers(0, len(written) - 1))
    assert decode_index("s", written[:at]) == ()
    assert decode_index("s", data.draw(st.binary() | st.none())) == ()


def test_vectors_of_another_length_or_of_no_numbers_are_near_to_nothing() -> None:
    odd = [Known("k", "q", Vector.of(numbers)) for numbers in ([1.0], [float("nan")] * 2)]
    assert nearest(odd, "q", Vector.of([1.0, 0.0]), 0.5) == []
    assert nearest(odd, "q", Vector(b""), 0.5) == []
    near = Known("n", "q", Vector.of([1.0, 0.0]))
    assert nearest([*odd, near], "q", Vector.of([1.0, 0.0]), 1.0) == [(1.0, near)]


def test_an_index_that_another_version_has_kept_is_not_there() -> None:
    assert decode_index("s", sealed("s", 3, 1024)) == ()
