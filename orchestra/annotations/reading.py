"""Reads values from JSON by their annotations, and reports everything that does not fit.

msgspec reads a value, and stops at the first fault. Only if there is one are the members of the
value read one by one, to find the other faults.
"""

from __future__ import annotations

import operator
from collections import abc
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import attrs
import msgspec

from orchestra.annotations.complaints import complaints_of, with_allowed
from orchestra.annotations.custom_types import custom_dec_hook, for_msgspec, record_at
from orchestra.annotations.pydantic_models import is_model
from orchestra.annotations.records import members_of
from orchestra.annotations.shapes import alternatives, arguments, class_of, plain, tuple_items
from orchestra.nearest import did_you_mean

MISFITS_MAX = 20
"""The most misfits reported for one value."""
_DEPTH_MAX = 20
"""How deep misfits are searched inside a value."""
_NAME_MAX = 100
_WHOLE_MAX = 2**53
"""Up to here a float that is a whole number is exactly that number."""


@attrs.frozen
class Misfit:
    """A part of a value that does not fit: its path (`filters[0].year`, "" for all), and why."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"`{self.path}`: {self.what}" if self.path else self.what


def decoded(text: str) -> object:
    """The value of a JSON text.

    Raises:
        ValueError: the text is not JSON, or is nested too deeply.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(f"this is not JSON: {error}; write one JSON value") from error


def read(kind: object, value: object, path: str = "") -> tuple[object, tuple[Misfit, ...]]:
    """Convert a value to its annotation; return `(value, ())`, or `(None, misfits)` if it fails.

    Strict: `"5"` is not an int, but `5.0` is one, as in JSON Schema. Members that the class does
    not have are ignored. Pydantic models decide both for themselves.
    """
    found, complaints = _converted(kind, value)
    if not complaints:
        return found, ()
    return None, tuple(islice(_misfits(kind, value, path, _DEPTH_MAX), MISFITS_MAX))


def read_members(
    kinds: Mapping[str, object], required: abc.Set[str], given: Mapping[str, object]
) -> tuple[dict[str, object], tuple[Misfit, ...]]:
    """The members of an object, converted to their annotations; unknown members are misfits."""
    found: dict[str, object] = {}
    misfits: list[Misfit] = []
    for name, value in given.items():
        if name in kinds:
            found[name], wrong = read(kinds[name], value, name)
            misfits += wrong
        else:
            misfits.append(Misfit(name[:_NAME_MAX], _unknown(name, kinds)))
    misfits += [Misfit(name, "is missing") for name in kinds if name in required - given.keys()]
    return found, tuple(misfits[:MISFITS_MAX])


def _unknown(name: str, kinds: Mapping[str, object]) -> str:
    known = ", ".join(kinds) or "none"
    return f"is unknown; {did_you_mean(name, kinds, written='`{}`'.format) or f'there is {known}'}"


def convert(value: object, kind: Any, dec_hook: Callable[[type, Any], Any]) -> Any:
    """A JSON value as msgspec reads it, but `5.0` is an int, too, as it is for a JSON Schema.

    Strict: `"5"` is not an int. `kind` is a type for msgspec, as `for_msgspec` returns it.

    Raises:
        msgspec.ValidationError: the value does not fit.
    """
    try:
        return msgspec.convert(value, kind, str_keys=True, dec_hook=dec_hook)
    except msgspec.ValidationError:
        whole = _with_whole_numbers(value, _DEPTH_MAX)
        if whole is value:
            raise
    return msgspec.convert(whole, kind, str_keys=True, dec_hook=dec_hook)


def _with_whole_numbers(value: object, depth: int) -> object:
    """The value with 5 for each `5.0` in it; the same object if there is none."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= _WHOLE_MAX else value
    if not (isinstance(value, list | dict) and depth):
        return value
    parts = value.values() if isinstance(value, dict) else value
    found = [_with_whole_numbers(each, depth - 1) for each in parts]
    if all(map(operator.is_, found, parts)):
        return value
    return dict(zip(value, found, strict=True)) if isinstance(value, dict) else found


_MAKE = custom_dec_hook()


def _converted(kind: object, value: object) -> tuple[object, tuple[tuple[str, str], ...]]:
    """The converted value; or None, with the message and the place of each fault."""
    try:
        return convert(value, for_msgspec(kind), _MAKE), ()
    except Exception as error:  # noqa: BLE001 - validators of a class may raise anything
        return None, complaints_of(error)


def _misfits(kind: object, value: object, path: str, depth: int) -> Iterator[Misfit]:
    complaints = _converted(kind, value)[1]
    if not complaints:
        return
    inner = _inside(kind, value, path, depth - 1) if depth else iter(())
    first = next(inner, None)
    if first is not None:
        yield first
        yield from inner
        return
    for what, place in complaints:
        text = what if place else with_allowed(what, kind)
        yield Misfit(f"{path}{place}".removeprefix("."), text)


def _inside(kind: object, value: object, path: str, depth: int) -> Iterator[Misfit]:
    """The misfits of a value's members or items; none if the value is wrong as a whole."""
    if isinstance(value, dict) and (record := record_at(kind, value)) is not None:
        if not is_model(class_of(record)):  # a model has reported everything at once
            yield from _inside_record(record, value, path, depth)
        return
    for member in alternatives(plain(kind)):
        whole = plain(member)
        if is_model(class_of(whole)):
            continue
        if isinstance(value, dict) and (pair := arguments(whole, abc.Mapping)):
            for key, each in value.items():
                yield from _misfits(pair[1], each, f"{path}[{key!r:.{_NAME_MAX}}]", depth)
        elif isinstance(value, list):
            yield from _inside_list(whole, value, path, depth)


def _inside_record(
    kind: object, value: Mapping[str, object], path: str, depth: int
) -> Iterator[Misfit]:
    for name, each in members_of(kind).items():
        where = f"{path}.{name}".removeprefix(".")
        if name in value:
            yield from _misfits(each.kind, value[name], where, depth)
        elif each.required:
            yield Misfit(where, "is missing")


def _inside_list(kind: object, value: list[object], path: str, depth: int) -> Iterator[Misfit]:
    items = tuple_items(kind)
    given = arguments(kind, abc.Iterable)
    cls = class_of(kind)
    if cls is not None and issubclass(cls, str):
        return
    for place, each in enumerate(value):
        if items is not None and place < len(items):
            yield from _misfits(items[place], each, f"{path}[{place}]", depth)
        elif items is None and given:
            yield from _misfits(given[0], each, f"{path}[{place}]", depth)
