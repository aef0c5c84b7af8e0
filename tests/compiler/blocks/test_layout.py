"""A layout counts right: whatever runs it, every operation starts once, when it has its sources."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings

from orchestra.compiler.blocks.layout import lay_out
from orchestra.compiler.blocks.slots import Block, Nested, Source, sources_in
from orchestra.compiler.naming import names_of, paths_of
from orchestra.compiler.plan import plan
from orchestra.compiler.regions import divide
from orchestra.graph.nodes import Call, Constant, Each, EachItem, Input
from orchestra.graph.pipelines import Pipeline
from tests.compiler.graphs import pipelines
from tests.graph.written import written


class Runner:
    """Runs a block as the engine does, but without tasks: each operation as soon as it may."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.waits = list(block.waits)
        self.filled = {slot for slot, _ in (*block.constants, *block.inputs)}
        self.filled |= {here for _, here in block.imports}
        self.filled |= set() if block.item is None else {block.item}
        self.started: Counter[int] = Counter()
        self.arms_left: dict[int, int] = {}
        self.owner = {
            region: operation.slot
            for operation in block.operations
            if operation is not None
            for region in operation.regions
        }

    def enter(self, region: int) -> None:
        for slot in self.block.regions[region].members:
            self.arrive(slot)

    def arrive(self, slot: int) -> None:
        self.waits[slot] -= 1
        assert self.waits[slot] >= 0
        if self.waits[slot] == 0:
            self.start(slot)

    def start(self, slot: int) -> None:
        self.started[slot] += 1
        region = self.block.outlets.get(slot)
        if region is not None:
            assert self.block.regions[region].source.slot in self.filled
            self.outlet(region)
            return
        operation = self.block.operations[slot]
        assert operation is not None
        sources = [source for _, source in operation.sources]
        sources += [source for _, nested in operation.nested for source in sources_in(nested)]
        assert {source.slot for source in sources} <= self.filled
        if operation.body is not None:
            assert {there for there, _ in operation.body.imports} <= self.filled
            Runner(operation.body).run()
        self.arms_left[slot] = len(operation.regions)
        for inner in operation.regions:
            self.enter(inner)
        if not operation.regions:
            self.finish(slot)

    def outlet(self, region: int) -> None:
        if region == 0:
            return
        owner = self.owner[region]
        self.arms_left[owner] -= 1
        if not self.arms_left[owner]:
            self.finish(owner)

    def finish(self, slot: int) -> None:
        operation = self.block.operations[slot]
        assert operation is not None
        self.filled.add(slot)
        for reader in (*operation.values, *operation.lanes):
            self.arrive(reader)

    def run(self) -> None:
        self.enter(0)
        slots = [operation.slot for operation in self.block.operations if operation is not None]
        assert self.started == Counter([*slots, *self.block.outlets])


@settings(max_examples=200)
@given(pipelines())
def test_every_operation_starts_once_and_has_its_sources(pipeline: Pipeline[..., object]) -> None:
    Runner(lay_out(divide(pipeline.output), object)).run()


@given(pipelines())
def test_names_are_unique_in_a_block_and_are_those_of_drawings(
    pipeline: Pipeline[..., object],
) -> None:
    regions = divide(pipeline.output)
    paths = paths_of(regions)
    assert set(paths) == set(regions.order)

    def blocks(block: Block, prefix: str) -> None:
        operations = [each for each in block.operations if each is not None]
        names = [operation.name for operation in operations]
        assert len(names) == len(set(names))
        for operation in operations:
            assert paths[operation.node] == prefix + operation.name
            if operation.body is not None:
                blocks(operation.body, f"{prefix}{operation.name}[]/")

    blocks(lay_out(regions, object), "")


def test_a_name_that_looks_like_a_number_is_not_given_twice() -> None:
    module = written(
        """
        @step(name="a#2")
        def other(n): return n
        @step
        def a(n): return n
        @pipeline
        def p(n): return [other(n), a(n), a(n), a(n)]
        """
    )
    calls = [node for node in module["p"].nodes if isinstance(node, Call)]
    assert list(names_of(calls).values()) == ["a#2", "a", "a#3", "a#4", "gather"]


