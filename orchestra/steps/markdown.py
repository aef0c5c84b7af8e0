"""Markdown as blocks: headings, fenced code, and everything else, each with its place.

Also reads plain text (it is all paragraphs) and the headings of reStructuredText. A
block is a span of the text, so that whoever puts blocks together loses nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum

import attrs

_FENCE = re.compile(r"\s*(?P<mark>`{3,8}(?!`)|~{3,8}(?!~))(?P<info>[^`\n]*)$")
_ATX = re.compile(r" {0,3}(?P<level>#{1,6})(?:[ \t]+(?P<title>.*?))?(?:[ \t]+#+)?[ \t]*$")
_LINK = re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)")
_UNDERLINES = "=-"
_UNDERLINES_RST = "=-~^\"'`#*+.:_"
_UNDERLINE_CHARS_MIN = 3
_LANGUAGE_CHARS_MAX = 20


class Kind(Enum):
    """What a block is."""

    HEADING = "heading"
    FENCE = "fence"
    PROSE = "prose"
    """A paragraph, a list, a table, a quotation: lines without a blank one."""


@attrs.frozen
class Block:
    """The text from `start` to `end`, with the blank lines after it.

    `headings` are the titles that it stands under, the outermost first; a heading
    stands under itself. `opens` and `closes` are a fence's own marks, to fence again what
    is cut out of it; of the words after the first mark only the language is kept.
    """

    start: int
    end: int
    kind: Kind
    headings: tuple[str, ...]
    opens: str = ""
    closes: str = ""


def blocks(text: str, *, rst: bool = False) -> list[Block]:
    """All of the text, in order and without a gap; its lines end in a line feed alone."""
    return list(_Reader(text, rst=rst).blocks())


class _Reader:
    """Goes over the lines once. Rules: a block begins where the last has ended."""

    def __init__(self, text: str, *, rst: bool) -> None:
        self._lines = re.findall(r"[^\n]*\n|[^\n]+", text)
        self._rst = rst
        self._underlines = _UNDERLINES_RST if rst else _UNDERLINES
        self._levels = "" if rst else _UNDERLINES
        self._titles: list[tuple[int, str]] = []
        self._line = 0

    def blocks(self) -> Iterator[Block]:
        start = 0
        while self._line < len(self._lines):
            first = self._line
            kind, *marks = self._next()
            while self._line < len(self._lines) and not self._lines[self._line].strip():
                self._line += 1
            end = start + sum(map(len, self._lines[first : self._line]))
            yield Block(start, end, kind, tuple(title for _, title in self._titles), *marks)
            start = end

    def _next(self) -> tuple[Kind, str, str]:
        """Pass over one block, but for the blank lines after it; its kind and marks."""
        line = self._lines[self._line].rstrip("\n")
        if fence := self._match(_FENCE, line):
            self._pass_fence(fence["mark"])
            language = (fence["info"].split() or [""])[0][:_LANGUAGE_CHARS_MAX]
            return Kind.FENCE, fence["mark"] + language, fence["mark"]
        self._line += 1
        if heading := self._match(_ATX, line):
            self._enter(len(heading["level"]), heading["title"] or "")
            return Kind.HEADING, "", ""
        if line.strip() and self._pass_paragraph(line):
            return Kind.HEADING, "", ""
        return Kind.PROSE, "", ""

    def _pass_fence(self, mark: str) -> None:
        """To behind the line that closes it, or to the end of the text, as CommonMark says."""
        closing = re.compile(rf"\s*{re.escape(mark)}{re.escape(mark[0])}*[ \t]*$")
        self._line += 1
        while self._line < len(self._lines):
            self._line += 1
            if closing.match(self._lines[self._line - 1].rstrip("\n")):
                break

    def _pass_paragraph(self, line: str) -> bool:
        """To behind its last line; True if its second or third underlines a heading."""
        above = [line]
        while self._line < len(self._lines):
            line = self._lines[self._line].rstrip("\n")
            if not line.strip() or self._match(_FENCE, line) or self._match(_ATX, line):
                return False
            self._line += 1
            if self._underlines_heading(above, line):
                self._enter(self._level(line[0]), above[-1])
                return True
            above.append(line)
        return False

    def _underlines_heading(self, above: list[str], line: str) -> bool:
        overlined = self._rst and [above[0].rstrip(), above[-1]] == [line.rstrip(), *above[1:]]
        return (
            self._is_rule(line) and not self._is_rule(above[-1]) and (len(above) == 1 or overlined)
        )

    def _match(self, pattern: re.Pattern[str], line: str) -> re.Match[str] | None:
        """What only Markdown has."""
        return None if self._rst else pattern.match(line)

    def _is_rule(self, line: str) -> bool:
        rule = line.rstrip()
        enough = len(rule) >= _UNDERLINE_CHARS_MIN
        return enough and rule[0] in self._underlines and set(rule) == {rule[0]}

    def _level(self, underline: str) -> int:
        """In Markdown `=` is 1 and `-` is 2; in reStructuredText, what comes first is 1."""
        if underline not in self._levels:
            self._levels += underline
        return self._levels.index(underline) + 1

    def _enter(self, level: int, title: str) -> None:
        plain = _LINK.sub(r"\1", title).strip(" \t*_")
        self._titles = [above for above in self._titles if above[0] < level]
        self._titles.append((level, plain))
