"""Starvation: streams whose reader waits for their end, found before they hang.

A stream's slowest reader holds its producer back. So a reader that has not started yet
stops the stream after a few chunks, and the streams that it is made from. That is harmless
unless the start of the reader waits, directly or not, for one of them to end. Three sets of
nodes describe this:

    starts(n)  what has finished whenever n has started
    ends(n)    what has finished whenever n has finished
    feeds(n)   what stops when nobody reads n

A value edge adds the ends of its source to starts(n); a stream edge adds only its starts;
a region adds what its owner waits for. A stream ends only when all its certain readers have
started, since it fills their lanes. The first two sets are a least fixed point, computed by
iterating until nothing grows; each set is an integer with a bit for each node.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import cast

from orchestra.compiler.regions import Region, Regions
from orchestra.graph.nodes import Choice, Edge, Node, is_stream
from orchestra.graph.wires import node_of, spelled
from orchestra.problem import Problem


def starved(regions: Regions) -> Iterator[tuple[Node, Problem]]:
    """The problem of each reader that can start only when the stream it reads has ended."""
    if not any(is_stream(edge.wire) for node in regions.order for edge in node.edges):
        return
    starts, ends = _solve(regions)
    feeds = _feeds(regions)
    reported: set[Node] = set()
    for node in regions.order:
        for edge in node.edges:
            if not is_stream(edge.wire):
                continue
            if node_of(edge.wire) in reported:  # its reader waits because of the same fault
                reported.add(node)
                continue
            waits = starts[node]
            if edge.arm is not None:
                waits |= _gate(regions.owned[node][edge.arm], starts, ends)
            stuck = waits & feeds[node_of(edge.wire)]
            if stuck:
                reported.add(node)
                first = next(each for each in regions.order if stuck & _bit(each))
                yield node, _problem(node, edge, first)


def _problem(node: Node, edge: Edge, stuck: Node) -> Problem:
    name = spelled(edge.wire)
    ended = "that stream" if stuck is node_of(edge.wire) else f"{stuck.spelled}, which feeds it,"
    return Problem(
        "stream-waits-for-its-end",
        node.origin.where,
        f"{edge.into} reads the stream {name}, but can start only when {ended} has ended; its "
        "chunks would wait for ever",
        f"let it take the whole value, collect({name}), or make a second {stuck.spelled} for it",
    )


def _feeds(regions: Regions) -> dict[Node, int]:
    """For each node, itself and the streams that stop when nobody takes its chunks.

    A step that reads a whole stream before its first chunk would not stop it, but that cannot
    be known from outside.
    """
    feeds: dict[Node, int] = {}
    for node in regions.order:
        feeds[node] = _bit(node)
        for edge in node.edges:
            if is_stream(edge.wire):
                feeds[node] |= feeds[node_of(edge.wire)]
    return feeds


def _solve(regions: Regions) -> tuple[dict[Node, int], dict[Node, int]]:
    starts = dict.fromkeys(regions.order, 0)
    ends = {node: _bit(node) for node in regions.order}
    imports, readers = _imports(regions), _readers(regions)
    growing, order = True, regions.order
    while growing:  # few rounds: the sets only grow, and are bounded by the nodes
        growing = False
        order = order[::-1]  # ends spread from the sources, starts from the output
        for node in order:
            new_starts = _starts(node, regions, imports[node], starts, ends)
            new_ends = ends[node] | new_starts
            for edge in node.edges:
                if edge.arm is not None or is_stream(edge.wire):
                    new_ends |= ends[node_of(edge.wire)]
            for reader in readers[node]:
                new_ends |= starts[reader]
            growing = growing or (new_starts, new_ends) != (starts[node], ends[node])
            starts[node], ends[node] = new_starts, new_ends
    return starts, ends


def _starts(
    node: Node,
    regions: Regions,
    imports: list[Node],
    starts: dict[Node, int],
    ends: dict[Node, int],
) -> int:
    waits = _gate(regions.home[node], starts, ends)
    for edge in node.edges:
        if edge.arm is None:
            source = node_of(edge.wire)
            waits |= starts[source] if is_stream(edge.wire) else ends[source]
    for foreign in imports:
        waits |= ends[foreign]
    return waits


def _gate(region: Region, starts: dict[Node, int], ends: dict[Node, int]) -> int:
    """The nodes that have finished whenever the region has started."""
    if region.owner is None:
        return 0
    waits = starts[region.owner]
    if isinstance(region.owner, Choice):
        for arm in region.owner.arms_before(region.arm):  # these arms have ended
            waits |= ends[node_of(arm)]
    return waits


def _imports(regions: Regions) -> dict[Node, list[Node]]:
    """For each `each`, the outside nodes that its body reads: the `each` waits for them."""
    found: dict[Node, list[Node]] = defaultdict(list)
    for node in regions.order:
        for edge in node.edges:
            source = node_of(edge.wire)
            here = regions.home[node] if edge.arm is None else regions.owned[node][edge.arm]
            for body in here.bodies_below(regions.home[source]):
                found[cast("Node", body.owner)].append(source)
    return found


def _readers(regions: Regions) -> dict[Node, list[Node]]:
    """For each node, the nodes that always read its stream: those not inside an arm."""
    found: dict[Node, list[Node]] = defaultdict(list)
    for node in regions.order:
        for edge in node.edges:
            source = node_of(edge.wire)
            always = edge.arm is None and regions.home[source].inside(regions.home[node])
            if always and is_stream(edge.wire):
                found[source].append(node)
    return found


def _bit(node: Node) -> int:
    return 1 << node.origin.number
