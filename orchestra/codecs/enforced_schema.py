"""JSON Schemas in the smaller language of Claude's and Bedrock's constrained decoding. Pure.

Every object lists all its members. Constraints that are not enforced (bounds, patterns, the
types of a tuple's items) go into the description, where the model reads them; the answer has to
be checked for them. Apart from these, every value of the result fits the schema.

Source: Anthropic's documentation of structured outputs, and `transform_schema` of its SDK.
"""

from __future__ import annotations

import msgspec

from orchestra.errors import CapabilityError
from orchestra.values import Json

_KEPT = frozenset(
    ("type", "enum", "const", "description", "title", "default", "required", "$defs", "definitions")
)
_NESTED = ("$defs", "definitions", "properties")
_VARIANTS = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
_FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
)
_ITEMS_MIN = (0, 1)
DEPTH_MAX = 64
"""The deepest nesting of schemas, which come from clients; no real schema is deeper."""


def enforced(schema: Json) -> Json:
    """The schema in this language. Invalid schemas are left for the provider to refuse.

    Raises:
        CapabilityError: it has an object without named members, such as a `dict[str, int]`; or it
            is nested deeper than `DEPTH_MAX`.
    """
    return _enforced(schema, DEPTH_MAX)


def _enforced(schema: Json, deep: int) -> Json:
    if not deep:
        raise CapabilityError(
            f"output=...: the schema is nested deeper than {DEPTH_MAX}, which this model does not "
            "support; make it flatter, or move its parts to $defs"
        )
    if "$ref" in schema:  # only definitions may stand beside it
        found: Json = {"$ref": schema["$ref"]}
        return found | {
            key: _each_schema(schema[key], deep) for key in _NESTED[:2] if key in schema
        }
    found, beyond = {}, {}
    for key, value in schema.items():
        if key in _NESTED:
            found[key] = _each_schema(value, deep)
        elif key in _VARIANTS and isinstance(value, list):
            found[_VARIANTS[key]] = [_schema(each, deep) for each in value]
        elif key == "items" and isinstance(value, dict):
            found[key] = _enforced(value, deep - 1)
        elif key in _KEPT or _is_enforced(key, value):
            found[key] = value
        elif key != "additionalProperties":
            beyond[key] = value
    if schema.get("type") == "object":
        _refuse_nameless(schema)
        found["additionalProperties"] = False
    if beyond:
        told = found.get("description")
        found["description"] = f"{told}\n\n" * bool(told) + _in_words(beyond)
    return found


def _is_enforced(key: str, value: object) -> bool:
    if not isinstance(value, str | int):
        return False
    return (key == "format" and value in _FORMATS) or (key == "minItems" and value in _ITEMS_MIN)


def _each_schema(schemas: object, deep: int) -> object:
    if not isinstance(schemas, dict):
        return schemas
    return {name: _schema(each, deep) for name, each in schemas.items()}


def _schema(schema: object, deep: int) -> object:
    return _enforced(schema, deep - 1) if isinstance(schema, dict) else schema


def _refuse_nameless(schema: Json) -> None:
    if schema.get("properties") or (
        "properties" in schema and schema.get("additionalProperties") in (False, None)
    ):
        return
    raise CapabilityError(
        f"a schema has {_in_words(schema)[:200]}, an object without named members, which this "
        "model does not support; name the members, take a list of pairs, or ask for JSON in the "
        "prompt"
    )


def _in_words(said: Json) -> str:
    """Constraints as text, as in Anthropic's SDK."""
    told = ", ".join(f"{key}: {msgspec.json.encode(value).decode()}" for key, value in said.items())
    return f"{{{told}}}"
