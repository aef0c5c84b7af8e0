"""Quotable sentences: all of the prose, none of the code."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.providers.extractive.sentences import _LEFT_OUT, sentences

words = st.sampled_from(
    ["the", "run", "is", "cancelled", "when", "its", "client", "leaves", "`x.y`"]
)
plain = st.lists(words, min_size=8, max_size=20).map(lambda said: f"Then {' '.join(said)} at once.")
noise = st.sampled_from(
    [
        "```python\nThis is a line of code that nobody should quote.\n```",
        "~~~\nThis is a line of code that nobody should quote.\n~~~",
        "    This is a line of code that nobody should quote.",
        "| this is | a row of a table | that nobody should quote |\n|---|---|---|",
        "# A heading that nobody should quote by itself",
        "A heading that nobody should quote\n===========",
        "-----------",
        "<div>This is some HTML that nobody should quote.</div>",
        "[link]: https://example.org/that/nobody/should/quote",
        "What does nobody want to have quoted as an answer?",
        "There are some things that follow here:",
        ".. note:: that nobody should quote by itself",
        ":field: that nobody should quote by itself",
        "`code.that` `nobody.should` `quote.by` `itself.at` `all`",
        "x " * 400 + "that nobody should quote.",
    ]
)


styles = st.sampled_from(["{}", "- {}", "3. {}", "> {}", "* [x] {}", "**{}**", "*{}*"])


@given(st.lists(st.tuples(plain, styles) | noise.map(lambda text: (text, None)), max_size=8))
def test_prose_is_quoted_in_order_and_nothing_else_is(
    parts: list[tuple[str, str | None]],
) -> None:
    text = "\n\n".join(said if how is None else how.format(said) for said, how in parts)
    assert sentences(text) == [said for said, how in parts if how is not None]


@given(st.lists(plain, min_size=1, max_size=5))
def test_a_paragraph_is_cut_into_its_sentences_wherever_its_lines_break(said: list[str]) -> None:
    assert sentences("\n".join(" ".join(said).split(" "))) == said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "**Stop means stop.** When the *client* leaves, __all__ of it is [closed](a.md).",
            ["Stop means stop. When the client leaves, all of it is closed."],
        ),
        (
            "It is slow, e.g. Because of Mr. A. Smith and 1.5 of it. The other one is not slow.",
            [
                "It is slow, e.g. Because of Mr. A. Smith and 1.5 of it.",
                "The other one is not slow.",
            ],
        ),
        ("A sentence of five words. Right.", ["A sentence of five words. Right."]),
        (
            "Keep `**this** [as](it)` is, and snake_case_names and 2*3*4 too.",
            ["Keep `**this** [as](it)` is, and snake_case_names and 2*3*4 too."],
        ),
        (
            "See `the issue tracker <https://example.org>`__ for all that is planned.",
            ["See the issue tracker for all that is planned."],
        ),
        (
            "1. one thing without a full stop\n2. another thing without it",
            [
                "one thing without a full stop",
                "another thing without it",
            ],
        ),
        (
            "A logo ![of a cat](cat.png) with [![a link](b.png)](c.md) and a <b>tag</b> in it.",
            ["A logo with and a tag in it."],
        ),
        ("A zero \0 in the middle of some text.", ["A zero in the middle of some text."]),
        ("", []),
        ("Too short.", []),
        ("...", []),
    ],
)
def test_examples(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@given(st.text(alphabet='a *_`[]()<>.!\n-#|\0"A', max_size=200))
def test_any_text_gives_single_lines(text: str) -> None:
    assert all("\n" not in sentence and sentence.strip() for sentence in sentences(text))


@pytest.mark.parametrize(
    "hostile", ["**a ", "`a ", "[a", "<a ", "*a ", "`a <", "_a ", "__a ", "a."]
)
def test_no_text_takes_long(hostile: str) -> None:
    began = time.perf_counter()
    sentences(hostile * 50_000)
    assert time.perf_counter() - began < 10


@given(st.text(" -=|<>[]:.a", max_size=12))
def test_what_is_left_out_is_what_its_pattern_says(line: str) -> None:
    """A simpler model, which may take longer."""
    marks = r"\|.*|[-=~*_+|:\s]{3,}|<[^>]*>.*|\[[^\]]+\]:\s.*|:[\w-]+:.*|\.\.\s.*"
    assert bool(_LEFT_OUT.match(line)) == bool(re.match(rf"\s*(?:{marks})$", line))


@pytest.mark.parametrize(
    "text", [" " * 300_000 + "x", "x " + "1. " * 100_000, "`" + " " * 300_000, "**a" * 20_000]
)
def test_a_hostile_text_is_read_as_any_other(text: str) -> None:
    """Where the work grows with the square of the text, it is never read."""
    assert sentences(text) == []


def test_a_long_paragraph_is_read_in_parts() -> None:
    said = "The run is cancelled when its client leaves. "
    found = sentences(said * 1000)
    assert len(found) > 990
    assert set(found) >= {said.strip()}
