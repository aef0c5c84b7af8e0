"""JSON Schema as Claude's and Bedrock's constrained decoding take it: a smaller language. Pure.

Every object names all its members. What a schema says beyond what they enforce (bounds, patterns,
the kinds of a tuple's members) goes into the description, where the model reads it; whoever wants
to be sure checks the answer. Whatever fits the result fits the schema, but for that.

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


def enforced(schema: Json) -> Json:
    """The schema in their words.

    Raises:
        CapabilityError: it has an object whose members have no names, such as a `dict[str, int]`.
    """
    if "$ref" in schema:  # nothing may stand beside it, but what it refers to
        found: Json = {"$ref": schema["$ref"]}
        return found | {key: _named(schema[key]) for key in _NESTED[:2] if key in schema}
    found, beyond = {}, {}
    for key, value in schema.items():
        if key in _NESTED:
            found[key] = _named(value)
        elif key in _VARIANTS:
            found[_VARIANTS[key]] = [_schema(each) for each in value]
        elif key == "items" and isinstance(value, dict):
            found[key] = enforced(value)
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
    return (key == "format" and value in _FORMATS) or (key == "minItems" and value in _ITEMS_MIN)


def _named(schemas: object) -> object:
    if not isinstance(schemas, dict):
        return schemas
    return {name: _schema(each) for name, each in schemas.items()}


def _schema(schema: object) -> object:
    return enforced(schema) if isinstance(schema, dict) else schema


def _refuse_nameless(schema: Json) -> None:
    if schema.get("properties") or (
        "properties" in schema and schema.get("additionalProperties") in (False, None)
    ):
        return
    raise CapabilityError(
        f"a schema has {_in_words(schema)[:200]}, an object whose members have no names: this "
        "model cannot be held to it; name the members (a list of pairs, for instance), or ask for "
        "JSON in the prompt"
    )


def _in_words(said: Json) -> str:
    """As Anthropic's SDK writes it."""
    told = ", ".join(f"{key}: {msgspec.json.encode(value).decode()}" for key, value in said.items())
    return f"{{{told}}}"