def test_inlined_pipelines_are_part_of_the_path() -> None:
    module = written(
        """
        @step
        def a(n): return n
        @pipeline
        def inner(n): return a(n)
        @pipeline
        def middle(n): return [inner(n), a(n)]
        @pipeline
        def p(n): return middle(a(n))
        """
    )
    names = {op.name for op in plan(module["p"]).block.operations if op is not None}
    assert names == {"a", "middle/inner/a", "middle/a", "middle/gather"}


STEPS = """
@step
async def one(x: int) -> int: return x
@step
async def loose(x): return x
@step
async def many(xs: list[int], *, by: dict[str, int] = {}, ends: tuple[int, str] = (0, "")) -> int:
    return 0
@step
async def gen(n: int) -> AsyncIterator[str]: yield ""
@step
async def up(chunks: Stream[str]) -> AsyncIterator[str]: yield ""
@step
async def zipped(first: Stream[str], second: Stream[str], n: int) -> AsyncIterator[str]: yield ""
"""


def block_of(source: str) -> Block:
    return plan(written(STEPS + source)["p"]).block


def test_arguments_are_constants_sources_or_templates() -> None:
    block = block_of(
        "@pipeline\ndef p(n: int) -> int:\n"
        "    return many([n, 3, one(n)], by={'a': n}, ends=(n, 'x'))"
    )
    (operation,) = (op for op in block.operations if op is not None and op.name == "many")
    templates = dict(operation.nested)
    assert {name: template.container for name, template in templates.items()} == {
        "xs": list,
        "by": dict,
        "ends": tuple,
    }
    assert [key for key, _ in templates["xs"].parts] == [0, 1, 2]
    assert templates["xs"].parts[1] == (1, 3)
    assert sources_in(3) == ()
    assert all(isinstance(source, Source) for source in sources_in(templates["by"]))
    assert isinstance(templates["xs"], Nested)
    assert operation.constants == {}


def test_a_value_is_checked_when_it_is_read_only_where_it_may_not_fit() -> None:
    block = block_of("@pipeline\ndef p(n: int) -> int: return one(loose(one(n)))")
    expects = {
        op.name: [source.expects for _, source in op.sources]
        for op in block.operations
        if op is not None
    }
    assert expects == {"one": [None], "loose": [None], "one#2": [int]}
    assert block.regions[0].source.expects is None
    loose = block_of("@pipeline\ndef p(n: int) -> int: return loose(n)")
    assert loose.regions[0].source.expects is int


def test_each_reader_of_a_stream_has_a_lane_of_its_own() -> None:
    block = block_of(
        "@pipeline\ndef p(n: int) -> Stream[str]:\n"
        "    said = gen(n)\n    return zipped(said, up(said), n)"
    )
    by_name = {op.name: op for op in block.operations if op is not None}
    assert [block.operations[slot].name for slot in by_name["gen"].lanes] == ["up", "zipped"]  # type: ignore[union-attr]
    assert by_name["gen"].values == ()
    assert by_name["gen"].chunk is str
    read = {(source.slot, source.lane) for source in by_name["zipped"].streams}
    assert read == {(by_name["gen"].slot, 1), (by_name["up"].slot, 0)}
    assert block.rejoins
    assert by_name["one" if "one" in by_name else "up"].plain is False


def test_a_body_imports_what_it_reads_from_outside_once() -> None:
    block = block_of(
        "@pipeline\ndef p(n: int, ns: list[int]) -> list[int]:\n"
        "    m = one(n)\n    return each(ns, lambda i: many([i, m, m, n]), at_once=1)"
    )
    (each,) = (op for op in block.operations if op is not None and isinstance(op.node, Each))
    assert each.body is not None
    assert each.regions == ()
    imported = [there for there, _ in each.body.imports]
    assert len(imported) == len(set(imported)) == 2
    assert each.body.item is not None
    assert not any(
        isinstance(op.node, Input | Constant | EachItem) for op in block.operations if op
    )
