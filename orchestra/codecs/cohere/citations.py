"""Reads Cohere's citations, and names the documents that it is to cite. Pure.

An answer does not repeat the request, so the id of a document tells which file it is, and which of
the file's passages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from orchestra.citations import Citation, Cited, Span
from orchestra.codecs.cited import cited_number, cited_text, listed_records

_OURS = re.compile(r"file-(\d{1,9})(?:-(\d{1,9}))?", re.ASCII)
_CONTENTS = ("document", "tool_output")


def document_id(index: int, passage: int | None) -> str:
    """The id of the document with this index; or of one of its passages."""
    return f"file-{index}" if passage is None else f"file-{index}-{passage}"


def cited(citations: object) -> list[Cited]:
    """The citations of the text: for each passage, all its sources."""
    found = [
        _citation(passage, source)
        for passage in listed_records(citations)
        if passage.get("type") in (None, "TEXT_CONTENT")
        for source in listed_records(passage.get("sources"))
    ]
    return [Cited(tuple(found))] if found else []


def _citation(passage: Mapping[str, object], source: Mapping[str, object]) -> Citation:
    start, end = cited_number(passage, "start") or 0, cited_number(passage, "end") or 0
    contents = (each for name in _CONTENTS for each in listed_records(source.get(name)) if each)
    found = next(contents, {})
    id_ = cited_text(source, "id")
    index, span = None, None
    if (ours := _OURS.fullmatch(id_)) is not None:
        id_, index = "", int(ours[1])
        if ours[2] is not None:
            span = Span("blocks", int(ours[2]), int(ours[2]) + 1)
    return Citation(
        *((start, end) if start < end else (0, 0)),
        quote=cited_text(found, "text", "snippet", "content"),
        title=cited_text(found, "title"),
        source=cited_text(found, "url") or id_,
        index=index,
        span=span,
    )
