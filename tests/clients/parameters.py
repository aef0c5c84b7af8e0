"""What the vendors' own clients can send, field by field, as the types of their parameters have it.

A table says of each field what becomes of it here. A new version of a client, with a field that is
in no table, fails a test until somebody has decided. What has no place in a table at all (a block
or a tool of another kind) needs none: it is refused, whatever it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from enum import Enum
from typing import Any, get_type_hints

import attrs
import msgspec
import pytest

from orchestra.codecs.serving.requests import ServedChat
from orchestra.errors import InvalidRequestError
from orchestra.values import Json

_STEP = re.compile(r"(\w+)|\[(\d+)\]")


class Fate(Enum):
    """What becomes of a field."""

    READ = "it has a place in the request, or the server itself obeys it"
    PASSED = "it reaches the providers that know it, as it is"
    NONE = "it has no effect, as the documents say"
    REFUSED = "the request is a 400, which names it"


@attrs.frozen
class Told:
    """A field's fate, and a value that shows it; what is needed anyway shows itself."""

    fate: Fate
    value: Any = None


NEEDED = Told(Fate.READ)


def read(value: Any) -> Told:
    return Told(Fate.READ, value)


def passed(value: Any) -> Told:
    return Told(Fate.PASSED, value)


def none(value: Any) -> Told:
    return Told(Fate.NONE, value)


def refused(value: Any) -> Told:
    return Told(Fate.REFUSED, value)


@attrs.frozen
class Place:
    """Where in a body fields stand: `at` is its path, and `types` what clients may send there."""

    at: str
    types: tuple[Any, ...]
    fields: Mapping[str, Told]

    def undecided(self) -> set[str]:
        """The fields that are in a type and not in the table, or the other way round."""
        return {each for kind in self.types for each in get_type_hints(kind)} ^ set(self.fields)

    def path(self, field: str) -> str:
        return f"{self.at}.{field}".removeprefix(".")

    def put(self, body: Json, field: str, value: Any) -> Json:
        """The body with this value in this place."""
        found = deepcopy(body)
        here: Any = found
        for step in _STEP.finditer(self.at):
            here = here[step[1] or int(step[2])]
        here[field] = value
        return found


def cases(places: Iterable[Place]) -> list[Any]:
    """Each field that has a value, for a parametrized test."""
    return [
        pytest.param(place, field, told, id=f"{place.path(field)}-{told.fate.name}")
        for place in places
        for field, told in place.fields.items()
        if told is not NEEDED
    ]


def judge(
    place: Place, field: str, told: Told, body: Json, served: Callable[[bytes], ServedChat]
) -> None:
    """Hold a field's fate against what becomes of it."""
    plain = served(msgspec.json.encode(body))
    sent = msgspec.json.encode(place.put(body, field, told.value))
    if told.fate is Fate.REFUSED:
        with pytest.raises(InvalidRequestError) as caught:
            served(sent)
        assert caught.value.message.startswith(place.path(field))
        return
    found = served(sent)
    match told.fate:
        case Fate.READ:
            assert attrs.evolve(found, request=plain.request) != plain or (
                attrs.evolve(found.request, extras={}) != attrs.evolve(plain.request, extras={})
            )
        case Fate.PASSED:
            assert found.request.extras != plain.request.extras
            assert attrs.evolve(found.request, extras={}) == attrs.evolve(plain.request, extras={})
        case Fate.NONE:
            assert found == plain


def untold(places: Iterable[Place], page: str) -> set[str]:
    """The fields without effect of which a page of the documents says nothing."""
    fields = {
        field for place in places for field, told in place.fields.items() if told.fate is Fate.NONE
    }
    return {each for each in fields if not re.search(rf"`(?:\w+\.)*{each}`", page)}
