"""JSON Schemas (2020-12) of annotations: of what a client may send, and of what a model is asked.

They are msgspec's, so what they say is what `reading` checks. For a model they are told with
descriptions, from docstrings and from `Annotated[str, "what it is"]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from orchestra.annotations.docstrings import described
from orchestra.annotations.schema_forms import StrictSchema, neat, refers, strictly
from orchestra.annotations.shapes import alternatives, fields, parts, plain
from orchestra.events import jsonable
from orchestra.values import Json

_REFERENCE = "#/$defs/"


def object_schema(
    members: Mapping[str, object],
    defaults: Mapping[str, object],
    hook: Callable[[type], Json] | None = None,
) -> Json:
    """The schema of an object with these members and no others; those with a default may lack.

    `hook` is msgspec's `schema_hook`: the schemas of classes that it does not know.

    Raises:
        TypeError: an annotation has no form in JSON.
    """
    found, components = _schemas(members.values(), hook)
    properties = dict(zip(members, found, strict=True))
    for name, default in defaults.items():
        told = msgspec.to_builtins(default, enc_hook=jsonable)
        properties[name] = properties[name] | {"default": told}
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in members if name not in defaults],
        "additionalProperties": False,
    } | ({"$defs": components} if components else {})


def parameters_schema(
    members: Mapping[str, object], defaults: Mapping[str, object], about: Mapping[str, str]
) -> Json:
    """As `object_schema`, for a model; `about` describes members that do not do so themselves.

    Raises:
        TypeError: an annotation has no form in JSON.
    """
    schema = neat(object_schema(members, defaults))
    _describe_classes(schema.get("$defs", {}), members.values())
    _describe(schema, {**about, **_notes(members)})
    return schema


def class_schema(kind: object) -> StrictSchema:
    """The schema of a class whose values are JSON objects, as a model is asked to fill it.

    Raises:
        TypeError: it has no form in JSON, or one that is no object with named members.
    """
    (root,), components = _schemas([kind])
    components = {name: neat(each) for name, each in components.items()}
    _describe_classes(components, [kind])
    name = str(root.get("$ref", "")).removeprefix(_REFERENCE)
    schema = components.get(name, {})
    if "properties" not in schema:
        raise TypeError(f"the values of {kind!r} are no JSON objects with named members")
    holds_itself = any(refers(each, root["$ref"]) for each in components.values())
    others = {key: each for key, each in components.items() if holds_itself or key != name}
    return strictly(schema | ({"$defs": others} if others else {}))


def _schemas(
    kinds: Iterable[object], hook: Callable[[type], Json] | None = None
) -> tuple[tuple[Json, ...], dict[str, Json]]:
    """The schemas of these, and of the classes in them by name."""
    given = [Any if kind is object else kind for kind in kinds]
    try:
        return msgspec.json.schema_components(
            given, schema_hook=hook, ref_template=_REFERENCE + "{name}"
        )
    except TypeError as error:  # it begins with advice on its own extensions
        raise TypeError(str(error).strip().rpartition("\n")[2]) from error


def _notes(members: Mapping[str, object]) -> dict[str, str]:
    """The texts in `Annotated[kind, "text"]`, for members that have one."""
    found = {}
    for name, kind in members.items():
        notes = [each for each in getattr(kind, "__metadata__", ()) if isinstance(each, str)]
        if notes:
            found[name] = notes[0]
    return found


def _describe(schema: Json, about: Mapping[str, str]) -> None:
    properties = schema["properties"]
    for name, text in about.items():
        if text and name in properties:
            properties[name] = {"description": text} | properties[name]


def _describe_classes(components: Mapping[str, Json], kinds: Iterable[object]) -> None:
    """Write into each class's schema what its docstring and its annotations say."""
    seen: dict[type, None] = {}
    for kind in kinds:
        _find_classes(kind, seen)
    by_name = {cls.__name__: cls for cls in reversed(seen)}
    for name, schema in components.items():
        cls = by_name.get(name)
        if cls is None or "properties" not in schema:
            continue
        told = described(cls.__doc__)
        if told.text and "description" in schema:  # msgspec leaves out what nobody wrote
            schema["description"] = told.text
        _describe(schema, {**told.members, **_notes(fields(cls))})


def _find_classes(kind: object, seen: dict[type, None]) -> None:
    """Every class that an annotation is made of, each once."""
    for member in alternatives(plain(kind)):
        origin, given = parts(plain(member))
        for inner in given:
            _find_classes(inner, seen)
        if isinstance(origin, type) and origin not in seen and origin.__module__ != "builtins":
            seen[origin] = None
            for hint in fields(member).values():
                _find_classes(hint, seen)
