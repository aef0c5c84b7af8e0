"""Reads the citations of Bedrock's Converse. Pure.

Claude cites documents and search results of the request, Nova web pages that it has searched. What
cannot be read in a citation is left out.
"""

from __future__ import annotations

from orchestra.citations import Citation, Span, Unit
from orchestra.codecs.cited import cited_number, cited_text, listed_records
from orchestra.values import Json

_SPANS: tuple[tuple[str, Unit], ...] = (
    ("documentChar", "characters"),
    ("documentPage", "pages"),
    ("documentChunk", "blocks"),
    ("searchResultLocation", "blocks"),
)


def read_citation(found: Json) -> Citation:
    """A citation in Converse's format, of no passage yet."""
    quote = "".join(cited_text(each, "text") for each in listed_records(found.get("sourceContent")))
    title, source = cited_text(found, "title"), cited_text(found, "source")
    for location in listed_records(found.get("location")):
        for name, unit in _SPANS:
            for place in listed_records(location.get(name)):
                index = cited_number(place, "documentIndex", "searchResultIndex")
                start, end = cited_number(place, "start"), cited_number(place, "end")
                span = None if start is None or end is None else Span(unit, start, end)
                return Citation(0, 0, quote, title, source, index, span)
        for page in listed_records(location.get("web")):
            title, source = title or cited_text(page, "domain"), cited_text(page, "url") or source
    return Citation(0, 0, quote, title, source)
