"""Markdown as blocks: headings, fenced code, and everything else, each with its position.

This also reads plain text (all of it paragraphs) and the headings of reStructuredText. A block is
a span of the text, and all blocks joined are the whole text.

The text is untrusted, so headings are parsed with string methods, which read a line once. A
regular expression that can match from many positions would read the line again from each of them,
and block the interpreter meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum

import attrs

_FENCE = re.compile(r"\s*(?P<mark>`{3,8}(?!`)|~{3,8}(?!~))(?P<info>[^`\n]*)$")
_UNDERLINES = "=-"
_UNDERLINES_RST = "=-~^\"'`#*+.:_"
_UNDERLINE_CHARS_MIN = 3
_BLANKS = " \t"
_INDENT_MAX = 3
_LEVEL_MAX = 6
_MARKED_CHARS_MAX = 1000
"""A longer line is never a heading or fence: each passage below a heading repeats the heading."""
_LANGUAGE_CHARS_MAX = 20


class Kind(Enum):
    """The kind of a block."""

    HEADING = "heading"
    FENCE = "fence"
    PROSE = "prose"
    """A paragraph, list, table or quotation: lines without a blank line between them."""


@attrs.frozen
class Block:
    """The text from `start` to `end`, with the blank lines after it.

    `headings` are the titles above the block, the outermost first; for a heading, its own is
    included. `opens` and `closes` are the marks of a fence, to be used for the parts that it is cut
    into. Of the words after the opening mark, only the language is kept.
    """

    start: int
    end: int
    kind: Kind
    headings: tuple[str, ...]
    opens: str = ""
    closes: str = ""


def blocks(text: str, *, rst: bool = False) -> list[Block]:
    """All blocks of a text, in order and without gaps; lines have to end with a line feed only."""
    return list(_Reader(text, rst=rst).blocks())


class _Reader:
    """Reads each line once; a block begins where the last one ended."""

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
        """Move past one block, but not the blank lines after it; return its kind and its marks."""
        line = self._lines[self._line].rstrip("\n")
        if fence := self._fence(line):
            self._pass_fence(fence["mark"])
            language = (fence["info"].split() or [""])[0][:_LANGUAGE_CHARS_MAX]
            return Kind.FENCE, fence["mark"] + language, fence["mark"]
        self._line += 1
        if heading := self._heading(line):
            self._enter(*heading)
            return Kind.HEADING, "", ""
        if line.strip() and self._pass_paragraph(line):
            return Kind.HEADING, "", ""
        return Kind.PROSE, "", ""

    def _pass_fence(self, mark: str) -> None:
        """Move past the closing line or, without one, to the end of the text, as in CommonMark."""
        closing = re.compile(rf"\s*{re.escape(mark)}{re.escape(mark[0])}*[ \t]*$")
        self._line += 1
        while self._line < len(self._lines):
            self._line += 1
            if closing.match(self._lines[self._line - 1].rstrip("\n")):
                break

    def _pass_paragraph(self, line: str) -> bool:
        """Move past a paragraph; return True if its second or third line underlines a heading."""
        first, above, count = line, line, 1
        while self._line < len(self._lines):
            line = self._lines[self._line].rstrip("\n")
            if not line.strip() or self._fence(line) or self._heading(line):
                return False
            self._line += 1
            overlined = self._rst and count == 2 and first.rstrip() == line.rstrip()  # noqa: PLR2004
            if (count == 1 or overlined) and self._underlines_heading(above, line):
                self._enter(self._level(line[0]), above)
                return True
            above, count = line, count + 1
        return False

    def _underlines_heading(self, above: str, line: str) -> bool:
        is_title = len(above) <= _MARKED_CHARS_MAX and not self._is_rule(above)
        return is_title and self._is_rule(line)

    def _fence(self, line: str) -> re.Match[str] | None:
        """The match of a line that opens a fence, in Markdown only; None for other lines."""
        return None if self._rst or len(line) > _MARKED_CHARS_MAX else _FENCE.match(line)

    def _heading(self, line: str) -> tuple[int, str] | None:
        """The level and title of a Markdown heading line; None for every other line."""
        return None if self._rst or len(line) > _MARKED_CHARS_MAX else _heading(line)

    def _is_rule(self, line: str) -> bool:
        rule = line.rstrip()
        enough = len(rule) >= _UNDERLINE_CHARS_MIN
        return enough and rule[0] in self._underlines and set(rule) == {rule[0]}

    def _level(self, underline: str) -> int:
        """The level of a heading by its underline.

        In Markdown, `=` is 1 and `-` is 2; in reStructuredText, the order of first use counts.
        """
        if underline not in self._levels:
            self._levels += underline
        return self._levels.index(underline) + 1

    def _enter(self, level: int, title: str) -> None:
        plain = without_links(title).strip(" \t*_")
        self._titles = [above for above in self._titles if above[0] < level]
        self._titles.append((level, plain))


def _heading(line: str) -> tuple[int, str] | None:
    """The level and the title of a line `## title ##`; None if it is no such heading."""
    marked = line.lstrip(" ")
    rest = marked.lstrip("#")
    level = len(marked) - len(rest)
    indent = len(line) - len(marked)
    stands_alone = not rest or rest[0] in _BLANKS
    if not (stands_alone and indent <= _INDENT_MAX and 1 <= level <= _LEVEL_MAX):
        return None
    title = rest.strip(_BLANKS)
    unclosed = title.rstrip("#")
    return level, unclosed.rstrip(_BLANKS) if unclosed.endswith((" ", "\t")) else title


def without_links(title: str) -> str:
    """A title in which each link and image, `[words](where)`, is replaced by its words."""
    kept: list[str] = []
    done = start = 0  # the end of what is in `kept`, and where to look for the next link
    while (closing := title.find("](", start)) >= 0:
        opening = title.find("[", title.rfind("]", start, closing) + 1 or start, closing)
        if opening < 0:
            start = closing + 1
            continue
        end = title.find(")", closing)
        if end < 0:
            break
        is_image = title.startswith("!", opening - 1) and opening > done
        kept += title[done : opening - is_image], title[opening + 1 : closing]
        done = start = end + 1
    return "".join([*kept, title[done:]])
