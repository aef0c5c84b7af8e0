"""Names: the names of nodes in events, plans and drawings.

A name is unique among the nodes that run together: those of a run, or of one body of an `each`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from orchestra.compiler.regions import Region, Regions
from orchestra.graph.nodes import Constant, Each, EachItem, Input, Node

FILLED = (Input, Constant, EachItem)
"""Nodes whose values exist before the run starts."""


def nodes_of(regions: Iterable[Region]) -> Sequence[Node]:
    """The nodes of some regions, in order of definition."""
    nodes = (node for region in regions for node in region.nodes)
    return sorted(nodes, key=lambda node: node.origin.number)


def names_of(nodes: Iterable[Node]) -> dict[Node, str]:
    """A name for each node, unique among them: `inner/cite`, `cite#2`."""
    repeats: Counter[str] = Counter()
    names: dict[Node, str] = {}
    taken: set[str] = set()
    for node in nodes:
        name = path = "/".join((*node.origin.inside, node.label))
        while name in taken:
            repeats[path] += 1
            name = f"{path}#{repeats[path] + 1}"
        taken.add(name)
        names[node] = name
    return names


def paths_of(regions: Regions) -> Mapping[Node, str]:
    """A name for every node of the graph; all but those of inputs and constants are unique.

    Names are as in events, without the number of an item: `cite#2`, and `each[]/cite` in the
    body of an `each`.
    """
    paths: dict[Node, str] = {}
    todo = [(regions.root, "")]
    while todo:
        top, prefix = todo.pop()
        nodes = nodes_of(regions.together(top))
        paths |= {node: prefix + node.label for node in nodes}
        for node, name in names_of(node for node in nodes if not isinstance(node, FILLED)).items():
            paths[node] = prefix + name
            if isinstance(node, Each):
                todo.append((regions.owned[node][0], f"{prefix}{name}[]/"))
    return paths
