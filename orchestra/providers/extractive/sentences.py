"""The sentences of a text that can be quoted: plain, complete, and in words.

Markdown's marks are removed. Code, tables, headings and rules are left out, since a line of them
means nothing by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from orchestra.steps.texts.markdown import Kind, blocks

_LEFT_OUT = re.compile(
    r"""(?:
        [-=~*_+|:\s]{3,}                # a rule, or what underlines a heading
      | \s*\|.*                         # a row of a table
      | \s*<[^>]*>.*                    # HTML
      | \s*\[[^\]]+\]:\s.*              # where a link leads
      | \s*:[\w-]+:.*                   # a field of reStructuredText
      | \s*\.\.\s.*                     # a directive of it
    )$""",
    re.VERBOSE,
)
_CODE_INDENT = re.compile(r"(?: {4}|\t)(?!\s*(?:[-*+]|\d+[.)])\s)")
_ITEM = re.compile(r"\s*(?:[-*+]|\d{1,3}[.)])\s+(?:\[[ xX]\]\s+)?")
_QUOTED = re.compile(r"^\s*>\s?")

# Bounded, so that the time is proportional to the text's length.
_CODE_SPAN = re.compile(r"(`{1,3})(?!`)[^\n]{1,300}?(?<!`)\1(?!`)")
_IMAGE = re.compile(r"!\[[^\[\]]{0,300}\](?:\([^()]{0,500}\)|\[[^\[\]]{0,100}\])")
_LINK = re.compile(r"\[([^\[\]]{0,300})\](?:\([^()]{0,500}\)|\[[^\[\]]{0,100}\])")
_LINK_RST = re.compile(r"`([^`<>]{1,300}?)\s{0,9}<[^<>]{1,500}>`_{1,2}")
_TAG = re.compile(r"</?[A-Za-z][\w-]*(?:\s[^<>]{0,500})?/?>")
_STRONG = re.compile(r"(\*\*|__)(?=\S)(.{1,500}?)(?<=\S)\1")
_EMPHASIS = re.compile(r"(?<![\w*])([*_])(?=[^\s*_])([^*]{1,500}?)(?<=\S)\1(?!\w)")
_TAKEN_OFF = (
    (_IMAGE, " "),
    (_LINK, r"\1"),
    (_TAG, " "),
    (_STRONG, r"\2"),
    (_EMPHASIS, r"\2"),
)

_END = re.compile(r"[.!?][\"”')\]]*\s+(?=[\"“'(\[]*[A-Z0-9\0])")
_ABBREVIATED = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|approx|Mr|Mrs|Ms|Dr|St|No|Fig)|\b[A-Z])\.\s+$"
)
_WORD = re.compile(r"[^\W\d_]{2,}")

WORDS_MIN = 5
"""A shorter sentence ("One nursery.") is joined to the next one."""
UNIT_CHARS_MAX = 10_000
"""A longer unit is split, since matching patterns in it would block other tasks."""
CHARS_MAX = 500
"""The longest sentence; a longer text is seldom a sentence."""


def sentences(text: str) -> list[str]:
    """The text's sentences in order, each on one line and without Markdown's marks."""
    found = []
    for block in blocks(text):
        if block.kind is Kind.PROSE:
            for unit in _units(text[block.start : block.end]):
                for at in range(0, len(unit), UNIT_CHARS_MAX):
                    found += _cut(_plain(unit[at : at + UNIT_CHARS_MAX]))
    return [sentence for sentence in found if _is_quotable(sentence)]


def _units(prose: str) -> Iterator[str]:
    """Each paragraph or list item of a block, with its lines joined."""
    lines = [_QUOTED.sub("", line) for line in prose.splitlines()]
    if _CODE_INDENT.match(lines[0]):
        return
    unit: list[str] = []
    for line in lines:
        if _LEFT_OUT.match(line) or not line.strip():
            continue
        if item := _ITEM.match(line):
            yield " ".join(unit)
            unit = []
        unit.append(line[item.end() if item else 0 :].strip())
    yield " ".join(unit)


def _plain(unit: str) -> str:
    """The text without marks of images, links, tags and emphasis; code spans are unchanged."""
    spans: list[str] = []

    def put_aside(found: re.Match[str]) -> str:
        spans.append(found.group())
        return f"\0{len(spans) - 1}\0"

    text = _LINK_RST.sub(r"\1", unit.replace("\0", " "))
    text = _CODE_SPAN.sub(put_aside, text)
    for pattern, kept in _TAKEN_OFF:
        text = pattern.sub(kept, text)
    text = " ".join(text.split())
    return re.sub("\0(\\d+)\0", lambda found: spans[int(found[1])], text)


def _cut(unit: str) -> list[str]:
    """The unit's sentences, with short ones joined to the next."""
    ends = [found.end() for found in _END.finditer(unit)]
    starts = [0, *(end for end in ends if not _ABBREVIATED.search(unit[max(0, end - 12) : end]))]
    parts = [unit[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
    joined: list[str] = []
    short, words = False, 0
    for part in parts:
        if short:
            joined[-1] += f" {part}"
        else:
            joined.append(part)
            words = 0
        words += len(_WORD.findall(part))
        short = words < WORDS_MIN
    if short and len(joined) > 1:
        last = joined.pop()
        joined[-1] += f" {last}"
    return joined


def _is_quotable(sentence: str) -> bool:
    """Whether a sentence has enough words to be quoted alone."""
    prose = _CODE_SPAN.sub("", sentence)
    words = _WORD.findall(prose)
    enough = len(words) >= WORDS_MIN - 1 and sum(map(len, words)) * 2 > len(prose)
    return enough and len(sentence) <= CHARS_MAX and not sentence.endswith((":", "?", "…"))
