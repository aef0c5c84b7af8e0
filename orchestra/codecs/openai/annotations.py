"""Reads and writes citations of web pages in OpenAI's format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestra.citations import Citation, Cited
from orchestra.codecs.cited import cited_number, cited_text, listed_records
from orchestra.values import Json

_KIND = "url_citation"


def cited_of(annotations: object) -> Cited | None:
    """The citations in annotations; None if there is none of a known kind.

    OpenRouter adds a quote of the page, and leaves both offsets at 0.
    """
    pages = (each.get(_KIND) for each in listed_records(annotations))
    found = tuple(_citation(page) for page in pages if isinstance(page, dict))
    return Cited(found) if found else None


def _citation(page: Json) -> Citation:
    start, end = cited_number(page, "start_index") or 0, cited_number(page, "end_index") or 0
    place = (start, end) if start < end else (0, 0)
    quote, title = cited_text(page, "content"), cited_text(page, "title")
    return Citation(*place, quote, title, cited_text(page, "url"))


def annotation_records(citations: Iterable[Citation]) -> list[Json]:
    """Citations of web pages as annotations of a chat message; other citations are left out."""
    return [{"type": _KIND, _KIND: page} for page in page_records(citations)]


def page_records(citations: Iterable[Citation], begin: int = 0) -> Iterator[Json]:
    """The web pages that a text cites, with offsets in the text, which begins at `begin`."""
    for each in citations:
        if each.source.startswith(("https://", "http://")):
            start, end = max(each.start - begin, 0), max(each.end - begin, 0)
            page = {"url": each.source, "title": each.title, "start_index": start, "end_index": end}
            yield page | ({"content": each.quote} if each.quote else {})
