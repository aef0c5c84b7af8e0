"""Documents in JSON: `{"name": ..., "text": ...}`, or `"data"` in base64.

msgspec would read a `Document` as an object with three members. So `for_msgspec` replaces it by
`JsonDocument`, which `read` reads and `schema` describes. Inside a user's class a document has
msgspec's form: a name and base64.
"""

from __future__ import annotations

import operator
from abc import ABC
from base64 import b64decode
from collections.abc import Mapping
from functools import reduce
from typing import Any, Literal, cast, get_args, get_origin

from orchestra.annotations.complaints import refuse_unknown_class
from orchestra.annotations.shapes import is_union
from orchestra.documents import SOME_BYTES, Document
from orchestra.values import Json

NAME_CHARS_MAX = 255
"""Characters of a document's name: the limit of common file systems."""
_MEMBERS = frozenset({"name", "media_type", "text", "data"})


class JsonDocument(ABC):  # noqa: B024 - msgspec checks that the result of `read` is an instance
    """Stands in an annotation for a `Document`."""


JsonDocument.register(Document)


def for_msgspec(kind: object) -> Any:
    """The annotation with `JsonDocument` in place of each `Document`; unchanged without one."""
    return with_stand_in(kind, Document, JsonDocument)


def with_stand_in(kind: object, ours: type, name: type) -> Any:
    """The annotation with `name` in place of each `ours`; unchanged without one."""
    if kind is ours:
        return name
    given = get_args(kind)
    if get_origin(kind) is Literal:
        return kind
    made = tuple(with_stand_in(each, ours, name) for each in given)
    if all(new is old for new, old in zip(made, given, strict=True)):
        return kind
    if is_union(kind):
        return reduce(operator.or_, made)
    return cast("Any", get_origin(kind))[made]


def takes_documents(kind: object) -> bool:
    """Whether values of this type can contain a document."""
    return for_msgspec(kind) is not kind


def read(kind: type, value: object) -> object:
    """A `dec_hook` for msgspec: makes a document from a value in JSON.

    Raises:
        TypeError, ValueError: the value is no document; msgspec adds its place.
        NotImplementedError: it is another type than `JsonDocument`.
    """
    if kind is not JsonDocument:
        refuse_unknown_class(kind)
    if isinstance(value, Document):
        return value
    if not isinstance(value, Mapping):
        raise TypeError(f"Expected a document, {_SHAPE}, got `{type(value).__name__}`")
    if unknown := sorted(value.keys() - _MEMBERS):
        raise ValueError(f"A document has no member {unknown[0]!r:.100}: {_SHAPE}")
    media_type, name = value.get("media_type", ""), value.get("name")
    if not isinstance(name, str) or not isinstance(media_type, str):
        raise TypeError(f"A document's name and media_type are text: {_SHAPE}")
    if "text" in value:
        media_type = media_type.partition(";")[0]  # text is decoded already: drop the charset
    return Document(file_name(name), _data(value), media_type)


def schema(kind: type) -> Json:
    """A `schema_hook` for msgspec: the schema of a document.

    Raises:
        NotImplementedError: it is another type than `JsonDocument`.
    """
    if kind is not JsonDocument:
        refuse_unknown_class(kind)
    common = {"name": {"type": "string"}, "media_type": {"type": "string"}}
    content = {"text": {"type": "string"}, "data": {"type": "string", "contentEncoding": "base64"}}
    return {
        "title": "Document",
        "description": "A file: its text, or its bytes in base64.",
        "type": "object",
        "properties": common | content,
        "required": ["name"],
        "additionalProperties": False,
        "oneOf": [{"required": [each]} for each in content],
    }


def file_schema(kind: type) -> Json:
    """As `schema`, for a form: a file upload, as in both OpenAPI 3.0 and 3.1.

    Raises:
        NotImplementedError: it is another type than `JsonDocument`.
    """
    schema(kind)
    return {"type": "string", "format": "binary", "contentMediaType": SOME_BYTES}


def file_name(name: str) -> str:
    """A file name without the folders that some clients send, and without control characters."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(each for each in last if each.isprintable())[:NAME_CHARS_MAX]


def _data(value: Mapping[object, object]) -> bytes:
    """The content: exactly one of text and data."""
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
