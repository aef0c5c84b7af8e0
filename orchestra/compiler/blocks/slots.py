"""Blocks: a graph laid out in numbered slots, so that a run only counts and indexes.

The run is a block; the body of every `each` is a block of its own, since it runs once
for each item. In a block every node has a slot. A slot's operation starts when the
number it waits for has come down to nothing: one for each edge into it, and one for
its region to be started.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, TypeAlias, TypeVar

import attrs

from orchestra.graph.nodes import Node
from orchestra.graph.wires import Path_

N_co = TypeVar("N_co", bound=Node, covariant=True)


@attrs.frozen
class Source:
    """One reading end: which slot, which part of its value, and how it is read."""

    slot: int
    path: Path_
    lane: int | None
    """Which of the producer's lanes; None for a value."""
    expects: object | None
    """The annotation to check the value against when it is read; None where it must fit."""
    chunk: object | None
    """The annotation of the chunks; None for a value."""
    into: str
    spelled: str


@attrs.frozen
class Nested:
    """A list, tuple, dict or partial with sources in it, to be filled when they exist."""

    container: type[object]
    parts: tuple[tuple[object, Filling], ...]


Filling: TypeAlias = object
"""What an argument is filled with: a `Source`, a `Nested`, or a plain value."""


@attrs.frozen(eq=False)
class Operation(Generic[N_co]):
    """What a run does for one node."""

    slot: int
    name: str
    """The node's path, unique in the plan: `inner/cite`, `cite#2`."""
    where: str
    node: N_co
    region: int
    values: tuple[int, ...]
    """The slots that read its value, once for each edge."""
    lanes: tuple[int, ...]
    """The slot behind each of its lanes; empty unless it gives a stream."""
    constants: Mapping[str, object]
    mutable: tuple[tuple[str, object], ...]
    """Those of the constants that are made anew for each run."""
    sources: tuple[tuple[str, Source], ...]
    nested: tuple[tuple[str, Nested], ...]
    regions: tuple[int, ...]
    """The regions of its arms, in this block."""
    plain: bool
    """Whether it is a plain function, to be run on the spot."""
    chunk: object | None
    """The annotation of its chunks; None where it gives one value."""
    streams: tuple[Source, ...]
    """Those of what it reads that are streams."""
    body: Block | None


@attrs.frozen(eq=False)
class RegionPlan:
    """A region in its block: what starts with it and what it is for."""

    members: tuple[int, ...]
    """The slots whose operations wait for this region, its outlet last."""
    outlet: int
    source: Source
    inside: int | None
    """The region it lies in; None for the block's own."""
    alone: bool
    """Whether it is the run's own and of one operation, with whose end it has what it is for."""


@attrs.frozen(eq=False)
class Block:
    """A layout: `size` slots, some filled from the start, the others by operations."""

    size: int
    constants: tuple[tuple[int, object], ...]
    inputs: tuple[tuple[int, str], ...]
    imports: tuple[tuple[int, int], ...]
    """Slots filled from the enclosing block: (there, here)."""
    item: int | None
    operations: tuple[Operation[Node] | None, ...]
    waits: tuple[int, ...]
    regions: tuple[RegionPlan, ...]
    """The block's own first."""
    outlets: Mapping[int, int]
    """The slots that are outlets, each with its region."""
    owners: Mapping[int, int]
    """The slots that are the outlets of an operation's arms, each with that operation's slot."""
    rejoins: bool
    """Whether an operation reads several streams, which may be parts of one that has parted."""


def all_sources(
    sources: Iterable[tuple[str, Source]], nested: Iterable[tuple[str, Nested]]
) -> tuple[Source, ...]:
    """The sources of an operation, those in containers too."""
    in_containers = (source for _, filling in nested for source in sources_in(filling))
    return (*(source for _, source in sources), *in_containers)


def sources_in(filling: Filling) -> tuple[Source, ...]:
    """The sources in what an argument is filled with."""
    if isinstance(filling, Source):
        return (filling,)
    if isinstance(filling, Nested):
        return tuple(source for _, part in filling.parts for source in sources_in(part))
    return ()
