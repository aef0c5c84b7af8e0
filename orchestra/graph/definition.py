"""A definition in progress: the pipeline whose function is being called, and its nodes so far.

This is the only ambient state of a definition. It tells a step whether it is called in a
definition, and at which line, and lets `check` see nodes that nothing uses. It is not the
graph: the graph is what the returned wire reaches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import CodeType
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
    """Problems of the function itself, which `check` reports."""
    code: CodeType | None = None
    """The code of the pipeline's function."""
    line: tuple[str, int] | None = None
    """File and line of the nodes made from the returned value, which no call makes; else None."""

    def add(self, make: Callable[[Origin], N]) -> Wire:
        """Add a node that originates at the caller's line, and return a wire from it."""
        file_line = self.line or source_line(self.code)
        node = make(Origin(len(self.nodes), self.inside, *file_line))
        for edge in node.edges:
            self.refuse_foreign(edge.wire, node.origin.where)
        _ = node.returns  # cached now, when those of its sources are: later it would recurse
        self.nodes.append(node)
        return Wire(node)

    def report(self, faults: Iterable[Problem]) -> None:
        """Record problems of the function; of several with one code and line, only the first."""
        for fault in faults:
            if all((fault.code, fault.where) != (each.code, each.where) for each in self.faults):
                self.faults.append(fault)

    def refuse_foreign(self, wire: Wire, where: str) -> None:
        """Check that a wire was made in this definition.

        Raises:
            DefinitionError: it was made in another definition.
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
    """A context in which calls of steps add nodes to `definition`."""
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
