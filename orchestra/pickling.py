"""Pickling: how errors, and values with mappings in them, pass to another process or are copied."""

from __future__ import annotations

import copyreg
from types import MappingProxyType
from typing import Any, TypeVar

E = TypeVar("E", bound=BaseException)


def reduced(error: BaseException) -> tuple[object, ...]:
    """What `__reduce__` gives for an error whose `__init__` takes other things than its `args`.

    Python's own calls the class with `args`, which fails in whoever unpickles it: a pool of
    processes then waits for ever. A copy has notes of its own.
    """
    attributes = dict(vars(error))
    if "__notes__" in attributes:
        attributes["__notes__"] = list(attributes["__notes__"])
    return _remade, (type(error), error.args), attributes


def _remade(kind: type[E], args: tuple[object, ...]) -> E:
    made = kind.__new__(kind, *args)
    made.args = args  # `OSError`, which a DeadlineError is too, leaves them to `__init__`
    return made


def _reduced_mapping(mapping: MappingProxyType[Any, Any]) -> tuple[object, ...]:
    return _viewed, (dict(mapping),)


def _viewed(mapping: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(mapping)  # whose class is not to be found under its own name


# Of a view that nobody can write through, Python says no way to pickle it, and there is only one.
# Ours are in values: the labels that runs give, the requests that they are made of.
copyreg.pickle(MappingProxyType, _reduced_mapping)  # type: ignore[arg-type]
