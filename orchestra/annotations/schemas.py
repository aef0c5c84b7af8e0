"""JSON Schemas (2020-12) of annotations, for the inputs of clients and the output of models.

msgspec makes them, so they agree with what `reading` accepts. For a model, descriptions are added,
from docstrings and from `Annotated[str, "what it is"]`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from typing import Any

import attrs
import msgspec

from orchestra.annotations.complaints import refuse_unknown_class
from orchestra.annotations.custom_types import UNTOLD, CustomType, Record, for_msgspec
from orchestra.annotations.docstrings import described
from orchestra.annotations.pydantic_models import (
    REFERENCE,
    is_model,
    is_written_alike,
    note_of,
    writes_all,
)
from orchestra.annotations.records import is_made, is_record, members_of
from orchestra.annotations.schema_forms import StrictSchema, neat, refers, strictly
from orchestra.annotations.shapes import MISSING, alternatives, fields, parts, plain
from orchestra.event_lines import jsonable
from orchestra.values import Json

_MARK = "$made"
_SEVERAL = re.compile("more than one (dict-like|dataclass|TypedDict)")


def object_schema(
    members: Mapping[str, object],
    defaults: Mapping[str, object],
    hook: Callable[[type], Json] = refuse_unknown_class,
) -> Json:
    """The schema of an object with these members only; those with a default are optional.

    `hook` is msgspec's `schema_hook`: it returns the schemas of classes that msgspec does not know.

    Raises:
        TypeError: an annotation has no form in JSON.
    """
    found, components = _schemas(members.values(), hook)
    properties = dict(zip(members, found, strict=True))
    for name, default in defaults.items():
        properties[name] = properties[name] | _default(default)
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in members if name not in defaults],
        "additionalProperties": False,
    } | ({"$defs": components} if components else {})


def parameters_schema(
    members: Mapping[str, object], defaults: Mapping[str, object], about: Mapping[str, str]
) -> Json:
    """As `object_schema`, for a model; `about` describes members without their own description.

    Raises:
        TypeError: an annotation has no form in JSON.
    """
    schema = neat(object_schema(members, defaults))
    _describe_classes(schema.get("$defs", {}), members.values())
    _describe(schema, {**about, **_notes(members)})
    return schema


def class_schema(kind: object) -> StrictSchema:
    """The schema of a class whose values are JSON objects, for a model that has to fill it in.

    Raises:
        TypeError: the class has no form in JSON, or its values are not objects with named members.
    """
    (root,), components = _schemas([kind])
    components = {name: neat(each) for name, each in components.items()}
    _describe_classes(components, [kind])
    name = str(root.get("$ref", "")).removeprefix(REFERENCE)
    schema = components.get(name, neat(root))  # of a checked model, the schema is here
    if "properties" not in schema:
        raise TypeError(f"the values of {kind!r} are not JSON objects with named members")
    holds_itself = any(refers(each, REFERENCE + name) for each in components.values())
    others = {key: each for key, each in components.items() if holds_itself or key != name}
    return strictly(schema | ({"$defs": others} if others else {}))


def is_written_as_read(kind: object) -> bool:
    """Whether values are written as they are read: no class renames or converts its arguments.

    When msgspec writes an object, it writes its members, by their own names.
    """
    seen: dict[type, None] = {}
    _find_classes(kind, seen)
    return not any(is_record(cls) and is_made(cls) and _takes_others(cls) for cls in seen)


def require_written(schema: Json, kind: object) -> None:
    """Require all members that are always written, also those that have a default when read.

    Attrs classes, dataclasses, Structs and Pydantic models write all of their members, but those of
    an attrs class whose names begin with an underscore.
    """
    seen: dict[type, None] = {}
    _find_classes(kind, seen)
    if not all(writes_all(cls) for cls in seen if is_model(cls)):
        return
    by_name = {cls.__name__: cls for cls in seen if _writes_all(cls)}
    for name, each in schema.get("$defs", {}).items():
        if name in by_name and "properties" in each:
            hidden = "_" if attrs.has(by_name[name]) else ()  # `startswith(())` is false
            each["required"] = [own for own in each["properties"] if not own.startswith(hidden)]
            for member in each["properties"].values():
                member.pop("default", None)


def _writes_all(cls: type) -> bool:
    if any(msgspec.UnsetType in alternatives(plain(each)) for each in fields(cls).values()):
        return False
    if issubclass(cls, msgspec.Struct):
        return not cls.__struct_config__.omit_defaults
    return attrs.has(cls) or is_dataclass(cls) or is_model(cls)


def _takes_others(cls: type) -> bool:
    """Whether a class takes arguments with other names or types than its members have."""
    if is_model(cls):
        return not is_written_alike(cls)
    own = fields(cls)
    return any(
        name != each.name or plain(each.kind) != plain(own.get(each.name, object))
        for name, each in members_of(cls).items()
    )


def _schemas(
    kinds: Iterable[object], hook: Callable[[type], Json] = refuse_unknown_class
) -> tuple[tuple[Json, ...], dict[str, Json]]:
    """The schemas of the annotations, and those of the classes in them, by name."""
    given = [for_msgspec(kind) for kind in kinds]
    made: dict[type[CustomType], str] = {}
    marked = _marking(made, hook)
    try:
        while True:  # until a round finds no new custom type, as each may contain others
            known = len(made)
            held = [part for each in made for part in each.recipe.parts]
            found, components = msgspec.json.schema_components(
                [*given, *held], schema_hook=marked, ref_template=REFERENCE + "{name}"
            )
            if len(made) == known:
                break
    except TypeError as error:  # the message begins with advice on msgspec's extensions
        raise TypeError(_advised(str(error).strip().rpartition("\n")[2])) from error
    inner = iter(found[len(given) :])
    meant = {
        mark: each.recipe.schema_from([next(inner) for _ in each.recipe.parts], components)
        for each, mark in made.items()
    }
    for each, mark in made.items():
        if isinstance(each.recipe, Record):
            _in_order(each.recipe, components[meant[mark]["$ref"].removeprefix(REFERENCE)])
    unmarked = {name: _unmarked(each, meant) for name, each in components.items()}
    return tuple(_unmarked(each, meant) for each in found[: len(given)]), unmarked


def _marking(
    made: dict[type[CustomType], str], hook: Callable[[type], Json]
) -> Callable[[type], Json]:
    """A `schema_hook` for msgspec that marks each custom type, and adds it to `made`."""

    def marked(kind: type) -> Json:
        if is_model(kind):  # in a Struct of msgspec or a NamedTuple
            kind = for_msgspec(kind)
        if issubclass(kind, CustomType):
            return {_MARK: made.setdefault(kind, str(len(made)))}
        return hook(kind)

    return marked


def _unmarked(schema: Any, meant: Mapping[str, Json]) -> Any:
    """The schema with each mark replaced by the schema that it stands for."""
    if isinstance(schema, list):
        return [_unmarked(each, meant) for each in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {key: _unmarked(each, meant) for key, each in schema.items() if key != _MARK}
    return _unmarked(meant[schema[_MARK]], meant) | rest if _MARK in schema else rest


def _in_order(record: Record, schema: Json) -> None:
    """Put the members of a record's schema into the class's order, and add their defaults."""
    for name, each in record.members.items():
        member = schema["properties"].pop(name)
        if each.default is not MISSING:
            member = member | _default(each.default)
        schema["properties"][name] = member
    schema["required"] = [name for name, each in record.members.items() if each.required]


def _default(value: object) -> Json:
    """The `default` keyword of a member; empty if the default cannot be written in JSON."""
    try:
        plain_value = msgspec.to_builtins(value, enc_hook=_as_read, str_keys=True)
        msgspec.json.encode(plain_value)  # raises for a lone surrogate
    except Exception:  # noqa: BLE001 - `repr` may raise anything
        return {}
    return {"default": plain_value}


def _as_read(value: Any) -> object:
    """As `jsonable`, but a Pydantic model has the names by which it is read."""
    return (
        value.model_dump(mode="json", by_alias=True) if is_model(type(value)) else jsonable(value)
    )


def _advised(complaint: str) -> str:
    """Msgspec's message; for a union that it cannot read, our own, with what to write instead."""
    if not _SEVERAL.search(complaint):
        return complaint
    return UNTOLD


