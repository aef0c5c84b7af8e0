"""Regions: the parts of a graph that are started, and cancelled, as a whole.

The whole run is a region, and so are every arm of a choice and every body of an `each`.
A node belongs to the innermost region that contains all its readers: a node that only one
arm needs is in that arm, a node that two arms need is outside both. A node in a body that
does not depend on the item is moved out of the body, to run once.

Regions form a tree, and the nodes are visited from the output backwards. So the home of a
node is the lowest common ancestor of the regions that read it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import cast

import attrs

from orchestra.eventclass import frozen
from orchestra.graph.nodes import Each, EachItem, Node
from orchestra.graph.wires import Wire, node_of


@attrs.define(eq=False)
class Region:
    """One region: the run, or arm `arm` of `owner` (a choice, or an `each` and its body)."""

    parent: Region | None
    owner: Node | None
    arm: int
    outlet: Wire
    """The result of the region: the output, or the wire of the arm or body."""
    depth: int
    body: Region | None = attrs.field(init=False)
    """The innermost body of an `each` that this region is, or lies in."""
    nodes: list[Node] = attrs.Factory(list)
    """The nodes that belong to this region, in order of definition."""

    def __attrs_post_init__(self) -> None:
        self.body = self if self.is_body else self.parent and self.parent.body

    @property
    def is_body(self) -> bool:
        """Whether this is the body of an `each`, which runs many times."""
        return isinstance(self.owner, Each)

    def bodies_below(self, outer: Region) -> Iterator[Region]:
        """The bodies of `each` from this region out to `outer`, which contains it."""
        body = self.body
        while body is not None and body.depth > outer.depth:
            yield body
            body = body.parent and body.parent.body

    def inside(self, other: Region) -> bool:
        """Whether this region is `other` or lies in it."""
        region: Region | None = self
        while region is not None and region is not other:
            region = region.parent
        return region is other


@frozen(eq=False)
class Regions:
    """The regions of a graph: the root, each node's home, and the regions each node owns."""

    root: Region
    home: Mapping[Node, Region]
    owned: Mapping[Node, tuple[Region, ...]]
    needs_items: Mapping[Node, frozenset[EachItem]]
    """The items that a node depends on: it can run only in the bodies of their `each`."""
    order: tuple[Node, ...]
    """The nodes that the output reaches, in order of definition."""

    def together(self, top: Region) -> Iterator[Region]:
        """The region and those inside it, outermost first, without bodies, which run separately."""
        todo = [top]
        while todo:
            region = todo.pop()
            yield region
            for node in region.nodes:
                todo += [inner for inner in self.owned[node] if not inner.is_body]


def divide(output: Wire) -> Regions:
    """The regions of the graph that `output` reaches."""
    order = reachable(output)
    items = _items_needed(order)
    root = Region(None, None, 0, output, 0)
    home: dict[Node, Region] = {}
    owned: dict[Node, tuple[Region, ...]] = {}
    read_from: dict[Node, list[Region]] = defaultdict(list)
    read_from[node_of(output)].append(root)
    for node in reversed(order):
        place = home[node] = _hoisted(_common(read_from[node]), items[node], home)
        owned[node] = _regions_of(node, place)
        for edge in node.edges:
            inner = place if edge.arm is None else owned[node][edge.arm]
            read_from[node_of(edge.wire)].append(inner)
        if isinstance(node, Each):
            read_from[node.item].append(owned[node][0])
        elif isinstance(node, EachItem):
            read_from[node_of(node.items)].append(place)
    for node in order:
        home[node].nodes.append(node)
    return Regions(root, home, owned, items, order)


def reachable(output: Wire) -> tuple[Node, ...]:
    """The nodes that the wire reaches, in order of definition."""
    found = {node_of(output)}
    todo = [node_of(output)]
    while todo:
        left = set(todo.pop().needs) - found
        todo += left
        found |= left
    return tuple(sorted(found, key=lambda node: node.origin.number))


def _regions_of(node: Node, place: Region) -> tuple[Region, ...]:
    arms = [edge for edge in node.edges if edge.arm is not None]
    return tuple(Region(place, node, n, edge.wire, place.depth + 1) for n, edge in enumerate(arms))


def _common(regions: list[Region]) -> Region:
    """The innermost region that contains them all."""
    common, *others = regions
    for other in others:
        while common is not other:
            if common.depth >= other.depth:
                common = _outer(common)
            else:
                other = _outer(other)  # noqa: PLW2901 - climbing
    return common


def _outer(region: Region) -> Region:
    assert region.parent is not None, "two regions of one graph share its root"
    return region.parent


def _hoisted(place: Region, needed: frozenset[EachItem], home: Mapping[Node, Region]) -> Region:
    """The innermost region around `place` whose items the node needs."""
    body = place.body
    while body is not None:
        owner = cast("Each", body.owner)
        if owner.item in needed:
            break
        place = home[owner]
        body = place.body
    return place


def _items_needed(order: tuple[Node, ...]) -> dict[Node, frozenset[EachItem]]:
    needed: dict[Node, frozenset[EachItem]] = {}
    for node in order:
        needed[node] = frozenset[EachItem]().union(*(needed[each] for each in node.needs))
        if isinstance(node, EachItem):
            needed[node] |= {node}
        elif isinstance(node, Each):
            needed[node] -= {node.item}
    return needed
