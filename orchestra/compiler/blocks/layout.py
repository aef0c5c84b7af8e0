"""Lays out regions as blocks: every node of a checked graph gets a slot, a name and readers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

import attrs

from orchestra.annotations.facts import MISSING, Fit, chunk_of, compare
from orchestra.compiler.blocks.mutable_values import is_mutable
from orchestra.compiler.blocks.slots import (
    Block,
    Filling,
    Nested,
    Operation,
    RegionPlan,
    Source,
    all_sources,
)
from orchestra.compiler.naming import FILLED, names_of, nodes_of
from orchestra.compiler.regions import Region, Regions
from orchestra.graph.nodes import (
    Call,
    Constant,
    Each,
    EachItem,
    Input,
    Node,
    type_of,
)
from orchestra.graph.parts import is_wired, parts_in
from orchestra.graph.steps import Kind
from orchestra.graph.wires import Wire, node_of, path_of, spelled


def lay_out(regions: Regions, returns: object) -> Block:
    """The block of a run, with the blocks of `each` bodies inside it.

    `returns` is the annotation that the output has to fit. The graph must have been checked;
    no problems are reported here.
    """
    return _Layout(regions, regions.root, returns).block()


class _Layout:
    """The state while one block is built."""

    def __init__(self, regions: Regions, top: Region, returns: object) -> None:
        self.regions = regions
        self.returns = returns
        self.listed = {region: n for n, region in enumerate(regions.together(top))}
        nodes = nodes_of(self.listed)
        self.nodes = [node for node in nodes if not isinstance(node, FILLED)]
        self.slots = {node: slot for slot, node in enumerate(nodes)}
        self.size = len(nodes)
        self.imported: dict[Node, int] = {}
        self.names = names_of(self.nodes)
        self.values: dict[int, list[int]] = defaultdict(list)
        self.lanes: dict[int, list[int]] = defaultdict(list)
        self.waits: Counter[int] = Counter()

    def block(self) -> Block:
        drafts = [(node, self._arguments(node), self._body(node)) for node in self.nodes]
        plans = tuple(self._region(region) for region in self.listed)
        operations: list[Operation[Node] | None] = [None] * self.size
        for node, (constants, sources, nested), body in drafts:
            slot = self.slots[node]
            owned = self.regions.owned[node] if body is None else ()
            operations[slot] = Operation(
                slot=slot,
                name=self.names[node],
                where=node.origin.where,
                node=node,
                region=self.listed[self.regions.home[node]],
                values=tuple(self.values[slot]),
                lanes=tuple(self.lanes[slot]),
                constants=constants,
                mutable=tuple(each for each in constants.items() if is_mutable(each[1])),
                sources=sources,
                nested=nested,
                regions=tuple(self.listed[region] for region in owned),
                plain=isinstance(node, Call) and node.step.kind is Kind.PLAIN,
                chunk=chunk_of(node.returns),
                streams=tuple(s for s in all_sources(sources, nested) if s.lane is not None),
                body=body,
            )
        return Block(
            size=self.size,
            constants=tuple((s, n.value) for n, s in self.slots.items() if isinstance(n, Constant)),
            inputs=tuple((s, n.name) for n, s in self.slots.items() if isinstance(n, Input)),
            imports=(),
            item=next((s for n, s in self.slots.items() if isinstance(n, EachItem)), None),
            operations=tuple(operations),
            waits=tuple(self.waits[slot] for slot in range(self.size)),
            regions=plans,
            outlets={plan.outlet: index for index, plan in enumerate(plans)},
            owners={
                plans[region].outlet: each.slot
                for each in operations
                if each is not None
                for region in each.regions
            },
            rejoins=any(each is not None and len(each.streams) > 1 for each in operations),
        )

    def _slot(self, node: Node) -> int:
        """The node's slot in this block; a node of the enclosing block is imported."""
        slot = self.slots.get(node, self.imported.get(node))
        if slot is None:
            slot = self.imported[node] = self.size
            self.size += 1
        return slot

    def _filled_by_operation(self, node: Node) -> bool:
        return node in self.slots and not isinstance(node, FILLED)

    def _source(self, wire: Wire, expects: object, into: str, reader: int) -> Source:
        node = node_of(wire)
        slot = self._slot(node)
        kind = type_of(wire)
        lane: int | None = None
        if self._filled_by_operation(node):
            self.waits[reader] += 1
            readers = self.values[slot]
            if chunk_of(kind) is not None:
                readers = self.lanes[slot]
                lane = len(readers)
            readers.append(reader)
        check = lane is None and expects is not MISSING and compare(kind, expects) is Fit.MAY
        chunk, promised = chunk_of(kind), chunk_of(expects)
        if promised is not None and compare(chunk, promised) is Fit.MAY:
            chunk = promised  # such as `Stream[str]`, for a generator without annotations
        return Source(
            slot=slot,
            path=path_of(wire),
            lane=lane,
            expects=expects if check else None,
            chunk=chunk,
            into=into,
            spelled=spelled(wire),
        )

    def _arguments(
        self, node: Node
    ) -> tuple[dict[str, object], tuple[tuple[str, Source], ...], tuple[tuple[str, Nested], ...]]:
        slot = self.slots[node]
        self.waits[slot] += 1  # for the start of its region
        constants: dict[str, object] = {}
        sources: list[tuple[str, Source]] = []
        nested: list[tuple[str, Nested]] = []
        for name, argument, expects, into in self._operation_reads(node):
            filling = self._filling(argument, expects, into, slot)
            if isinstance(filling, Source):
                sources.append((name, filling))
            elif isinstance(filling, Nested):
                nested.append((name, filling))
            else:
                constants[name] = filling
        return constants, tuple(sources), tuple(nested)

    def _operation_reads(self, node: Node) -> Iterator[tuple[str, object, object, str]]:
        """What the operation itself reads: name, argument, annotation, and the name in messages.

        A construct reads one thing, whose name is empty; its arms are regions.
        """
        if isinstance(node, Call):
            for name, argument in node.arguments.items():
                expects = node.step.expects[name]
                yield name, argument, expects, f"{self.names[node]}({name}=...)"
        else:
            for edge in node.edges:
                if edge.arm is None:
                    yield "", edge.wire, object, edge.into

    def _filling(self, argument: object, expects: object, into: str, slot: int) -> Filling:
        if isinstance(argument, Wire):
            return self._source(argument, expects, into, slot)
        if not is_wired(argument):
            return argument
        parts = parts_in(argument, expects)
        return Nested(
            type(argument),
            tuple((key, self._filling(part, wanted, into, slot)) for key, part, wanted in parts),
        )

    def _body(self, node: Node) -> Block | None:
        """The block of an `each`'s body; the `each` waits for the slots that the body imports."""
        if not isinstance(node, Each):
            return None
        (region,) = self.regions.owned[node]
        inner = _Layout(self.regions, region, object)
        block = inner.block()
        imports = []
        for foreign, there in inner.imported.items():
            here = self._slot(foreign)
            imports.append((here, there))
            if self._filled_by_operation(foreign):
                self.waits[self.slots[node]] += 1
                self.values[here].append(self.slots[node])
        return attrs.evolve(block, imports=tuple(imports))

    def _region(self, region: Region) -> RegionPlan:
        outlet = self.size
        self.size += 1
        self.waits[outlet] += 1
        expects = self.returns if region.owner is None else object
        source = self._source(region.outlet, expects, "the result", outlet)
        members = [self.slots[node] for node in region.nodes if not isinstance(node, FILLED)]
        inside = None if region.parent is None else self.listed.get(region.parent)
        alone = region.owner is None and len(members) == 1 and self._gives_a_value(region.nodes)
        return RegionPlan((*members, outlet), outlet, source, inside, alone)

    def _gives_a_value(self, nodes: Iterable[Node]) -> bool:
        """Whether the only operation among the nodes gives a value, in its own task."""
        (node,) = (each for each in nodes if not isinstance(each, FILLED))
        plain = isinstance(node, Call) and node.step.kind is Kind.PLAIN
        return not plain and chunk_of(node.returns) is None
