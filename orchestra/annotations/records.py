"""Records: classes whose values are objects in JSON, and what their `__init__` is called with."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, NotRequired, Required, cast, get_args, get_origin, is_typeddict

import attrs
import msgspec

from orchestra.annotations.deferred import signature
from orchestra.annotations.shapes import MISSING, fields, parts, plain, required_keys


@attrs.frozen
class Member:
    """One member of a record as JSON has it."""

    name: str
    """What the class calls it."""
    kind: object
    required: bool
    default: object = MISSING
    """What it is where JSON leaves it out, if that is a value known before."""


def is_record(kind: object) -> bool:
    """Whether its values are objects with members of their own: attrs, dataclass, TypedDict."""
    origin = parts(plain(kind))[0]
    if not isinstance(origin, type):
        return False
    return attrs.has(origin) or dataclasses.is_dataclass(origin) or is_typeddict(origin)


def has_members(kind: object) -> bool:
    """As `is_record`; msgspec's own classes too."""
    origin = parts(plain(kind))[0]
    return is_record(kind) or (isinstance(origin, type) and issubclass(origin, msgspec.Struct))


def is_made(kind: object) -> bool:
    """Whether values of a class are wrong where its members are filled without its `__init__`."""
    cls = parts(plain(kind))[0]
    if not isinstance(cls, type):
        return False
    if attrs.has(cls):
        return any(map(_is_own, attrs.fields(cls)))
    return dataclasses.is_dataclass(cls) and not all(f.init for f in dataclasses.fields(cls))


def members_of(kind: object) -> Mapping[str, Member]:
    """What a record is called with, by the names that JSON has for it; not what it makes itself."""
    cls, hints = cast("type", parts(plain(kind))[0]), fields(kind)
    if attrs.has(cls):
        listed: list[attrs.Attribute[Any]] = list(attrs.fields(cls))
        made = is_made(kind)
        return {
            each.alias if made and each.alias else each.name: _of_attribute(each, hints)
            for each in listed
            if each.init
        }
    if dataclasses.is_dataclass(cls):
        return {each.name: _of_field(each, hints) for each in dataclasses.fields(cls) if each.init}
    if issubclass(cls, msgspec.Struct):
        listed_ = msgspec.structs.fields(cls)
        return {each.encode_name: Member(each.name, each.type, each.required) for each in listed_}
    required = required_keys(kind)
    return {name: Member(name, _bare(hint), name in required) for name, hint in hints.items()}


def _is_own(member: attrs.Attribute[Any]) -> bool:
    """Whether `__init__` does more with a member than to set it."""
    looks = bool(getattr(member.default, "takes_self", False))
    renamed = member.alias != member.name
    return member.converter is not None or not member.init or renamed or looks


def _of_attribute(member: attrs.Attribute[Any], hints: Mapping[str, object]) -> Member:
    kind = hints.get(member.name, object)
    if member.converter is not None:
        kind = _taken_by(member.converter, kind)
    plain_default = not isinstance(member.default, attrs.Factory)  # type: ignore[arg-type]
    given = member.default if plain_default and member.default is not attrs.NOTHING else MISSING
    return Member(member.name, kind, member.default is attrs.NOTHING, given)


def _of_field(member: dataclasses.Field[Any], hints: Mapping[str, object]) -> Member:
    missing = dataclasses.MISSING
    required = member.default is missing and member.default_factory is missing
    given = MISSING if member.default is missing else member.default
    return Member(member.name, hints.get(member.name, object), required, given)


def _taken_by(converter: Any, otherwise: object) -> object:
    """What a converter is annotated to take, if JSON has a form for that; else the member's own."""
    function = getattr(converter, "converter", converter)  # of an `attrs.Converter`
    try:
        first = next(iter(signature(function).parameters))
        kind = inspect.get_annotations(function, eval_str=True).get(first, otherwise)
        msgspec.json.schema(kind)
    except Exception:  # noqa: BLE001 - of what is built in, or is annotated with anything
        return otherwise
    return kind


def _bare(hint: object) -> object:
    """An annotation without `Required` and `NotRequired`."""
    return get_args(hint)[0] if get_origin(hint) in (NotRequired, Required) else hint
