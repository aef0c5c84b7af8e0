"""Splitting: nothing is lost, nothing is too long, and a passage can be read by itself."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.steps.texts import text as cutting
from orchestra.steps.texts.markdown import Kind, blocks, without_links
from orchestra.steps.texts.text import Piece, pieces, split

words = st.sampled_from(["a", "word", "and", "Then", "it", "stops.", "Why?", "e.g.", "`code`", "é"])
sentences = st.lists(words, min_size=1, max_size=40).map(" ".join)
marks = st.sampled_from(
    [
        "```",
        "````",
        "~~~",
        "```python",
        "  ```",
        "``` sh -x",
        "```" + "x" * 50,
        "``` " + "x y " * 40,
    ]
)
lines = st.one_of(
    sentences,
    marks,
    st.sampled_from(
        ["", "", "===", "---", "-----", "| a | b |", "|---|---|", "* * *", "#", "    x"]
    ),
    st.tuples(st.sampled_from(["# ", "## ", "### ", "- ", "1. ", "> ", "    "]), sentences).map(
        "".join
    ),
    st.text(max_size=30),
    st.integers(100, 400).map(lambda length: "x" * length),
)
texts = st.tuples(st.lists(lines, max_size=40), st.sampled_from(["\n", "\r\n"])).map(
    lambda parts: parts[1].join(parts[0])
)
sizes = st.integers(100, 400)
sources = st.sampled_from(["a.md", "a.rst", "a.txt"])


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def normal(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def cut(text: str, source: str, size: int, overlap: int) -> list[Piece]:
    return list(pieces(text, source=source, size_chars=size, overlap_chars=overlap))


@given(text=texts, source=sources, size=sizes, share=st.floats(0, 1))
@settings(max_examples=300, deadline=None)
def test_nothing_is_lost_or_doubled_and_nothing_is_too_long(
    text: str, source: str, size: int, share: float
) -> None:
    text = normal(text)
    overlap = int(size * share)
    found = cut(text, source, size, overlap)
    assert squeezed("".join(text[piece.start : piece.end] for piece in found)) == squeezed(text)
    for one, other in itertools.pairwise(found):
        assert one.end <= other.start
        assert not text[one.end : other.start].strip()
    for piece in found:
        assert piece.end - piece.start <= size
        assert piece.start - overlap <= piece.repeats <= piece.start
        assert 0 < len(piece.passage_text(text)) <= size + overlap
        assert squeezed(text[piece.start : piece.end]) in squeezed(piece.passage_text(text))


@given(text=texts, source=sources, size=sizes)
@settings(max_examples=200, deadline=None)
def test_code_is_cut_only_if_it_is_longer_than_a_passage(text: str, source: str, size: int) -> None:
    text = normal(text)
    borders = [piece.start for piece in cut(text, source, size, 0)]
    for block in blocks(text, rst=source == "a.rst"):
        if block.kind is Kind.FENCE and any(block.start < cut < block.end for cut in borders):
            assert block.end - block.start > size


fences = st.tuples(
    st.sampled_from(["```", "````", "~~~~~"]),
    st.sampled_from(["", "python", "python title=x", "y" * 40]),
    st.lists(st.integers(1, 60).map(lambda length: "CODE " * (length // 5 + 1)), max_size=20),
).map(lambda fence: "\n".join([fence[0] + fence[1], *fence[2], fence[0]]))
titles = st.integers(1, 95).map(lambda length: "# " + "T" * length)


@given(parts=st.lists(fences | sentences | titles, max_size=8), size=sizes, share=st.floats(0, 1))
@settings(max_examples=300, deadline=None)
def test_code_stays_code_and_prose_stays_prose(parts: list[str], size: int, share: float) -> None:
    """Read by itself, each passage has its code in fences, and nothing else in them."""
    text = "\n\n".join(parts)
    for passage in split(text, source="a.md", size_chars=size, overlap_chars=int(size * share)):
        for block in blocks(passage.text):
            said = passage.text[block.start : block.end].strip()
            if block.kind is Kind.FENCE:
                assert set("".join(said.splitlines()[1:-1])) <= set("CODE ")
                assert re.fullmatch(r"[`~]+", said.splitlines()[-1])
            else:
                assert "CODE" not in said


@given(text=texts, source=sources, size=sizes)
@settings(max_examples=200, deadline=None)
def test_every_passage_is_in_one_section_and_names_it(text: str, source: str, size: int) -> None:
    text = normal(text)
    found = blocks(text, rst=source == "a.rst")
    assert "".join(text[block.start : block.end] for block in found) == text
    for piece in cut(text, source, size, 0):
        inside = [b for b in found if b.start < piece.end and piece.start < b.end]
        prose = [block for block in inside if block.kind is not Kind.HEADING]
        assert all(block.headings == piece.headings for block in prose)


@given(text=texts, source=sources)
def test_ids_are_stable_and_differ(text: str, source: str) -> None:
    found = split(text, source=source)
    assert found == split(text, source=source)
    assert len({passage.id for passage in found}) == len(found)
    assert [passage.metadata["position"] for passage in found] == list(range(len(found)))
    elsewhere = {passage.id for passage in split(text, source="other.md")}
    assert not elsewhere & {passage.id for passage in found}


GUIDE = """\
---
title: A guide
---

