"""Reads values from JSON by their annotations, and reports everything that does not fit.

msgspec reads a value, and stops at the first fault. Only if there is one are the members of the
value read one by one, to find the other faults.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Iterable, Iterator, Mapping
from itertools import count, islice, repeat
from typing import Any, NewType

import attrs
import msgspec

from orchestra.annotations import stand_ins
from orchestra.annotations.acceptance import Known, is_anything, once
from orchestra.annotations.complaints import Complaints, complaints_of, with_allowed
from orchestra.annotations.custom_types import custom_dec_hook, for_msgspec, record_at
from orchestra.annotations.places import Place, spelled
from orchestra.annotations.pydantic_models import is_model
from orchestra.annotations.records import members_of
from orchestra.annotations.shapes import (
    MISSING,
    alternatives,
    arguments,
    class_of,
    plain,
    tuple_items,
)
from orchestra.nearest import did_you_mean

MISFITS_MAX = 20
"""The most misfits reported for one value."""
_DEPTH_MAX = 20
"""How deep misfits are searched inside a value."""
_DICTS_MAX = 3
"""How many dicts inside each other are searched, as all values of each have to be read again."""
_PARTS_MAX = 10_000
"""How many parts of a value are searched for misfits; after them, the first misfit is reported,
which msgspec finds. So a large wrong body does not keep a server from others for long."""
_MAY_HOLD_FLOATS = {float, list, dict}
_NAME_MAX = 100
_WHOLE_MAX = 2**53
"""Up to here a float that is a whole number is exactly that number."""


@attrs.frozen
class Misfit:
    """A part of a value that does not fit: its place, empty for the whole value; and why."""

    place: Place
    what: str

    @property
    def path(self) -> str:
        """The place in a text: `filters[0].year`."""
        return spelled(self.place)

    def __str__(self) -> str:
        return f"`{self.path}`: {self.what}" if self.place else self.what


def decoded(text: str) -> object:
    """The value of a JSON text.

    Raises:
        ValueError: the text is not JSON, or is nested too deeply.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(f"this is not JSON: {error}; write one JSON value") from error


def read(kind: object, value: object, place: Place = ()) -> tuple[object, tuple[Misfit, ...]]:
    """Convert a value to its annotation; return `(value, ())`, or `(None, misfits)` if it fails.

    Strict: `"5"` is not an int, but `5.0` is one, as in JSON Schema. Members that the class does
    not have are ignored. Pydantic models decide both for themselves. `Document` and `Message` are
    read from JSON if `kind` has their stand-ins. `place` is that of the value.
    """
    found, complaints = _converted(kind, value)
    if not complaints:
        return found, ()
    known: Known = {}
    whole = _with_whole_numbers(kind, value, _DEPTH_MAX, known)
    if whole is not value:
        found, complaints = _converted(kind, whole)
    search = _Search(known, iter(range(_PARTS_MAX)))
    misfits = _explained(kind, whole, complaints, place, search)
    wrong = tuple(islice(misfits, MISFITS_MAX)) if complaints else ()
    return None if wrong else found, wrong


@attrs.frozen
class _Search:
    """What is known of the annotations, and one item for each part that may still be looked at."""

    known: Known
    parts_left: Iterator[int]


def read_members(
    kinds: Mapping[str, object], required: abc.Set[str], given: Mapping[str, object]
) -> tuple[dict[str, object], tuple[Misfit, ...]]:
    """The members of an object, converted to their annotations; unknown members are misfits."""
    found: dict[str, object] = {}
    misfits: list[Misfit] = []
    for name, value in given.items():
        if name in kinds:
            found[name], wrong = read(kinds[name], value, (name,))
            misfits += wrong
        elif len(misfits) < MISFITS_MAX:  # of thousands, not each is compared with what there is
            misfits.append(Misfit((name[:_NAME_MAX],), _unknown(name, kinds)))
    misfits += [Misfit((name,), "is missing") for name in kinds if name in required - given.keys()]
    return found, tuple(misfits[:MISFITS_MAX])


def _unknown(name: str, kinds: Mapping[str, object]) -> str:
    known = ", ".join(kinds) or "none"
    return f"is unknown; {did_you_mean(name, kinds, written='`{}`'.format) or f'there is {known}'}"


def misfits_of(kind: object, complaints: Complaints, place: Place = ()) -> Iterator[Misfit]:
    """The complaints about a value at this place as misfits."""
    for what, inner in complaints:
        yield Misfit((*place, *inner), what if inner else with_allowed(what, kind))


