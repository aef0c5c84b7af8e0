"""A definition in progress: which pipeline's function is being called, and what it made.

The one piece of ambient state that a definition has. It is not the graph (that is what the
returned wire reaches); it tells a step whether it is being defined or called, where
the call stands, and lets `check` see nodes that nothing uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import attrs

from orchestra.errors import DefinitionError
from orchestra.graph.nodes import Node, Origin
from orchestra.graph.source.frames import called_at, source_line
from orchestra.graph.wires import Wire, node_of, spelled
from orchestra.problem import Problem

N = TypeVar("N", bound=Node)


@attrs.define(eq=False)
class Definition:
    """The nodes that a pipeline's function has made so far, in order."""

    pipeline: str
    nodes: list[Node] = attrs.Factory(list)
    inside: tuple[str, ...] = ()
    deadline_s: float | None = None
    """The deadline of each run of the pipeline."""
    faults: list[Problem] = attrs.Factory(list)
    """What is wrong with the function itself; `check` reports it."""
    line: tuple[str, int] | None = None
    """Where nodes originate that no call makes: those of the returned value."""

    def add(self, make: Callable[[Origin], N]) -> Wire:
        """A wire from a new node that originates at the caller's line."""
        file_line = self.line or source_line()
        node = make(Origin(len(self.nodes), self.inside, *file_line))
        for edge in node.edges:
            self.refuse_foreign(edge.wire, node.origin.where)
        _ = node.returns  # now, while those of its sources are known: later it would recurse
        self.nodes.append(node)
        return Wire(node)

    def tell(self, faults: Iterable[Problem]) -> None:
        """Record faults of the function: of each kind, the first on a line."""
        for fault in faults:
            if all((fault.code, fault.where) != (each.code, each.where) for each in self.faults):
                self.faults.append(fault)

    def refuse_foreign(self, wire: Wire, where: str) -> None:
        """Check that a wire was made in this definition.

        Raises:
            DefinitionError: it was made in another.
        """
        node = node_of(wire)
        number = node.origin.number
        if not (number < len(self.nodes) and self.nodes[number] is node):
            raise DefinitionError(
                f"{where}: {spelled(wire)} is a wire of another pipeline (from "
                f"{node.origin.where}) and has no value in {self.pipeline!r}; pass it in as an "
                "input, or make it here"
            )


_current: ContextVar[Definition | None] = ContextVar("orchestra_definition", default=None)


@contextmanager
def defining(definition: Definition) -> Iterator[None]:
    """While this is entered, calls of steps make nodes of `definition`."""
    token = _current.set(definition)
    try:
        yield
    finally:
        _current.reset(token)


def in_definition() -> bool:
    """Whether a pipeline's function is being called to define it."""
    return _current.get() is not None


def current_definition(name: str, instead: str) -> Definition:
    """The definition in progress.

    Raises:
        DefinitionError: there is none; `name` was called outside a pipeline, and
            `instead` says what to write there.
    """
    definition = _current.get()
    if definition is None:
        raise DefinitionError(f"{called_at()}: {name} was called outside a pipeline; {instead}")
    return definition


def definition_for(construct: str) -> Definition:
    """The definition in progress, for a `race`, an `each` and their like.

    Raises:
        DefinitionError: there is none.
    """
    instead = "use it in a function decorated with @pipeline"
    return current_definition(f"{construct}(...)", instead)
