"""Reads the grounding and citation metadata of Gemini's answers as citations. Pure.

Grounding metadata names the sources of a search, and citation metadata the known works that the
answer repeats. The offsets of a passage count bytes; if they do not fit its text, the text is
searched for.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from orchestra.citations import Citation, Cited
from orchestra.codecs.cited import CITATIONS_MAX, cited_number, cited_text, listed_records

_SOURCES = ("web", "retrievedContext", "maps")


def grounded(metadata: object, text: str) -> list[Cited]:
    """The citations of an answer's complete text; nothing if no passage is grounded."""
    data = text.encode("utf-8", "surrogatepass")
    found = (
        Citation(*_place(segment, text, data), *_source(chunk))
        for record in listed_records(metadata)
        for chunks in [record.get("groundingChunks")]
        for support in listed_records(record.get("groundingSupports"))
        for segment in listed_records(support.get("segment"))
        for chunk in _chunks(chunks, support.get("groundingChunkIndices"))
    )
    cited = tuple(islice(found, CITATIONS_MAX))
    return [Cited(cited)] if cited else []


def recited(metadata: Iterable[object], text: str) -> list[Cited]:
    """The works that an answer repeats, by the citation metadata of all its responses."""
    data = text.encode("utf-8", "surrogatepass")
    found = (
        (
            cited_number(source, "startIndex") or 0,
            cited_number(source, "endIndex") or 0,
            cited_text(source, "title"),
            cited_text(source, "uri"),
        )
        for record in metadata
        for several in listed_records(record)
        for source in listed_records(several.get("citationSources") or several.get("citations"))
    )
    works = islice(dict.fromkeys(found), CITATIONS_MAX)  # responses may repeat earlier ones
    cited = tuple(
        Citation(*_offsets(data, start, end), "", title, uri) for start, end, title, uri in works
    )
    return [Cited(cited)] if cited else []


def _offsets(data: bytes, *places: int) -> tuple[int, int]:
    start, end = (len(data[:place].decode("utf-8", "ignore")) for place in places)
    return (start, end) if start < end else (0, 0)


def _chunks(chunks: object, indices: object) -> list[dict[str, object]]:
    """The sources of a passage: the chunks at these indices."""
    known = chunks if isinstance(chunks, list) else []
    wanted = indices if isinstance(indices, list) else []
    places = [at for at in wanted if type(at) is int and 0 <= at < len(known)]
    return listed_records([known[at] for at in places])


def _place(segment: dict[str, object], text: str, data: bytes) -> tuple[int, int]:
    start, end = cited_number(segment, "startIndex") or 0, cited_number(segment, "endIndex") or 0
    passage = cited_text(segment, "text")
    begin = len(data[:start].decode("utf-8", "ignore"))
    if not passage or data[start:end] != passage.encode("utf-8", "surrogatepass"):
        begin = text.find(passage) if passage else -1
    return (begin, begin + len(passage)) if begin >= 0 else (0, 0)


def _source(chunk: dict[str, object]) -> tuple[str, str, str]:
    """The quote, the title and the address of a source."""
    record = next((each for name in _SOURCES for each in listed_records(chunk.get(name))), {})
    return cited_text(record, "text"), cited_text(record, "title"), cited_text(record, "uri")
