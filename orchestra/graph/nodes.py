"""Nodes: the parts of a pipeline's graph. Each knows the wires that it reads.

A call in a pipeline's function makes a node, and a node never changes. Nodes are numbered
in the order of definition. A wire exists before it is used, so this order is topological:
a cycle cannot be written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Any, cast

from orchestra.annotations.builtin_bases import generic
from orchestra.annotations.facts import MISSING, chunk_of, element, item, member
from orchestra.annotations.shapes import union
from orchestra.eventclass import frozen
from orchestra.failed import Failed
from orchestra.graph.parts import wires_in
from orchestra.graph.rules.commits import FIRST_CONTENT, Commit, Validate
from orchestra.graph.rules.hedging import Hedge
from orchestra.graph.source.frames import place
from orchestra.graph.wires import Attribute, Wire, node_of, path_of
from orchestra.messages import safe_repr
from orchestra.problem import Problem
from orchestra.protocols import Stream

if TYPE_CHECKING:
    from orchestra.graph.rules.policy import Policy
    from orchestra.graph.steps import Step


@frozen
class Origin:
    """Where a node was defined."""

    number: int
    """Its place in the order of definition, from 0."""
    inside: tuple[str, ...]
    """The inlined pipelines it lies in, outermost first."""
    filename: str
    line: int

    @property
    def where(self) -> str:
        """`file:line` of the call that made the node."""
        return place(self.filename, self.line)


@frozen
class Edge:
    """One wire into a node."""

    wire: Wire
    into: str
    """The argument that reads the wire, as messages write it: `cite(passages=...)`."""
    expects: object
    """The annotation of that argument; `Stream[...]` where it reads chunks."""
    arm: int | None = None
    """The index of the arm (or body) that ends in this wire; None for a wire always read."""


@frozen(eq=False)
class Node(ABC):
    """One node of a pipeline's graph."""

    origin: Origin

    @property
    @abstractmethod
    def label(self) -> str:
        """The node's name, before names are made unique."""

    @property
    @abstractmethod
    def returns(self) -> object:
        """The annotation of the node's value; never `MISSING`."""

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The wires that the node reads, in the order in which they are written."""
        return ()

    @property
    def needs(self) -> tuple[Node, ...]:
        """The nodes whose values this one needs: those it reads, and the items of an `each`."""
        return tuple(node_of(edge.wire) for edge in self.edges)

    @property
    def spelled(self) -> str:
        """The node as a pipeline would write it."""
        return f"{self.label}(...)"


@frozen(eq=False)
class Input(Node):
    """A parameter of the pipeline."""

    name: str
    annotation: object
    default: object
    """`MISSING` if every run has to give a value."""

    @property
    def label(self) -> str:
        return self.name

    @property
    def returns(self) -> object:
        return self.annotation

    @property
    def spelled(self) -> str:
        return self.name


@frozen(eq=False)
class Constant(Node):
    """A plain value where a wire is expected."""

    value: object

    @property
    def label(self) -> str:
        return safe_repr(self.value)

    @property
    def returns(self) -> object:
        return type(self.value)

    @property
    def spelled(self) -> str:
        return safe_repr(self.value)


@frozen(eq=False)
class Call(Node):
    """A call of a step."""

    step: Step[..., object]
    arguments: Mapping[str, object]
    """The argument for each parameter: a plain value, a wire, or a container of those."""
    policy: Policy
    faults: tuple[Problem, ...] = ()
    """Problems of the call itself: missing and unknown arguments."""
    stray: tuple[object, ...] = ()
    """Arguments that no parameter takes; `faults` has a problem for them."""

    @property
    def label(self) -> str:
        return self.step.name

    @property
    def returns(self) -> object:
        return self.step.returns

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        return tuple(
            Edge(wire, self.into(name), wanted)
            for name, argument, expects in self.places
            for wire, wanted in wires_in(argument, expects)
        )

    @cached_property
    def places(self) -> tuple[tuple[str, object, object], ...]:
        """The name, argument and annotation of each parameter; `**kwargs` one by one."""
        return tuple(self._places())

    def _places(self) -> Iterator[tuple[str, object, object]]:
        parameters = self.step.signature.parameters
        for name, argument in self.arguments.items():
            expects = self.step.expects[name]
            if parameters[name].kind is parameters[name].VAR_KEYWORD:
                for key, part in cast("dict[str, object]", argument).items():
                    yield key, part, item(expects, key)
            else:
                yield name, argument, expects

    def into(self, name: str) -> str:
        """A parameter as messages write it: `cite(passages=...)`."""
        return f"{self.label}({name}=...)"


@frozen(eq=False)
class Collect(Node):
    """A stream, joined into one value: a string, bytes, or a list."""

    label = "collect"

    source: Wire

    @cached_property
    def returns(self) -> object:
        kind = known(type_of(self.source))
        return kind if chunk_of(kind) is None else collected(kind)

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        return (Edge(self.source, "collect(...)", Stream[object]),)


@frozen(eq=False)
class Choice(Node):
    """A node whose value is the value of one of its arms; each arm is a region of the graph."""

    arms: tuple[Wire, ...]

    @cached_property
    def returns(self) -> object:
        kinds = [known(type_of(arm)) for arm in self.arms]
        chunks = [chunk_of(kind) for kind in kinds]
        if None not in chunks:
            return Stream[union(chunks)]  # type: ignore[misc]
        return union(kinds)

    @property
    def arm_names(self) -> tuple[str, ...]:
        """Each arm's name in events and messages: its position, from 1, and its node's label."""
        return tuple(f"{n}:{node_of(arm).label}" for n, arm in enumerate(self.arms, 1))

    def arms_before(self, arm: int) -> tuple[Wire, ...]:
        """The arms that must end before this one starts; empty if time alone may start it."""
        del arm
        return ()

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        return self._arm_edges

    @property
    def _arm_edges(self) -> tuple[Edge, ...]:
        return tuple(
            Edge(arm, f"{self.label}(arm {name})", type_of(arm), arm=n)
            for n, (arm, name) in enumerate(zip(self.arms, self.arm_names, strict=True))
        )


@frozen(eq=False)
class Race(Choice):
    """Arms that run at once; the first to commit is the result, the others are cancelled."""

    label = "race"

    commit: Commit = FIRST_CONTENT
    validate: Validate | None = None
    stagger_s: float = 0.0
    """Seconds between the starts of two arms; with a `hedge`, until its delay is learned."""
    hedge: Hedge | None = None

    def arms_before(self, arm: int) -> tuple[Wire, ...]:
        by_time = self.hedge is None and self.stagger_s < inf  # a hedge's share may be used up
        return () if by_time else self.arms[:arm]


@frozen(eq=False)
class Fallback(Choice):
    """Arms tried in order: each starts when the one before it has failed before its commit."""

    label = "fallback"

    commit: Commit = FIRST_CONTENT
    validate: Validate | None = None
    on: tuple[type[Exception], ...] = (Exception,)
    """The errors of an arm after which the next arm is tried."""
    restart: bool = False
    """Whether the next arm is also tried after a commit; the output so far is then void."""

    def arms_before(self, arm: int) -> tuple[Wire, ...]:
        return self.arms[:arm]


@frozen(eq=False)
class Route(Choice):
    """The arm whose key equals the label; without one, the default, which is the last arm."""

    label = "route"

    on: Wire
    keys: tuple[Hashable, ...]
    has_default: bool

    @property
    def arm_names(self) -> tuple[str, ...]:
        names = tuple(str(key) for key in self.keys)
        return (*names, "default") if self.has_default else names

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        return (Edge(self.on, "route(label)", Hashable), *self._arm_edges)


@frozen(eq=False)
class EachItem(Node):
    """The item for which the body of an `each` is defined."""

    label = "item"

    items: Wire

    @cached_property
    def returns(self) -> object:
        kind = known(type_of(self.items))
        chunk = chunk_of(kind)
        return known(element(kind)) if chunk is None else chunk

    @property
    def needs(self) -> tuple[Node, ...]:
        return (node_of(self.items),)  # its `each` reads them: it has no edge of its own

    @property
    def spelled(self) -> str:
        return f"item of {node_of(self.items).spelled}"


@frozen(eq=False)
class Each(Node):
    """A body run for every item of a list or stream, `at_once` of them at a time."""

    label = "each"

    items: Wire
    item: EachItem
    body: Wire
    at_once: int | None = None
    failures_max: int | None = None
    """How many items may fail, each leaving a `Failed` in its place; None if none may."""
    ordered: bool = True

    @cached_property
    def returns(self) -> object:
        body = known(type_of(self.body))
        if self.failures_max is not None:
            body = union([body, generic(Failed, self.item.returns)])
        return Stream[body] if is_stream(self.items) else list[body]  # type: ignore[valid-type]

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        return (
            Edge(self.items, "each(items)", type_of(self.items)),
            Edge(self.body, "each(body)", type_of(self.body), arm=0),
        )

    @property
    def needs(self) -> tuple[Node, ...]:
        return (node_of(self.items), self.item, node_of(self.body))


def type_of(wire: Wire) -> object:
    """The annotation of a wire's value; `MISSING` where its path cannot exist."""
    kind = node_of(wire).returns
    for part in path_of(wire):
        if kind is MISSING:
            return MISSING
        kind = member(kind, part.name) if isinstance(part, Attribute) else item(kind, part.key)
    return kind


def is_stream(wire: Wire) -> bool:
    """Whether the wire carries a stream."""
    return chunk_of(type_of(wire)) is not None


def known(kind: object) -> object:
    """The annotation, or Any for `MISSING`: that problem is reported where it arises."""
    return Any if kind is MISSING else kind


def collected(stream: object) -> object:
    """The annotation of a collected stream: str, bytes, or a list."""
    chunk = chunk_of(stream)
    return chunk if chunk in (str, bytes) else list[chunk]  # type: ignore[valid-type]
