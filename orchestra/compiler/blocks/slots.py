"""Blocks: a graph laid out in numbered slots, so that a run only counts and indexes.

The run is a block. The body of every `each` is a block of its own, since it runs once for
each item. Every node of a block has a slot. The operation of a slot waits for a number of
events: one for each edge into it, and one for the start of its region. It starts when the
number has come down to zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, TypeAlias, TypeVar

from orchestra.eventclass import frozen
from orchestra.graph.nodes import Node
from orchestra.graph.wires import Path_

N_co = TypeVar("N_co", bound=Node, covariant=True)


@frozen
class Source:
    """One read: the slot, the part of its value, and how it is read."""

    slot: int
    path: Path_
    lane: int | None
    """The index among the producer's lanes; None for a value."""
    expects: object | None
    """The annotation to check the value against when it is read; None if it certainly fits."""
    chunk: object | None
    """The annotation of the chunks; None for a value."""
    into: str
    spelled: str


@frozen
class Nested:
    """A list, tuple, dict or partial with sources in it, filled when their values exist."""

    container: type[object]
    parts: tuple[tuple[object, Filling], ...]


Filling: TypeAlias = object
"""The content of an argument: a `Source`, a `Nested`, or a plain value."""


@frozen(eq=False)
class Operation(Generic[N_co]):
    """The work of a run for one node."""

    slot: int
    name: str
    """The node's path, unique in the plan: `inner/cite`, `cite#2`."""
    where: str
    node: N_co
    region: int
    values: tuple[int, ...]
    """The slots that read its value, once for each edge."""
    lanes: tuple[int, ...]
    """The slots that read its stream, one for each lane; empty if it gives a value."""
    constants: Mapping[str, object]
    mutable: tuple[tuple[str, object], ...]
    """The constants that are copied for each run."""
    sources: tuple[tuple[str, Source], ...]
    nested: tuple[tuple[str, Nested], ...]
    regions: tuple[int, ...]
    """The regions of its arms, in this block."""
    plain: bool
    """Whether it is a plain function, which is called directly."""
    chunk: object | None
    """The annotation of its chunks; None if it gives one value."""
    streams: tuple[Source, ...]
    """The streams among its sources."""
    body: Block | None


@frozen(eq=False)
class RegionPlan:
    """A region of a block: the operations that start with it, and its outlet."""

    members: tuple[int, ...]
    """The slots whose operations wait for this region, its outlet last."""
    outlet: int
    source: Source
    inside: int | None
    """The enclosing region; None for the block's root region."""
    alone: bool
    """Whether it is the run's root region with a single task, which gives a value at its end."""


@frozen(eq=False)
class Block:
    """A layout: `size` slots, some filled from the start, the others by operations."""

    size: int
    constants: tuple[tuple[int, object], ...]
    inputs: tuple[tuple[int, str], ...]
    imports: tuple[tuple[int, int], ...]
    """Slots filled from the enclosing block: (slot there, slot here)."""
    item: int | None
    operations: tuple[Operation[Node] | None, ...]
    waits: tuple[int, ...]
    regions: tuple[RegionPlan, ...]
    """The block's root region is the first."""
    outlets: Mapping[int, int]
    """The slots that are outlets, with their regions."""
    owners: Mapping[int, int]
    """The outlets of an operation's arms, with that operation's slot."""
    rejoins: bool
    """Whether an operation reads several streams, which may come from one producer."""


def all_sources(
    sources: Iterable[tuple[str, Source]], nested: Iterable[tuple[str, Nested]]
) -> tuple[Source, ...]:
    """The sources of an operation, including those in containers."""
    in_containers = (source for _, filling in nested for source in sources_in(filling))
    return (*(source for _, source in sources), *in_containers)


def sources_in(filling: Filling) -> tuple[Source, ...]:
    """The sources in the content of an argument."""
    if isinstance(filling, Source):
        return (filling,)
    if isinstance(filling, Nested):
        return tuple(source for _, part in filling.parts for source in sources_in(part))
    return ()
