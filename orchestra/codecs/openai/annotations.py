"""Reads citations of web pages in the formats of OpenAI and Perplexity; writes OpenAI's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

import msgspec

from orchestra.citations import Citation, Cited
from orchestra.codecs.cited import CITATIONS_MAX, cited_number, cited_text, listed_records
from orchestra.codecs.raw_json import NOT_JSON, given
from orchestra.values import Json

_KIND = "url_citation"


def cited_of(annotations: object) -> Cited | None:
    """The citations in annotations; None if there is none of a known kind.

    OpenRouter adds a quote of the page, and leaves both offsets at 0.
    """
    pages = (each.get(_KIND) for each in listed_records(annotations))
    found = tuple(_citation(page) for page in pages if isinstance(page, dict))
    return Cited(found) if found else None


def searched(results: msgspec.Raw, addresses: msgspec.Raw) -> Cited | None:
    """The pages that Perplexity or xAI has searched; None without any.

    They are of the whole answer, and in its order: its text refers to the first of them with `[1]`.
    The `search_results` are read or, without any, the addresses in `citations`.
    """
    pages = listed_records(_decoded(results))[:CITATIONS_MAX]
    found = [
        Citation(0, 0, cited_text(page, "snippet"), cited_text(page, "title"), url)
        for page in pages
        if (url := cited_text(page, "url"))
    ]
    listed = _decoded(addresses) if not found else ()
    if isinstance(listed, list):
        found += [
            Citation(0, 0, source=each) for each in listed[:CITATIONS_MAX] if isinstance(each, str)
        ]
    return Cited(tuple(found)) if found else None


def _decoded(raw: msgspec.Raw) -> object:
    with suppress(*NOT_JSON):
        return msgspec.json.decode(raw) if given(raw) else None
    return None


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
