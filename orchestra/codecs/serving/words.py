"""The allowed values at a place in a body, for error texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from msgspec import inspect

_STEP = re.compile(r"(\w+)|\[[^]]*\]")


def words_at(body: object, path: str) -> tuple[str, ...]:
    """The allowed values at a path, such as `messages[0].role`, in a body of this type."""
    here = [_form(body)]
    for step in _STEP.finditer(path):
        here = [inner for each in here for inner in _inside(each, step[1])]
    literals = (each for each in here if isinstance(each, inspect.LiteralType))
    return tuple(str(word) for each in literals for word in each.values)


@cache
def _form(body: object) -> inspect.Type:
    """The structure of a type; cached, as inspection takes milliseconds and errors are frequent."""
    return inspect.type_info(body)


def _inside(outer: inspect.Type, name: str | None) -> Iterator[inspect.Type]:
    """The types of the field with this name or, without a name, of a list's items."""
    if isinstance(outer, inspect.StructType):
        for field in outer.fields:
            if field.encode_name == name:
                yield from _each(field.type)
    elif isinstance(outer, inspect.ListType) and name is None:
        yield from _each(outer.item_type)


def _each(one: inspect.Type) -> Iterator[inspect.Type]:
    """The members of a union; for any other type, the type itself."""
    if isinstance(one, inspect.UnionType):
        yield from one.types
    else:
        yield one
