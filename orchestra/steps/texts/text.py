"""Cuts texts into passages of a bounded size, along the structure of the text.

A passage never spans two sections, so one path of headings says where it is from. It ends with a
block, a list item or a sentence if possible. Fenced code is cut only if it alone is longer than a
passage may be; then it is cut between lines, and each part is fenced again.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

import attrs

from orchestra.steps.texts.markdown import Block, Kind, blocks
from orchestra.values import Passage, Scalar

SIZE_CHARS = 800
"""About 200 tokens: long enough to answer from, short enough for a precise embedding."""
OVERLAP_CHARS = 100
_SIZE_CHARS_MIN = 100  # a fence's marks take up to 37 of them

_ITEM = re.compile(r"\n(?=[ \t]*(?:[-*+|]|\d+[.)])[ \t|])")
# Possessive: white space is read once, from its start. From each of its characters, the time would
# be quadratic.
_SENTENCE = re.compile(r"[.!?][\"'”)\]*_`]*+\s++(?=\S)|(?<!\s)[^\S\n]*+\n\s++(?<=\n)(?=\S)")
_SPACE = re.compile(r"(?<!\s)\s++(?=\S)")


def split(
    text: str,
    *,
    source: str,
    size_chars: int = SIZE_CHARS,
    overlap_chars: int = OVERLAP_CHARS,
) -> list[Passage]:
    """The text as passages of at most `size_chars` + `overlap_chars` each, in order.

    The text is read as reStructuredText if `source` ends in `.rst`, otherwise as Markdown or plain
    text. A passage that continues a section begins with the last sentences of the one before, as
    far as they fit into `overlap_chars`. Apart from these, only white space is lost or repeated.
    The metadata are `heading` (the titles above the passage, joined by " > ") and `position`
    (0, 1, …). Ids depend only on source, heading and text.

    Raises:
        ValueError: `size_chars` is less than 100, or `overlap_chars` is not between 0 and
            `size_chars`.
    """
    if size_chars < _SIZE_CHARS_MIN or not 0 <= overlap_chars <= size_chars:
        raise ValueError(
            f"split(size_chars={size_chars}, overlap_chars={overlap_chars}): size_chars must be "
            f"{_SIZE_CHARS_MIN} or more, overlap_chars between 0 and that"
        )
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    found = pieces(text, source=source, size_chars=size_chars, overlap_chars=overlap_chars)
    seen: Counter[str] = Counter()
    passages: list[Passage] = []
    for position, piece in enumerate(found):
        passage = _passage(piece, text, source, position)
        seen[passage.id] += 1
        if seen[passage.id] > 1:  # the same words under the same heading
            passage = attrs.evolve(passage, id=f"{passage.id}-{seen[passage.id]}")
        passages.append(passage)
    return passages


@attrs.frozen
class Piece:
    """The text from `start` to `end`, with what is needed to read it by itself.

    `repeats` is where the repeated sentences begin; it is `start` if there are none. `opens` and
    `closes` are the marks of a fence, if the piece begins or ends inside fenced code.
    """

    start: int
    end: int
    headings: tuple[str, ...]
    repeats: int
    opens: str = ""
    closes: str = ""

    def passage_text(self, text: str) -> str:
        """The text of the passage; `text` is the whole text."""
        inside = text[self.repeats : self.end]
        inside = inside.strip("\n") if self.opens else inside.strip()
        return "\n".join(filter(None, (self.opens, inside.rstrip(), self.closes)))


def _passage(piece: Piece, text: str, source: str, position: int) -> Passage:
    own = piece.passage_text(text)
    heading = " > ".join(filter(None, piece.headings))
    digest = hashlib.sha256(f"{source}\0{heading}\0{own}".encode("utf-8", "replace"))
    metadata: dict[str, Scalar] = {"heading": heading, "position": position}
    return Passage(digest.hexdigest()[:20], own, source, metadata=metadata)


def pieces(text: str, *, source: str, size_chars: int, overlap_chars: int) -> Iterator[Piece]:
    """The text in pieces, each of at most `size_chars` from `start` to `end`.

    They follow one another without gaps; pieces of only white space are left out.
    """
    rst = PurePosixPath(source).suffix.lower() == ".rst"
    for section in _sections(blocks(text, rst=rst)):
        for piece in _Cutter(text, section, size_chars, overlap_chars).pieces():
            if text[piece.start : piece.end].strip():
                yield piece


def _sections(found: list[Block]) -> Iterator[list[Block]]:
    """Each heading with the blocks after it; consecutive headings stay together."""
    section: list[Block] = []
    for block in found:
        if block.kind is Kind.HEADING and section and section[-1].kind is not Kind.HEADING:
            yield section
            section = []
        section.append(block)
    if section:
        yield section


class _Cutter:
    """Cuts one section. `_at` is the start of the next piece, and only increases."""

    def __init__(self, text: str, section: list[Block], size: int, overlap: int) -> None:
        self._text = text
        self._section = section
        self._size = size
        self._overlap = overlap
        self._at = self._repeats = section[0].start
        self._opens = ""

    def pieces(self) -> Iterator[Piece]:
        previous = None
        for block in self._section:
            if block.end > self._end_max:
                if previous is not None and self._is_cut_before(block, previous):
                    yield self._cut_between(previous, block)
                while block.end > self._end_max:
                    yield self._cut_inside(block)
            previous = block
        yield self._cut(self._section[-1].end)

    @property
    def _end_max(self) -> int:
        """The last possible end of the next piece, which leaves room for a fence's opening mark."""
        return self._at + self._size - (len(self._opens) + 1 if self._opens else 0)

    def _is_cut_before(self, block: Block, previous: Block) -> bool:
        """Whether to cut before the block; not after a mere heading if the block is cut anyway."""
        fits = block.kind is Kind.FENCE and block.end - block.start <= self._size
        return block.start > self._at and (fits or previous.kind is not Kind.HEADING)

    def _cut_between(self, previous: Block, block: Block) -> Piece:
        """Cut before the block, or before the line with a colon that introduces it."""
        announced = self._text[previous.start : previous.end].rstrip().endswith(":")
        fits = block.end - previous.start <= self._size
        cut_anyway = block.end - block.start > self._size
        if announced and (fits or cut_anyway) and previous.start > self._at:
            return self._cut(previous.start)
        return self._cut(block.start, repeat=previous)

    def _cut_inside(self, block: Block) -> Piece:
        if block.kind is not Kind.FENCE:
            window = self._text[self._at : self._end_max]
            return self._cut(self._at + _last_break(window), repeat=block)
        code = self._text.find("\n", block.start) + 1 or block.end  # or there is only the mark
        end = self._end_max - len(block.closes) - 1
        if code >= end and block.start > self._at:
            return self._cut(block.start)  # after a heading that leaves no room for code
        line = self._text.rfind("\n", max(code, self._at), end) + 1
        return self._cut(line or end, inside=block)

    def _cut(self, end: int, *, repeat: Block | None = None, inside: Block | None = None) -> Piece:
        """The piece up to `end`; the next repeats the end of a block or continues inside one."""
        closes = inside.closes if inside else ""
        piece = Piece(self._at, end, self._section[-1].headings, self._repeats, self._opens, closes)
        self._opens = inside.opens if inside else ""
        self._repeats = self._repeated_from(end, repeat) if repeat else end
        self._at = end
        return piece

    def _repeated_from(self, end: int, block: Block) -> int:
        """Where the block's last sentences begin, as many as fit; code is not repeated."""
        if block.kind is not Kind.PROSE or not self._overlap:
            return end
        begin = max(block.start, self._at)
        if begin >= end - self._overlap:
            return min(begin, end)  # the cut may be in the heading before the block
        begin = end - self._overlap
        sentence = _SENTENCE.search(self._text[begin:end])
        return begin + sentence.end() if sentence else end


def _last_break(window: str) -> int:
    """Where to cut: after the last item, sentence or word in the window, or at its end."""
    for pattern in (_ITEM, _SENTENCE, _SPACE):
        ends = [found.end() for found in pattern.finditer(window) if found.end() < len(window)]
        if ends and ends[-1] >= len(window) // 3:
            return ends[-1]
    return len(window)
