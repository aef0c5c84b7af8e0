"""Reads and writes citations that belong to blocks of text, as Anthropic's and Converse's. Pure.

A passage is a block of its own. Its citations come before or after its text, so they become events
at its end, when its length is known. Values of a citation that cannot be read are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from orchestra.citations import Citation, Cited, Span, Unit, cited_chars
from orchestra.codecs.cited import cited_number, cited_text, listed_records
from orchestra.codecs.framing.frames import FRAME_BYTES_MAX
from orchestra.errors import MalformedStreamError
from orchestra.values import Json, ModelEvent, TextDelta

_SPANS: tuple[tuple[Unit, str, str], ...] = (
    ("characters", "start_char_index", "end_char_index"),
    ("pages", "start_page_number", "end_page_number"),
    ("blocks", "start_block_index", "end_block_index"),
)


class CitedText:
    """The length of one message's text, block by block, and the citations of each block.

    `read` reads one citation of the provider.
    """

    __slots__ = ("_begun", "_found", "_found_chars", "_fresh", "_last", "_read", "chars")

    def __init__(self, read: Callable[[Json], Citation]) -> None:
        self.chars = 0
        """The length of all text so far."""
        self._read = read
        self._begun = 0  # the start of the current passage
        self._fresh = False  # whether a block has begun, and none of its text has come
        self._last = 0, 0  # the last passage
        self._found: list[Citation] = []
        self._found_chars = 0

    def begin(self) -> list[ModelEvent]:
        """Begin a block of text; end the block before it."""
        ended = self.end()
        self._fresh = True
        return ended

    def skip(self) -> list[ModelEvent]:
        """End the block of text before a block of another type."""
        ended = self.end()
        self._begun = self.chars
        return ended

    def text(self, text: str) -> list[ModelEvent]:
        """The events of the next piece of the current block's text."""
        events: list[ModelEvent] = []
        if self._fresh:
            self._fresh = False
            if self._begun < self.chars:  # the text before it has no citations
                events.append(Cited())
                self._begun = self.chars
        self.chars += len(text)
        events.append(TextDelta(text))
        return events

    def cites(self, citations: object) -> None:
        """Add citations of the current block, in the provider's format.

        Raises:
            MalformedStreamError: the citations of the block are too long.
        """
        found = [self._read(each) for each in listed_records(citations)]
        self._found += found
        self._found_chars += cited_chars(Cited(tuple(found)))
        if self._found_chars > FRAME_BYTES_MAX:
            raise MalformedStreamError(
                f"a block of the answer cites over {FRAME_BYTES_MAX} characters, and has no end"
            )

    def end(self) -> list[ModelEvent]:
        """The citations of the current block, at its end; nothing if they have been returned.

        The citations of a block without text belong to the text before it.
        """
        if self._begun < self.chars:
            self._last = self._begun, self.chars
        if not self._found:
            return []
        (start, end), found = self._last, self._found
        self._found, self._found_chars, self._begun = [], 0, self.chars
        return [Cited(tuple(attrs.evolve(each, start=start, end=end) for each in found))]


def location_records(citations: Iterable[Citation]) -> list[Json]:
    """Citations in Anthropic's format.

    A web page needs no span of the source. Any other source without one is written as the first
    block of a search result.
    """
    return [_location(each) for each in citations]


def read_location(found: Json) -> Citation:
    """A citation in Anthropic's format, of no passage yet."""
    span = None
    for unit, first, last in _SPANS:
        start, end = cited_number(found, first), cited_number(found, last)
        if start is not None and end is not None:
            span = Span(unit, start, end)
    return Citation(
        *(0, 0, cited_text(found, "cited_text"), cited_text(found, "document_title", "title")),
        cited_text(found, "url", "source"),
        cited_number(found, "document_index", "search_result_index"),
        span,
    )


def _location(cited: Citation) -> Json:
    record: Json = {"cited_text": cited.quote}
    if cited.span is None and cited.source.startswith(("https://", "http://")):
        page = {"url": cited.source, "title": cited.title or None, "encrypted_index": ""}
        return {"type": "web_search_result_location", **record, **page}
    span = cited.span or Span("blocks", 0, 1)
    place = {
        name: at
        for unit, *names in _SPANS
        if unit == span.unit
        for name, at in zip(names, (span.start, span.end), strict=True)
    }
    if span.unit == "blocks" and (cited.source or cited.span is None):
        result = {"source": cited.source, "title": cited.title or None}
        record |= {**result, "search_result_index": cited.index or 0}
        return {"type": "search_result_location", **record, **place}
    record |= {"document_index": cited.index or 0, "document_title": cited.title or None}
    return {"type": _DOCUMENTS[span.unit], **record, **place}


_DOCUMENTS: dict[Unit, str] = {
    "characters": "char_location",
    "pages": "page_location",
    "blocks": "content_block_location",
}
