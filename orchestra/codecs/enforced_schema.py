"""Converts JSON Schemas to the subset that Claude and Bedrock can enforce while decoding. Pure.

Every object lists all its members. Constraints that are not enforced (bounds, patterns, the
types of a tuple's items) go into the description, where the model reads them; the answer has to
be checked for them. Apart from these, every value that fits the result fits the schema.

Source: Anthropic's documentation of structured outputs, and `transform_schema` of its SDK.
"""

from __future__ import annotations

import msgspec

from orchestra.errors import CapabilityError
from orchestra.values import Json, JsonOutput

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
    """The schema in this subset. Invalid schemas are left for the provider to refuse.

    Raises:
        CapabilityError: it has an object without named members, such as a `dict[str, int]`; or it
            is nested deeper than `DEPTH_MAX`.
    """
    return _enforced(schema, DEPTH_MAX)


def enforced_output(output: JsonOutput, whom: str) -> Json:
    """The schema of the answer in this subset, for the provider `whom`.

    Raises:
        CapabilityError: there is no schema; or as for `enforced`.
    """
    if output.schema is None:
        raise CapabilityError(
            f"output=... without a schema cannot be sent to {whom}, which requires a schema for "
            "JSON; add one, or ask for JSON in the prompt"
        )
    return enforced(output.schema)


def _enforced(schema: Json, depth_left: int) -> Json:
    if not depth_left:
        raise CapabilityError(
            f"output=...: the schema is nested deeper than {DEPTH_MAX}, which this model does not "
            "support; make it flatter, or move parts of it to $defs"
        )
    if "$ref" in schema:  # only definitions are allowed beside it
        found: Json = {"$ref": schema["$ref"]}
        return found | {
            key: _each_schema(schema[key], depth_left) for key in _NESTED[:2] if key in schema
        }
    found, unenforced = {}, {}
    for key, value in schema.items():
        if key in _NESTED:
            found[key] = _each_schema(value, depth_left)
        elif key in _VARIANTS and isinstance(value, list):
            found[_VARIANTS[key]] = [_schema(each, depth_left) for each in value]
        elif key == "items" and isinstance(value, dict):
            found[key] = _enforced(value, depth_left - 1)
        elif key in _KEPT or _is_enforced(key, value):
            found[key] = value
        elif key != "additionalProperties":
            unenforced[key] = value
    if schema.get("type") == "object":
        _refuse_nameless(schema)
        found["additionalProperties"] = False
    if unenforced:
        description = found.get("description")
        found["description"] = f"{description}\n\n" * bool(description) + _in_words(unenforced)
    return found


def _is_enforced(key: str, value: object) -> bool:
    if not isinstance(value, str | int):
        return False
    return (key == "format" and value in _FORMATS) or (key == "minItems" and value in _ITEMS_MIN)


def _each_schema(schemas: object, depth_left: int) -> object:
    if not isinstance(schemas, dict):
        return schemas
    return {name: _schema(each, depth_left) for name, each in schemas.items()}


def _schema(schema: object, depth_left: int) -> object:
    return _enforced(schema, depth_left - 1) if isinstance(schema, dict) else schema


def _refuse_nameless(schema: Json) -> None:
    if schema.get("properties") or (
        "properties" in schema and schema.get("additionalProperties") in (False, None)
    ):
        return
    raise CapabilityError(
        f"a schema has {_in_words(schema)[:200]}, an object without named members, which this "
        "model does not support; name the members, use a list of pairs, or ask for JSON in the "
        "prompt"
    )


def _in_words(constraints: Json) -> str:
    """Constraints as text, in the form of Anthropic's SDK."""
    items = constraints.items()
    text = ", ".join(f"{key}: {msgspec.json.encode(value).decode()}" for key, value in items)
    return f"{{{text}}}"
