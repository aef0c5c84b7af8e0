"""Makes one wire from a wire, a plain value, or a list, tuple or dict with wires in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

from orchestra.annotations.facts import MISSING, chunk_of
from orchestra.annotations.shapes import union
from orchestra.eventclass import frozen
from orchestra.graph.calls.awaitables import refuse_awaitables, refuse_iterator
from orchestra.graph.definition import current_definition
from orchestra.graph.nodes import Call, Constant, type_of
from orchestra.graph.parts import is_wired
from orchestra.graph.source.frames import called_at
from orchestra.graph.steps import NO_POLICY, step
from orchestra.graph.wires import Wire


@step
def gather(value: object) -> object:
    """The value, with every wire in it replaced by the wire's value."""
    return value


@frozen(eq=False)
class Gathering(Call):
    """A container with wires in it, which is filled at run time when they have values."""

    @cached_property
    def returns(self) -> object:
        return _kind(self.arguments["value"])

    @property
    def spelled(self) -> str:
        """The container as a pipeline writes it, without its contents."""
        return _SPELLED.get(type(self.arguments["value"]), "a container")

    def into(self, name: str) -> str:  # noqa: ARG002 - there is only one parameter
        """How messages name an item of the container."""
        return f"an item of {self.spelled}"


_SPELLED: Mapping[type, str] = {list: "[...]", tuple: "(...)", dict: "{...}"}


def wire_of(value: object) -> Wire:
    """One wire for the value; a container that holds wires becomes a step that fills it.

    Raises:
        DefinitionError: it is an iterator, or holds a coroutine or a generator.
    """
    definition = current_definition("wire_of", "use it in a pipeline")
    refuse_awaitables(value)
    if isinstance(value, Wire):
        return value
    if isinstance(value, Iterator):
        refuse_iterator(value, called_at())
    if not is_wired(value):
        return definition.add(lambda origin: Constant(origin, value))
    return definition.add(lambda origin: Gathering(origin, gather, {"value": value}, NO_POLICY))


def _kind(value: object) -> object:
    """The annotation that a value with wires in it will have."""
    if isinstance(value, Wire):
        kind = type_of(value)
        return Any if kind is MISSING or chunk_of(kind) is not None else kind  # reported elsewhere
    if type(value) is tuple:
        return tuple[tuple(map(_kind, value))]  # type: ignore[misc]
    if type(value) is list:
        return list[_any_of(value)]  # type: ignore[misc]
    if type(value) is dict:
        return dict[_any_of(value), _any_of(value.values())]  # type: ignore[misc]
    return type(value)


def _any_of(values: Iterable[object]) -> object:
    kinds = list(map(_kind, values))
    return union(kinds) if kinds else Any
