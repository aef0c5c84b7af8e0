"""Citations: passages of an answer's text, and the place in a source that each is taken from."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
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
    the text of the source, and `source` its address or id. `index` counts the documents in the
    request, or its search results, from 0. What the provider did not send is empty or None.
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
    """What the text before it cites, if anything. The text after it is another passage.

    A citation comes after its passage. Only one of the whole answer may come earlier.
    """

    citations: tuple[Citation, ...] = ()


def cited_chars(cited: Cited) -> int:
    """About the size of what is cited, in characters."""
    texts = (len(each.quote) + len(each.title) + len(each.source) for each in cited.citations)
    return sum(texts) + _CITATION_CHARS * len(cited.citations)


def passages(
    texts: Iterable[str], citations: Sequence[Citation]
) -> Iterator[list[tuple[str, tuple[Citation, ...]]]]:
    """For each of the consecutive texts of an answer, its pieces, and what each of them cites.

    Passages that overlap are one piece. A citation belongs to the text in which its passage
    begins, and one of the whole answer to the first piece. One whose passage begins after the last
    text is left out.
    """
    whole = tuple(each for each in citations if each.start >= each.end)
    left = deque(sorted((each for each in citations if each.start < each.end), key=_start))
    begin = 0
    for text in texts:
        end, here = begin + len(text), list[Citation]()
        while left and left[0].start < end:
            here.append(left.popleft())
        pieces = list(_pieces(text, here, begin))
        if whole and pieces:
            pieces[0], whole = (pieces[0][0], whole + pieces[0][1]), ()
        yield pieces
        begin = end


def _start(citation: Citation) -> int:
    return citation.start


def _pieces(
    text: str, citations: Iterable[Citation], begin: int
) -> Iterator[tuple[str, tuple[Citation, ...]]]:
    """The pieces of a text for its citations, which are sorted."""
    told = first = last = 0  # up to where it was told, and the passage that may go on
    cited: list[Citation] = []
    for each in citations:
        start = each.start - begin
        if start >= last:
            yield from _cut(text, told, first, last, cited)
            told, first, last, cited = last, start, start, []
        last = min(max(last, each.end - begin), len(text))
        cited.append(each)
    yield from _cut(text, told, first, last, cited)
    yield from _cut(text, last, len(text), len(text), [])


def _cut(
    text: str, told: int, first: int, last: int, cited: list[Citation]
) -> Iterator[tuple[str, tuple[Citation, ...]]]:
    """What stands before a passage, and the passage."""
    if told < first:
        yield text[told:first], ()
    if first < last:
        yield text[first:last], tuple(cited)
