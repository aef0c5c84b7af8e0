"""Records: classes whose values are objects in JSON, and the arguments of their `__init__`."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, NotRequired, Required, cast, get_args, get_origin, is_typeddict

import attrs
import msgspec

from orchestra.annotations.deferred import signature
from orchestra.annotations.shapes import MISSING, class_of, fields, required_keys
from orchestra.eventclass import frozen


@frozen
class Member:
    """One member of a record as JSON has it."""

    name: str
    """Its name in the class."""
    kind: object
    required: bool
    default: object = MISSING
    """Its value where JSON leaves it out; `MISSING` if that is not a fixed value."""


def is_record(kind: object) -> bool:
    """Whether it is a record: an attrs class, a dataclass or a TypedDict."""
    cls = class_of(kind)
    if cls is None:
        return False
    return attrs.has(cls) or dataclasses.is_dataclass(cls) or is_typeddict(cls)


def has_members(kind: object) -> bool:
    """As `is_record`, and true for msgspec's own classes."""
    cls = class_of(kind)
    return is_record(kind) or (cls is not None and issubclass(cls, msgspec.Struct))


def is_made(kind: object) -> bool:
    """Whether a class has to be made by its `__init__`: setting its members is not enough."""
    cls = class_of(kind)
    if cls is None:
        return False
    if attrs.has(cls):
        begins = hasattr(cls, "__attrs_pre_init__")  # which may take the arguments, too
        return begins or _is_written(cls.__init__) or any(map(_is_own, attrs.fields(cls)))
    if not dataclasses.is_dataclass(cls):
        return False
    return _is_written(cls.__init__) or not all(f.init for f in dataclasses.fields(cls))


def members_of(kind: object) -> Mapping[str, Member]:
    """The arguments of a record by their names in JSON; members it computes are left out."""
    cls, hints = cast("type", class_of(kind)), fields(kind)
    if attrs.has(cls):
        listed: list[attrs.Attribute[Any]] = list(attrs.fields(cls))
        made = is_made(kind)
        found = {
            each.alias if made and each.alias else each.name: _of_attribute(each, hints)
            for each in listed
            if each.init
        }
        return _as_taken(found, cls)
    if dataclasses.is_dataclass(cls):
        found = {each.name: _of_field(each, hints) for each in dataclasses.fields(cls) if each.init}
        return _as_taken(found, cls)
    if issubclass(cls, msgspec.Struct):
        listed_ = msgspec.structs.fields(cls)
        return {each.encode_name: Member(each.name, each.type, each.required) for each in listed_}
    required = required_keys(kind)
    return {name: Member(name, _bare(hint), name in required) for name, hint in hints.items()}


def _as_taken(members: Mapping[str, Member], cls: Any) -> Mapping[str, Member]:
    """The members; which may be left out, an `__init__` that somebody wrote says, not the class."""
    takes = signature(cls).parameters if _is_written(cls.__init__) else {}
    defaults = {name: each.default for name, each in takes.items() if name in members}
    empty = inspect.Parameter.empty
    told = {
        name: attrs.evolve(
            members[name], required=given is empty, default=MISSING if given is empty else given
        )
        for name, given in defaults.items()
    }
    return {**members, **told}


def _is_written(init: Any) -> bool:
    """Whether an `__init__` was written by hand, and not made by attrs or `dataclass`."""
    code = getattr(init, "__code__", None)
    return code is not None and not code.co_filename.startswith(_GENERATED)


_GENERATED = ("<attrs generated", "<string>")
"""How the file names of methods begin that attrs and `dataclass` have made."""


def _is_own(member: attrs.Attribute[Any]) -> bool:
    """Whether `__init__` does more with a member than set it."""
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
    """The parameter type of a converter, if JSON has a form for it; else the member's own type."""
    function = getattr(converter, "converter", converter)  # an `attrs.Converter` wraps it
    try:
        first = next(iter(signature(function).parameters))
        kind = inspect.get_annotations(function, eval_str=True).get(first, otherwise)
        msgspec.json.schema(kind)
    except Exception:  # noqa: BLE001 - built-ins have no signature, and annotations may raise
        return otherwise
    return kind


def _bare(hint: object) -> object:
    """An annotation without `Required` and `NotRequired`."""
    return get_args(hint)[0] if get_origin(hint) in (NotRequired, Required) else hint
