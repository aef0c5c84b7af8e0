"""Reads the grounding metadata of Gemini's answers as citations. Pure.

The offsets of a passage count bytes; if they do not fit its text, the text is searched for.
"""

from __future__ import annotations

from itertools import islice

from orchestra.citations import Citation, Cited
from orchestra.codecs.cited import cited_number, cited_text, listed_records

CITATIONS_MAX = 1_000
"""The most citations of an answer: the longer the text, the longer it takes to locate each."""
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
