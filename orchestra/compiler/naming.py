"""Names: what the nodes of a graph are called in events, plans and drawings.

Unique among what runs together: a run's own nodes, or those of one body of an `each`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from orchestra.compiler.regions import Region, Regions
from orchestra.graph.nodes import Constant, Each, EachItem, Input, Node

FILLED = (Input, Constant, EachItem)
"""Nodes whose value is there before anything runs."""


def nodes_of(regions: Iterable[Region]) -> Sequence[Node]:
    """The nodes at home in some regions, in order of definition."""
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
    """A name for every node of the graph, unique but for inputs and constants.

    What runs is named as in events, but for the number of an item: `cite#2`; in the body of
    an `each`, `each[]/cite`.
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
