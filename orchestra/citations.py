"""Citations: passages of an answer's text, each with the place in a source that it cites."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, TypeAlias

from orchestra.eventclass import event, frozen

Unit: TypeAlias = Literal["characters", "pages", "blocks"]
_CITATION_CHARS = 256  # what a citation is counted as, without its texts


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
    """A passage of an answer, and the source that it cites.

    The passage is `answer.text[start:end]`; if `start == end`, it is the whole answer. `quote` is
    the cited text of the source, and `source` its address or id. `index` is the position, from 0,
    of the source among the documents or search results in the request. A field that the provider
    did not send is empty or None.
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
    """The citations of the text before this event, if any; the text after it is a new passage.

    A citation comes after its passage. Only a citation of the whole answer may come earlier.
    """

    citations: tuple[Citation, ...] = ()


def cited_chars(cited: Cited) -> int:
    """The approximate size of the citations, in characters."""
    texts = (len(each.quote) + len(each.title) + len(each.source) for each in cited.citations)
    return sum(texts) + _CITATION_CHARS * len(cited.citations)


def passages(
    texts: Iterable[str], citations: Sequence[Citation]
) -> Iterator[list[tuple[str, tuple[Citation, ...]]]]:
    """Yield, for each of the consecutive texts of an answer, its pieces with their citations.

    Passages that overlap become one piece. A citation belongs to the text in which its passage
    begins; a citation of the whole answer belongs to the first piece. A citation whose passage
    begins after the last text is left out.
    """
    whole = tuple(each for each in citations if each.start >= each.end)
    left = deque(sorted((each for each in citations if each.start < each.end), key=_start))
    begin = 0
    for text in texts:
        end = begin + len(text)
        here: list[Citation] = []
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
    """The pieces of a text, cut by its citations, which are sorted by start."""
    done = first = last = 0  # the text before `done` is yielded; the passage may still grow
    cited: list[Citation] = []
    for each in citations:
        start = each.start - begin
        if start >= last:
            yield from _cut(text, done, first, last, cited)
            done, first, last, cited = last, start, start, []
        last = min(max(last, each.end - begin), len(text))
        cited.append(each)
    yield from _cut(text, done, first, last, cited)
    yield from _cut(text, last, len(text), len(text), [])


def _cut(
    text: str, done: int, first: int, last: int, cited: list[Citation]
) -> Iterator[tuple[str, tuple[Citation, ...]]]:
    """The text before a passage, if any, and the passage itself."""
    if done < first:
        yield text[done:first], ()
    if first < last:
        yield text[first:last], tuple(cited)
