"""Other forms of JSON Schemas: shorter for a model, or as strict providers require them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

from orchestra.eventclass import frozen
from orchestra.values import Json

_TYPES: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    type(None): "null",
}
_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
_UNSPEAKABLE = {"prefixItems", "uniqueItems", "propertyNames", "contentEncoding"}
"""Keywords that strict providers refuse, and that cannot be dropped without changing the meaning.
"""
_REFUSED = re.compile(
    r"default|discriminator|examples|deprecated|readOnly|writeOnly|\$comment|x-.*"
).fullmatch
"""Keywords that change no meaning, and that OpenAI refuses: "'examples' is not permitted"."""
_LOOKAROUND = re.compile(r"\(\?<?[=!]")
"""In a pattern, as older versions of Pydantic write for a Decimal: OpenAI refuses it, or fails."""


@frozen
class StrictSchema:
    """A schema in which every member is required, and no other member is allowed.

    `strict` says whether OpenAI's strict mode accepts it. It does not if the schema contains a type
    that the mode cannot express, such as `dict[str, int]`.
    """

    schema: Json
    strict: bool


def neat(schema: Json) -> Json:
    """The schema without titles, which cost tokens, and with a type for every `enum`.

    Some providers refuse an `enum` without a type, and what Pydantic writes in place of an `enum`
    of one value, of an `anyOf` and of a mere `$ref`: `const`, `oneOf`, `allOf`.
    """
    found = {key: value for key, value in _mapped(schema, neat).items() if key != "title"}
    if "const" in found:
        found["enum"] = [found.pop("const")]
    if "oneOf" in found and "anyOf" not in found:
        found["anyOf"] = found.pop("oneOf")
    if len(found.get("allOf", ())) == 1:
        found = found.pop("allOf")[0] | found
    if "enum" in found and "type" not in found:
        types = sorted({_TYPES[type(value)] for value in found["enum"]})
        found = {"type": types[0] if len(types) == 1 else types} | found
    return found


def strictly(schema: Json) -> StrictSchema:
    """The schema as strict providers require it: optional members become required."""
    found = _closed(schema)
    return StrictSchema(found, all(map(_is_sayable, _schemas(found))))


def refers(schema: Json, reference: str) -> bool:
    """Whether the schema contains a `$ref` with this text."""
    return any(each.get("$ref") == reference for each in _schemas(schema))


def _closed(schema: Json) -> Json:
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}  # no other keyword may stand beside it
    found = {key: each for key, each in _mapped(schema, _closed).items() if not _REFUSED(key)}
    if "properties" in found:
        found |= {"required": list(found["properties"]), "additionalProperties": False}
    return found


def _is_sayable(schema: Json) -> bool:
    """Whether strict mode can express the schema, regardless of the schemas inside it."""
    if "$ref" in schema or "anyOf" in schema:
        return True
    if not _UNSPEAKABLE.isdisjoint(schema) or schema.get("format", "date") not in _FORMATS:
        return False
    if _LOOKAROUND.search(schema.get("pattern", "")):
        return False
    match schema.get("type"):
        case "object":
            return schema.get("additionalProperties") is False
        case "array":
            return isinstance(schema.get("items"), dict)
        case None:
            return False
    return True


_Change: TypeAlias = Callable[[Json], Json]


def _mapped(schema: Json, change: _Change) -> Json:
    """The schema with `change` applied to each schema directly inside it."""
    found = dict(schema)
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            found[key] = {name: change(each) for name, each in value.items()}
        elif key in ("allOf", "anyOf", "oneOf", "prefixItems"):
            found[key] = [change(each) for each in value]
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            found[key] = change(value)
    return found


def _schemas(schema: Json) -> Iterator[Json]:
    """The schema and every schema inside it."""
    inner: list[Json] = []

    def keep(each: Json) -> Json:
        inner.append(each)
        return each

    yield schema
    _mapped(schema, keep)
    for each in inner:
        yield from _schemas(each)