def _notes(members: Mapping[str, object]) -> dict[str, str]:
    """The texts of `Annotated[kind, "text"]`, by member; also in a union with others, as None.

    Those of `Annotated[kind, Field(description="text")]`, too.
    """
    found = {}
    for name, kind in members.items():
        data = [getattr(each, "__metadata__", ()) for each in (kind, *alternatives(kind))]
        notes = [note for each in data for note in map(note_of, each) if note]
        if notes:
            found[name] = notes[0]
    return found


def _describe(schema: Json, about: Mapping[str, str]) -> None:
    properties = schema["properties"]
    for name, text in about.items():
        if text and name in properties:
            properties[name] = {"description": text} | properties[name]


def _describe_classes(components: Mapping[str, Json], kinds: Iterable[object]) -> None:
    """Add descriptions from docstrings and annotations to the schemas of classes."""
    seen: dict[type, None] = {}
    for kind in kinds:
        _find_classes(kind, seen)
    by_name = {cls.__name__: cls for cls in reversed(seen)}
    for name, schema in components.items():
        cls = by_name.get(name)
        if cls is None or "properties" not in schema:
            continue
        doc = described(cls.__doc__)
        if doc.text and "description" in schema:  # msgspec leaves out generated docstrings
            schema["description"] = doc.text
        about = {**doc.members, **_notes(fields(cls))}
        if is_record(cls) and is_made(cls):
            members = members_of(cls)
            names = {each.name: name for name, each in members.items()}
            about = {names.get(name, name): text for name, text in about.items()}
            about |= _notes({name: each.kind for name, each in members.items()})
        _describe(schema, about)


def _find_classes(kind: object, seen: dict[type, None]) -> None:
    """Add every class in an annotation to `seen`, also those of its members."""
    for member in alternatives(plain(kind)):
        origin, given = parts(plain(member))
        for inner in given:
            _find_classes(inner, seen)
        if isinstance(origin, type) and origin not in seen and origin.__module__ != "builtins":
            seen[origin] = None
            for hint in fields(member).values():
                _find_classes(hint, seen)
