"""Pickling and copying of errors, and of values that contain read-only mappings."""

from __future__ import annotations

import copyreg
from types import MappingProxyType
from typing import Any, TypeVar

E = TypeVar("E", bound=BaseException)


def reduced(error: BaseException) -> tuple[object, ...]:
    """The `__reduce__` of an error whose `__init__` takes other arguments than its `args`.

    Python's own `__reduce__` calls the class with `args`, which fails when the error is unpickled,
    and a process pool then waits for ever. A copy has its own list of notes.
    """
    attributes = dict(vars(error))
    if "__notes__" in attributes:
        attributes["__notes__"] = list(attributes["__notes__"])
    return _remade, (type(error), error.args), attributes


def _remade(kind: type[E], args: tuple[object, ...]) -> E:
    made = kind.__new__(kind, *args)
    made.args = args  # `OSError`, a base of DeadlineError, sets `args` only in `__init__`
    return made


def _reduced_mapping(mapping: MappingProxyType[Any, Any]) -> tuple[object, ...]:
    return _viewed, (dict(mapping),)


def _viewed(mapping: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(mapping)  # a function, as pickle cannot find the class by its name


# Python cannot pickle a MappingProxyType. Values hold some: a `Label` has its scores in one, and a
# `ChatRequest` its extras.
copyreg.pickle(MappingProxyType, _reduced_mapping)  # type: ignore[arg-type]
