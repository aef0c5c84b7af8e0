"""A node is at home where all its readers are: the law, against a model by brute force."""

from __future__ import annotations

from typing import Any, TypeAlias

from hypothesis import given, note, settings

from orchestra.compiler.draw import as_text
from orchestra.compiler.regions import Region, divide, reachable
from orchestra.graph.nodes import Each, EachItem, Node
from orchestra.graph.pipelines import Pipeline
from orchestra.graph.wires import node_of
from tests.compiler.graphs import pipelines
from tests.graph.written import written

Arm: TypeAlias = tuple[Node, int]


class Model:
    """Where nodes are at home, from what can still be reached when an arm is cut off."""

    def __init__(self, pipeline: Pipeline[..., object]) -> None:
        self.output = node_of(pipeline.output)
        self.nodes = self.reached(self.output, None)
        self.arms = [
            (node, edge.arm) for node in self.nodes for edge in node.edges if edge.arm is not None
        ]

    def ways(self, node: Node) -> list[tuple[Node, Arm | None]]:
        """What a node reads, each with the arm that it is read through."""
        ways: list[tuple[Node, Arm | None]] = [
            (node_of(edge.wire), None if edge.arm is None else (node, edge.arm))
            for edge in node.edges
        ]
        if isinstance(node, Each):
            ways.append((node.item, (node, 0)))
        elif isinstance(node, EachItem):
            ways.append((node_of(node.items), None))
        return ways

    def reached(self, start: Node, cut: Arm | None, closed: Node | None = None) -> set[Node]:
        """The nodes that are reached without the arm `cut`, and without entering `closed`."""
        found: set[Node] = set()
        todo = [start]
        while todo:
            node = todo.pop()
            if node not in found and node is not closed:
                found.add(node)
                todo += [source for source, arm in self.ways(node) if arm is None or arm != cut]
        return found

    def around(self, node: Node) -> list[Arm]:
        """The arms that every way to the node leads through, the outermost first."""
        arms = [arm for arm in self.arms if node not in self.reached(self.output, arm)]
        return sorted(arms, key=lambda arm: sum(arm[0] in self._only_by(each) for each in arms))

    def _only_by(self, arm: Arm) -> set[Node]:
        return self.nodes - self.reached(self.output, arm)

    def needs(self, node: Node, each: Each) -> bool:
        """Whether the node depends on the item of this `each`."""
        return node is not each and each.item in self.reached(node, None, closed=each)

    def home(self, node: Node) -> list[Arm]:
        """The innermost arm whose innermost body, if it is in one, has an item the node needs."""
        for arm in reversed(self.around(node)):
            arms = [*self.home(arm[0]), arm]
            bodies = [each for each, _ in arms if isinstance(each, Each)]
            if not bodies or self.needs(node, bodies[-1]):
                return arms
        return []


def chain(region: Region) -> list[Arm]:
    """The arms that a region lies in, the outermost first."""
    arms: list[Arm] = []
    walk: Region | None = region
    while walk is not None and walk.owner is not None:
        arms.insert(0, (walk.owner, walk.arm))
        walk = walk.parent
    return arms


@settings(max_examples=300)
@given(pipelines())
def test_a_node_lives_exactly_in_the_arms_that_every_way_to_it_leads_through(
    pipeline: Pipeline[..., object],
) -> None:
    note(as_text(pipeline))
    regions = divide(pipeline.output)
    model = Model(pipeline)
    assert set(regions.order) == model.nodes
    for node in regions.order:
        assert chain(regions.home[node]) == model.home(node), node.spelled
        for each in (other for other in regions.order if isinstance(other, Each)):
            assert (each.item in regions.needs_items[node]) == model.needs(node, each)


@given(pipelines())
def test_regions_are_a_tree_in_which_every_node_has_one_place(
    pipeline: Pipeline[..., object],
) -> None:
    regions = divide(pipeline.output)
    every = [regions.root, *(region for owned in regions.owned.values() for region in owned)]
    assert sorted(n.origin.number for region in every for n in region.nodes) == sorted(
        node.origin.number for node in regions.order
    )
    for region in every:
        assert region.inside(regions.root)
        assert region.depth == len(chain(region))
        assert [arm for arm in chain(region) if isinstance(arm[0], Each)] == [
            (body.owner, 0) for body in reversed([*region.bodies_below(regions.root)])
        ]
        if region.owner is not None:
            assert region.parent is regions.home[region.owner]
            assert region.inside(region.parent)
            assert not region.parent.inside(region)
    assert [n.origin.number for n in regions.order] == sorted(
        n.origin.number for n in reachable(pipeline.output)
    )
    together = list(regions.together(regions.root))
    assert len(together) == len(set(together)) == len([r for r in every if r.body is None])


# --- examples ----------------------------------------------------------------------------------


def homes(body: str, takes: str = "n: int, ns: list[int]") -> dict[str, list[str]]:
    """The names of the arms that each step lies in."""
    steps = "\n".join(f"@step\ndef {name}(*values): ...\n" for name in "abcdefgh")
    module = written(f"{steps}\n@pipeline\ndef p({takes}):\n    {body}")
    regions = divide(module["p"].output)
    return {
        node.label: [f"{owner.label}{arm}" for owner, arm in chain(home)]
        for node, home in regions.home.items()
        if len(node.label) == 1 or isinstance(node, EachItem)
    }


def test_what_one_arm_needs_lies_in_it_and_what_two_need_outside() -> None:
    found = homes("x = a(n)\n    return race(b(x), c(d(n)), c(x))")
    assert found["b"] == ["race0"]
    assert found["d"] == ["race1"]
    assert found["a"] == []


def test_what_does_not_depend_on_the_item_is_moved_out_of_the_body_and_of_its_arms() -> None:
    found = homes("return each(ns, lambda i: race(a(i), b(c(n))), at_once=1)")
    assert found == {"a": ["each0", "race0"], "b": [], "c": [], "n": [], "item": ["each0"]}


def test_a_body_in_a_body_is_moved_out_as_one() -> None:
    found = homes(
        "return each(ns, lambda i: a(i, each(ns, lambda j: b(j, c(n)), at_once=1)), at_once=1)"
    )
    assert found["b"] == ["each0"]
    assert found["c"] == []
    assert found["a"] == ["each0"]


def test_what_needs_only_the_inner_item_stays_in_the_inner_body() -> None:
    found = homes("return each(ns, lambda i: each(ns, lambda j: a(i, b(j)), at_once=1), at_once=1)")
    assert found["b"] == ["each0", "each0"]


def test_the_same_wire_as_two_arms_lies_in_neither() -> None:
    assert homes("x = a(n)\n    return race(x, x)")["a"] == []


def test_a_constant_lives_in_the_arm_that_it_is() -> None:
    pipeline: Any = written("@pipeline\ndef p(n): return route(n, {1: 'x', 2: 'y'})")["p"]
    regions = divide(pipeline.output)
    (route,) = (node for node in regions.order if node.label == "route")
    assert [[n.label for n in region.nodes] for region in regions.owned[route]] == [
        ["'x'"],
        ["'y'"],
    ]
