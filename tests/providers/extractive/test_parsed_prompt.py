"""Prompts: the question and the sources are found wherever they stand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.providers.extractive.parsed_prompt import ParsedPrompt, Source, read
from orchestra.values import Message

texts = st.sampled_from(
    ["One.", "Two words: here.", "Is it?\n\nIt is.", "# Heading\n\n- item [7]\n[9] note", "a/b c"]
)
labels = st.sampled_from(
    ["", "docs/a.md", "a.rst — The title", "https://x.org/y — A > B", "b.md - C"]
)
questions = st.sampled_from(["What is a run?", "Why is `a.b` so? ", "How much is 1.5 worth?"])


def one(content: str) -> ParsedPrompt:
    return read([Message("user", content)])


@given(
    sources=st.lists(st.tuples(labels, texts), min_size=1, max_size=5),
    question=questions,
    shape=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    number=st.integers(1, 3),
)
def test_sources_and_question_are_found_in_any_order(
    sources: list[tuple[str, str]],
    question: str,
    shape: tuple[bool, bool, bool],
    number: int,
) -> None:
    """With the question before or after, in the same message or another, said to be one or not."""
    first, explicit, apart = shape
    marked = "\n".join(
        f"[{i}] {label}: {text}" if label else f"[{i}] {text}"
        for i, (label, text) in enumerate(sources, number)
    )
    asked = f"how-to question: {question}" if explicit else question
    parts = [f"Be brief.\n\n{asked}", marked] if first else [marked, asked]
    messages = [Message("user", part) for part in (parts if apart else ["\n\n".join(parts)])]
    assert read(messages) == ParsedPrompt(
        question.strip(),
        tuple(Source(i, *source) for i, source in enumerate(sources, number)),
    )


def test_the_label_may_have_a_line_of_its_own() -> None:
    asked = one("What?\n[1] docs/a.md — 2. The title\nText: of it.\n[2] docs/b.md:\nMore.")
    assert asked.sources == (
        Source(1, "docs/a.md — 2. The title", "Text: of it."),
        Source(2, "docs/b.md", "More."),
    )


@pytest.mark.parametrize("text", ["Note: this", "e.g.: this", "A file a.md: this", "and/or: this"])
def test_what_only_looks_like_a_label_is_text(text: str) -> None:
    assert one(f"[1] {text}").sources == (Source(1, "", text),)


def test_a_statement_after_the_sources_is_part_of_the_last() -> None:
    asked = one("[1] One.\n\nTwo.")
    assert asked == ParsedPrompt("", (Source(1, "", "One.\n\nTwo."),))


def test_a_single_source_that_asks_something_stays_a_source() -> None:
    assert one("[1] What is it?") == ParsedPrompt("", (Source(1, "", "What is it?"),))


def test_without_marks_paragraphs_are_the_sources() -> None:
    messages = [
        Message("system", "A run is one execution.\n\nA plan is not."),
        Message("user", "Why?"),
    ]
    assert read(messages) == ParsedPrompt(
        "Why?", (Source(0, "", "A run is one execution."), Source(0, "", "A plan is not."))
    )


def test_where_nothing_asks_the_last_paragraph_does() -> None:
    assert one("A fact.\n\nTell me about runs.") == ParsedPrompt(
        "Tell me about runs.", (Source(0, "", "A fact."),)
    )


def test_the_last_question_counts() -> None:
    messages = [
        Message("user", "What is a plan?"),
        Message("assistant", "A plan is a plan."),
        Message("user", "What is a run?"),
    ]
    assert read(messages).question == "What is a run?"


@pytest.mark.parametrize("content", ["", " \n\n "])
def test_nothing_asks_nothing(content: str) -> None:
    assert one(content) == ParsedPrompt("", ())
    assert read([]) == ParsedPrompt("", ())