_MAKE = custom_dec_hook(otherwise=stand_ins.read)


def _converted(kind: object, value: object) -> tuple[object, Complaints]:
    """The value as msgspec reads it; or None, with the message and the place of each fault."""
    try:
        return msgspec.convert(value, for_msgspec(kind), str_keys=True, dec_hook=_MAKE), ()
    except Exception as error:  # noqa: BLE001 - validators of a class may raise anything
        return None, complaints_of(error)


def _with_whole_numbers(kind: object, value: Any, depth: int, known: Known) -> object:
    """The value with 5 for each `5.0` that cannot stay one; the same object if there is none."""
    if isinstance(value, float):
        is_whole = value.is_integer() and abs(value) <= _WHOLE_MAX
        return int(value) if is_whole and not once(known, _takes_float, kind) else value
    items = value.values() if isinstance(value, dict) else value
    if not isinstance(value, list | dict) or _MAY_HOLD_FLOATS.isdisjoint(map(type, items)):
        return value
    made: Any = value
    for part, inner, each in _parts(kind, value, known) if depth else ():
        found = _with_whole_numbers(inner, each, depth - 1, known)
        if found is not each:
            made = value.copy() if made is value else made
            made[part] = found
    return made


def _takes_float(kind: object) -> bool:
    return is_anything(kind) or any(class_of(each) is float for each in alternatives(_bare(kind)))


def _explained(
    kind: object, value: object, complaints: Complaints, place: Place, search: _Search
) -> Iterator[Misfit]:
    """The misfits in a value that was refused: in its parts, or the value itself.

    Parts that msgspec has read already are not read again: the one that a complaint is about, and
    the items of an array before it. So the search costs about as much as reading the value, however
    deep the misfits are. Of a dict, msgspec does not say which value is wrong.
    """
    record = record_at(kind, value, search.known)
    is_told = is_model(class_of(record))  # a model reports everything at once
    are_fit = True
    is_deep = len(place) >= _DEPTH_MAX or any(at.count(...) > _DICTS_MAX for _, at in complaints)
    parts = iter(()) if is_told or is_deep else _parts(kind, value, search.known)
    first = next((inner[0] for _, inner in complaints if inner), None)
    if isinstance(first, int):
        parts = islice(parts, first, None)
    for _, (part, inner, each) in zip(search.parts_left, parts, strict=False):
        inside = tuple((what, at[1:]) for what, at in complaints if at[:1] == (part,))
        if found := inside or _complaints(inner, each):
            are_fit = False
            key = part[:_NAME_MAX] if isinstance(part, str) else part
            yield from _explained(inner, each, found, (*place, key), search)
    if are_fit:
        yield from misfits_of(kind, complaints, place)


def _complaints(kind: object, value: object) -> Complaints:
    return (("is missing", ()),) if value is MISSING else _converted(kind, value)[1]


def _parts(kind: object, value: object, known: Known) -> Iterator[tuple[str | int, object, object]]:
    """The members or items of an object or array: the key, the annotation, and the value.

    The value of a member that is required and not there is `MISSING`.
    """
    if isinstance(value, list):
        for items in once(known, _items, kind):
            yield from zip(count(), items, value, strict=False)
    elif isinstance(value, dict):
        if (record := record_at(kind, value, known)) is not None:
            for name, member in once(known, members_of, record).items():
                if name in value or member.required:
                    yield name, member.kind, value.get(name, MISSING)
        else:
            for held in once(known, _held, kind):
                yield from ((key, held, each) for key, each in value.items())


def _items(kind: object) -> list[Iterable[object]]:
    """The annotations of the items of an array, of each alternative that is one."""
    found: list[Iterable[object]] = []
    for each in map(_bare, alternatives(_bare(kind))):
        cls = class_of(each) or object
        if issubclass(cls, str | bytes) or is_model(cls):
            continue
        given = arguments(each, abc.Iterable)
        if (items := tuple_items(each)) is not None:
            found.append(items)
        elif given:
            found.append(repeat(given[0]))
    return found


def _held(kind: object) -> list[object]:
    """The annotations of the values of an object, of each alternative that is a dict."""
    found = (arguments(each, abc.Mapping) for each in map(_bare, alternatives(_bare(kind))))
    return [pair[1] for pair in found if pair]


def _bare(kind: object) -> object:
    """The annotation without aliases, qualifiers and NewTypes."""
    bare = plain(kind)
    return _bare(bare.__supertype__) if isinstance(bare, NewType) else bare
