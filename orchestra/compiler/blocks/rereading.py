"""Rereading: whether a slot is read more than once in one run. Pure.

A list can be read again; an iterator is empty for its second reader. This is computed only when
a value is an iterator, since few are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import TypeAlias

from orchestra.compiler.blocks.slots import Block, Operation, all_sources
from orchestra.eventclass import frozen
from orchestra.graph.control.agreeing import Comparison
from orchestra.graph.nodes import Call, Fallback, Node, Race, Route

Ways: TypeAlias = Mapping[int, int]
"""The routes around a reader, by slot, each with the region of the arm that it is in."""


@frozen
class Reader:
    """One reader of a slot."""

    into: str
    """The argument that reads, as messages write it: `both(a=...)`."""
    ways: Ways
    many: bool
    """Whether it reads several times: in the body of an `each`, or in a retried call."""


def reread(block: Block, slot: int) -> tuple[str, ...]:
    """The arguments that read a slot, if it is read more than once in one run; else empty."""
    readers = tuple(_readers(block, slot, {}))
    several = any(
        _can_both_be_taken(one.ways, other.ways) for one, other in combinations(readers, 2)
    )
    if several or any(reader.many for reader in readers):
        return tuple(reader.into for reader in readers)
    return ()


def _can_both_be_taken(one: Ways, other: Ways) -> bool:
    """Whether both readers can run in one run: a route takes only one of its arms."""
    return all(one[route] == other[route] for route in one.keys() & other.keys())


def _readers(block: Block, slot: int, ways: Ways) -> Iterator[Reader]:
    """The readers of a slot, and those of a race, fallback or route of which it is an arm."""
    for operation in filter(None, block.operations):
        here = {**_ways(block, operation.region), **ways}
        for source in all_sources(operation.sources, operation.nested):
            if source.slot == slot and not source.path:
                yield Reader(source.into, here, many=_is_retried(operation))
        if operation.body is not None and any(there == slot for there, _ in operation.body.imports):
            yield Reader(f"the body of {operation.name}", here, many=True)
    for index, region in enumerate(block.regions):
        if region.source.slot != slot or region.source.path:
            continue
        owner = block.owners.get(region.outlet)
        if owner is None:
            yield Reader(region.source.into, ways, many=False)
            continue
        chosen = block.operations[owner]
        here = {**_ways(block, index), **ways}
        if chosen is not None and _looks_at_arms(chosen):
            yield Reader(chosen.name, here, many=True)
        yield from _readers(block, owner, here)


def _ways(block: Block, index: int | None) -> Ways:
    """The routes around a region, each with the arm that contains the region."""
    ways: dict[int, int] = {}
    while index is not None:
        region = block.regions[index]
        owner = block.owners.get(region.outlet)
        operation = None if owner is None else block.operations[owner]
        if operation is not None and isinstance(operation.node, Route):
            ways[operation.slot] = index
        index = region.inside
    return ways


def _looks_at_arms(operation: Operation[Node]) -> bool:
    """Whether a function of the user's reads the arms' values before the operation's reader."""
    node = operation.node
    validated = isinstance(node, Race | Fallback) and node.validate is not None
    return validated or isinstance(node, Comparison)


def _is_retried(operation: Operation[Node]) -> bool:
    node = operation.node
    rule = node.policy.retry if isinstance(node, Call) else None
    return rule is not None and rule.attempts_max > 1
