"""What an answer cites: passages of its text, and where in a source each of them is found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

from orchestra.eventclass import event, frozen

Unit: TypeAlias = Literal["characters", "pages", "blocks"]
_CITATION_CHARS = 256  # what a citation takes without its texts


@frozen
class Span:
    """A part of a source, from `start` up to but not including `end`.

    Pages are counted from 1, characters and blocks from 0.
    """

    unit: Unit
    start: int
    end: int


@frozen
class Citation:
    """A passage of an answer, and what it is taken from.

    The passage is `answer.text[start:end]`; if both are equal, it is the whole answer. `quote` is
    in the source's own words, and `source` is its address or id. `index` counts the documents in
    the request, or its search results, from 0. What was not told is empty or None.
    """

    start: int
    end: int
    quote: str = ""
    title: str = ""
    source: str = ""
    index: int | None = None
    span: Span | None = None


@event
class Cited:
    """What the text before it cites. The text after it is another passage, also if that is nothing.

    A citation comes behind the passage that it is of. Only one of the whole answer may come
    earlier.
    """

    citations: tuple[Citation, ...] = ()

    def __add__(self, other: Cited) -> Cited:
        """The citations of both, one behind the other."""
        return Cited(self.citations + other.citations)


def cited_chars(cited: Cited) -> int:
    """About the size of what is cited, in characters."""
    texts = (len(each.quote) + len(each.title) + len(each.source) for each in cited.citations)
    return sum(texts) + _CITATION_CHARS * len(cited.citations)


def passages(
    text: str, citations: Iterable[Citation], begin: int = 0
) -> Iterator[tuple[str, tuple[Citation, ...]]]:
    """A text, which begins at `begin` in its answer, in pieces, each with what it cites.

    What overlaps is one piece, with the citations of all of it. A citation is told with the text
    in which its passage begins; one of the whole answer, with its beginning.
    """
    whole = [each for each in citations if each.start >= each.end and not begin]
    here = [
        each for each in citations if each.start < each.end and 0 <= each.start - begin < len(text)
    ]
    at = 0
    for first, last, cited in _together(sorted(here, key=lambda each: each.start), begin):
        if at < first:
            yield text[at:first], tuple(whole)
            whole = []
        yield text[first:last], (*whole, *cited)
        at, whole = last, []
    if at < len(text):
        yield text[at:], tuple(whole)


def _together(
    citations: Iterable[Citation], begin: int
) -> Iterator[tuple[int, int, list[Citation]]]:
    """The passages of sorted citations within the text; those that overlap are one."""
    first = last = 0
    cited: list[Citation] = []
    for each in citations:
        if cited and each.start - begin >= last:
            yield first, last, cited
            cited = []
        first = first if cited else each.start - begin
        last = max(last, each.end - begin) if cited else each.end - begin
        cited.append(each)
    if cited:
        yield first, last, cited