# Guide

## Install

Run this:

```sh
# not a heading
pip install orchestra
```

Then read [the tutorial](tutorial.md). It takes a minute.

Setext
------

* first
* second
"""


def test_a_section_is_a_passage_under_its_headings() -> None:
    found = split(GUIDE, source="guide.md")
    assert [passage.metadata["heading"] for passage in found] == [
        "",
        "Guide > Install",
        "Guide > Setext",
    ]
    assert found[1].text.startswith("# Guide\n\n## Install\n\nRun this:\n\n```sh\n# not a heading")
    assert found[2].text == "Setext\n------\n\n* first\n* second"
    assert all(passage.source == "guide.md" for passage in found)


def test_long_code_is_cut_between_lines_and_fenced_again() -> None:
    code = "\n".join(f"line_{number:03}()" for number in range(40))
    text = f"# Code\n\n````python title=x\n{code}\n````\n\nAfterwards.\n"
    found = split(text, source="a.md", size_chars=200)
    assert len(found) > 2
    for passage in found[1:-1]:
        assert re.fullmatch(r"````python\n(line_\d{3}\(\)\n)+````", passage.text)
    assert found[0].text.startswith("# Code\n\n````python title=x\nline_000()\n")
    assert found[-1].text.endswith("\n````\n\nAfterwards.")
    assert found[-1].text.startswith("````python\nline_")


def test_code_that_fits_is_whole_though_its_heading_then_stands_alone() -> None:
    code = "```\n" + "code()\n" * 12 + "```"
    found = split(f"# {'T' * 50}\n\n{code}\n", source="a.md", size_chars=100)
    assert [passage.text for passage in found] == [f"# {'T' * 50}", code]


def test_a_line_of_code_that_is_too_long_is_cut_all_the_same() -> None:
    found = split("```\n" + "x" * 250 + "\n```\n", source="a.md", size_chars=100)
    assert all(passage.text.startswith("```\n") for passage in found)
    assert sum(passage.text.count("x") for passage in found) == 250


def test_a_long_mark_that_nothing_follows_is_cut_all_the_same() -> None:
    told = [each.text for each in split("```" + "a" * 900, source="a.md")]
    assert told == ["```" + "a" * 793 + "\n```", "```" + "a" * 20 + "\n" + "a" * 107]


def test_a_passage_that_goes_on_repeats_whole_sentences() -> None:
    text = " ".join(f"This is sentence number {number}." for number in range(20))
    found = split(text, source="a.txt", size_chars=200, overlap_chars=60)
    for before, after in itertools.pairwise(found):
        first = after.text.split(". ")[0]
        assert first in before.text
        assert after.text.startswith("This is sentence")


def test_a_short_paragraph_is_repeated_whole_or_not_at_all() -> None:
    text = "# H\n\n" + "A short one.\n\n" + "b " * 99
    assert split(text, source="a.md", size_chars=200, overlap_chars=20)[1].text.startswith(
        "A short one.\n\nb"
    )
    assert split(text, source="a.md", size_chars=200, overlap_chars=0)[1].text.startswith("b")


def test_what_announces_a_list_stays_with_it() -> None:
    items = "\n".join(f"- item {number}" for number in range(12))
    text = "x " * 60 + f"\n\nThere are some:\n\n{items}"
    assert split(text, source="a.md", size_chars=200, overlap_chars=0)[1].text.startswith(
        "There are some:\n\n- item 0"
    )


def test_a_list_is_cut_between_its_items() -> None:
    text = "\n".join(f"- item {number}. And more of it" for number in range(12))
    for passage in split(text, source="a.md", size_chars=120, overlap_chars=0):
        assert passage.text.startswith("- item")


def test_restructured_headings_are_known_by_the_order_of_their_lines() -> None:
    text = "=====\nTitle\n=====\n\nOne.\n\nPart\n~~~~\n\nTwo.\n\nNext\n====\n\nThree.\n"
    found = split(text, source="a.rst")
    assert [passage.metadata["heading"] for passage in found] == ["Title", "Title > Part", "Next"]


def test_a_heading_without_a_text_of_its_own_goes_with_the_next() -> None:
    found = split("# A\n# [B](b.md)\n#\ntext", source="a.md")
    assert [(p.text, p.metadata["heading"]) for p in found] == [("# A\n# [B](b.md)\n#\ntext", "")]


@pytest.mark.parametrize("text", ["", " \n\t\n", "\ufeff"[:0]])
def test_no_text_has_no_passages(text: str) -> None:
    assert split(text, source="a.md") == []


@pytest.mark.parametrize(("size", "overlap"), [(99, 0), (100, 101), (100, -1)])
def test_sizes_that_cannot_work_are_refused(size: int, overlap: int) -> None:
    with pytest.raises(ValueError, match=rf"size_chars={size}, overlap_chars={overlap}"):
        split("text", source="a.md", size_chars=size, overlap_chars=overlap)


def test_a_large_text_takes_time_in_proportion() -> None:
    """A megabyte in one section, and in one line."""
    assert len(split("A sentence of words. " * 50_000, source="a.txt")) > 1000
    assert len(split("A paragraph.\n\n" * 70_000, source="a.txt")) > 1000
    assert len(split("```\n" + "code\n" * 200_000, source="a.md")) > 1000


def test_a_line_of_more_than_a_thousand_characters_is_prose() -> None:
    """Every passage below a heading repeats it, and a stranger wrote it."""
    title, long = "x" * 998, "x" * 999
    assert [each.kind for each in blocks(f"# {title}\n\n# {long}")] == [Kind.HEADING, Kind.PROSE]
    assert [each.kind for each in blocks(f"{long}xx\n---")] == [Kind.PROSE]
    assert [each.kind for each in blocks(f"```{long}")] == [Kind.PROSE]


marked = st.text("# \tx\\", max_size=12)


@given(marked)
def test_a_heading_is_what_its_pattern_says(line: str) -> None:
    """A simpler model, which may take longer."""
    pattern = r" {0,3}(?P<level>#{1,6})(?:[ \t]+(?P<title>.*?))?(?:[ \t]+#+)?[ \t]*$"
    found = re.match(pattern, line)
    headings = [each.headings for each in blocks(line) if each.kind is Kind.HEADING]
    assert headings == ([((found["title"] or "").strip(" \t*_"),)] if found else [])


@given(st.text("![]()x", max_size=16))
def test_a_title_without_its_links_is_what_their_pattern_says(title: str) -> None:
    pattern = r"!?\[([^\]\n]*)\]\([^)\n]*\)"
    assert without_links(title) == re.sub(pattern, r"\1", title)


@given(st.text("a.)\n \t", max_size=12))
def test_sentences_and_words_end_where_their_patterns_say(text: str) -> None:
    for quick, slow in (
        (cutting._SENTENCE, r"[.!?][\"'”)\]*_`]*\s+(?=\S)|\n\s*\n(?=\S)"),
        (cutting._SPACE, r"\s+(?=\S)"),
    ):
        ends = [found.end() for found in quick.finditer(text)]
        assert ends == [found.end() for found in re.finditer(slow, text)]


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("# a\n" * 50_000, "a.md"),
        ("# x" + " " * 500_000 + "x", "a.md"),
        ("# x" + " #" * 300_000 + "x", "a.md"),
        ("[" * 500_000 + "\n---", "a.md"),
        ("a\n" * 100_000, "a.rst"),
        ("``` " + "x" * 500_000, "a.md"),
        ("a\n" + " \n" * 250_000 + "a", "a.md"),
    ],
    ids=["headings", "blanks", "hashes", "brackets", "lines", "a fence", "blank lines"],
)
def test_a_hostile_text_is_cut_as_any_other(text: str, source: str) -> None:
    """Where the work grows with the square of the text, these are never done."""
    found = split(text, source=source, size_chars=10_000, overlap_chars=10_000)
    assert found
    assert all(len(each.text) <= 20_000 for each in found)
