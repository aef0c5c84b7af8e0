"""Documents in JSON: `{"name": ..., "text": ...}`, or `"data"` in base64."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import ClassVar

from orchestra.annotations import stand_ins
from orchestra.annotations.stand_ins import StandIn, with_stand_ins
from orchestra.documents import SOME_BYTES, Document
from orchestra.values import Json

NAME_CHARS_MAX = 255
"""The most characters of a document's name: the limit of common file systems."""
_MEMBERS = frozenset({"name", "media_type", "text", "data"})
_CONTENT = {"text": {"type": "string"}, "data": {"type": "string", "contentEncoding": "base64"}}
_ABOUT = {"name": {"type": "string"}, "media_type": {"type": "string"}}
_FILE: Json = {"type": "string", "format": "binary", "contentMediaType": SOME_BYTES}


class JsonDocument(StandIn):
    """Replaces `Document` in an annotation."""

    stands_for = Document
    schema: ClassVar[Json] = {
        "title": "Document",
        "description": "A file: its text, or its bytes in base64.",
        "oneOf": [  # each whole: generated clients make no type of a bare `required`
            {
                "type": "object",
                "properties": {**_ABOUT, name: content},
                "required": ["name", name],
                "additionalProperties": False,
            }
            for name, content in _CONTENT.items()
        ],
    }

    @staticmethod
    def read(value: object) -> Document:
        """The document with this name, and this text or these bytes."""
        if not isinstance(value, Mapping):
            raise TypeError(f"Expected a document, {_SHAPE}, got `{type(value).__name__}`")
        if unknown := sorted(value.keys() - _MEMBERS):
            raise ValueError(f"A document has no member {unknown[0]!r:.100}: {_SHAPE}")
        media_type, name = value.get("media_type", ""), value.get("name")
        if not isinstance(name, str) or not isinstance(media_type, str):
            raise TypeError(f"A document's name and media_type are text: {_SHAPE}")
        if "text" in value:
            media_type = media_type.partition(";")[0]  # no charset, as the text is decoded already
        return Document(file_name(name), _data(value), media_type)


JsonDocument.register(Document)


def takes_documents(kind: object) -> bool:
    """Whether values of this type can contain a document."""
    return with_stand_ins(kind, JsonDocument) is not kind


def form_schema(kind: type) -> Json:
    """As `stand_ins.schema`, for an HTML form: a document is a file, in OpenAPI 3.0 and 3.1."""
    return _FILE if kind is JsonDocument else stand_ins.schema(kind)


def file_name(name: str) -> str:
    """The file name without the folders that some clients send, and without control characters."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(each for each in last if each.isprintable())[:NAME_CHARS_MAX]


def _data(value: Mapping[object, object]) -> bytes:
    """The content, from either `text` or `data`, of which there must be exactly one."""
    text, data = value.get("text"), value.get("data")
    if isinstance(text, str) and "data" not in value:
        return text.encode("utf-8", "replace")
    if isinstance(data, str) and "text" not in value:
        try:
            return b64decode(data, validate=True)
        except ValueError as error:
            raise ValueError(f"A document's data is base64: {error}") from error
    raise ValueError(f"A document has either text or data: {_SHAPE}")


_SHAPE = '{"name": "notes.md", "text": "..."} or {"name": "a.pdf", "data": "<base64>"}'
