"""What stands in JSON for a document: `{"name": ..., "text": ...}`, or `"data"` in base64.

An annotation is read by msgspec, which would take a `Document` for an object with three members.
So `for_msgspec` puts `JsonDocument` in its place; `read` reads that, and `schema` describes it.
Inside a class of somebody's own a document has msgspec's form: a name and base64.
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
"""Characters of a document's name: what file systems take."""
_MEMBERS = frozenset({"name", "media_type", "text", "data"})


class JsonDocument(ABC):  # noqa: B024 - a name for msgspec, which asks of what `read` gave whether it is one
    """What is read as a document."""


JsonDocument.register(Document)


def for_msgspec(kind: object) -> Any:
    """The annotation with `JsonDocument` for each `Document`; the same where there is none."""
    return with_stand_in(kind, Document, JsonDocument)


def with_stand_in(kind: object, ours: type, name: type) -> Any:
    """The annotation with `name` for each `ours` in it; the same where there is none."""
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
    """Whether there is a place for a document in values of this type."""
    return for_msgspec(kind) is not kind


def read(kind: type, value: object) -> object:
    """For msgspec's `dec_hook`: the document that a value in JSON means.

    Raises:
        TypeError, ValueError: it means none; msgspec tells where it stands.
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
        media_type = media_type.partition(";")[0]  # it has come as characters
    return Document(file_name(name), _data(value), media_type)


def schema(kind: type) -> Json:
    """For msgspec's `schema_hook`: what `read` reads.

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
    """As `schema`, of a form: a file there, as OpenAPI 3.0 writes it and as 3.1 does.

    Raises:
        NotImplementedError: it is another type than `JsonDocument`.
    """
    schema(kind)
    return {"type": "string", "format": "binary", "contentMediaType": SOME_BYTES}


def file_name(name: str) -> str:
    """A name without the folders that some clients send before it, and without controls."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(each for each in last if each.isprintable())[:NAME_CHARS_MAX]


def _data(value: Mapping[object, object]) -> bytes:
    """The content, of which there must be one."""
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
