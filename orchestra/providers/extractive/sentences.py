"""Finds the sentences of a text that can be quoted: complete sentences of plain words.

Markdown markup is removed. Code, tables, headings and rules are left out, since a single line of
them has no meaning by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from orchestra.steps.texts.markdown import Kind, blocks

_LEFT_OUT = re.compile(
    r"""(?:
        [-=~*_+|:\s]{3,}                # a rule, or the underline of a heading
      | \s*\|.*                         # a row of a table
      | \s*<[^>]*>.*                    # HTML
      | \s*\[[^\]]+\]:\s.*              # the target of a link
      | \s*:[\w-]+:.*                   # a field of reStructuredText
      | \s*\.\.\s.*                     # a directive of reStructuredText
    )$""",
    re.VERBOSE,
)
_CODE_INDENT = re.compile(r"(?: {4}|\t)(?!\s*(?:[-*+]|\d+[.)])\s)")
_ITEM = re.compile(r"\s*(?:[-*+]|\d{1,3}[.)])\s+(?:\[[ xX]\]\s+)?")
_QUOTED = re.compile(r"^\s*>\s?")

# The patterns are bounded, so that matching takes time proportional to the length of the text.
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
"""A sentence with fewer words ("One nursery.") is joined to the next one."""
UNIT_CHARS_MAX = 10_000
"""A longer unit is split, since matching the patterns in it would take too long."""
CHARS_MAX = 500
"""The longest sentence that is quoted; longer texts are seldom sentences."""


def sentences(text: str) -> list[str]:
    """The quotable sentences of a text, in order, each on one line and without Markdown markup."""
    found = []
    for block in blocks(text):
        if block.kind is Kind.PROSE:
            for unit in _units(text[block.start : block.end]):
                for at in range(0, len(unit), UNIT_CHARS_MAX):
                    found += _cut(_plain(unit[at : at + UNIT_CHARS_MAX]))
    return [sentence for sentence in found if _is_quotable(sentence)]


def _units(prose: str) -> Iterator[str]:
    """The units of a block: its paragraphs and list items, each with its lines joined."""
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
    """A unit without the markup of images, links, tags and emphasis; code spans are unchanged."""
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
    """Split a unit into sentences, and join short ones to the next."""
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
    """Whether a sentence can be quoted alone: mostly words, not too long, and no question."""
    prose = _CODE_SPAN.sub("", sentence)
    words = _WORD.findall(prose)
    enough = len(words) >= WORDS_MIN - 1 and sum(map(len, words)) * 2 > len(prose)
    return enough and len(sentence) <= CHARS_MAX and not sentence.endswith((":", "?", "…"))
