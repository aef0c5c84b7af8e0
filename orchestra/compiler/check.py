"""Finds all problems of a pipeline at once, before it runs."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from itertools import chain
from types import NoneType

from orchestra.annotations.facts import MISSING, Fit, chunk_of, compare, spell
from orchestra.compiler.checks.arguments import hidden_in, wires_held
from orchestra.compiler.checks.edges import chunks_unannotated, edge_problems, missing_part
from orchestra.compiler.checks.failed import place_for_failed, refuses_failed
from orchestra.compiler.checks.loops import late_problems
from orchestra.compiler.checks.nodes import node_problems
from orchestra.compiler.checks.starvation import starved
from orchestra.compiler.checks.texts import written_wires
from orchestra.compiler.checks.tools import with_tools
from orchestra.compiler.checks.uncalled import uncalled_parts, uncalled_result
from orchestra.compiler.regions import Regions, divide
from orchestra.graph.gather import Gathering
from orchestra.graph.nodes import (
    Call,
    Constant,
    Each,
    EachItem,
    Fallback,
    Input,
    Node,
    is_stream,
    type_of,
)
from orchestra.graph.pipelines import Pipeline
from orchestra.graph.source.frames import place
from orchestra.graph.source.functions import function_of, returned_at
from orchestra.graph.wires import node_of, spelled
from orchestra.graph.wrapping import refuse_others
from orchestra.problem import Problem

_UNCLEAR = {
    "bad-call",
    "item-escapes",
    "mixed-arms",
    "stream-in-each",
    "stream-into-body",
    "stream-into-value",
    "unknown-argument",
    "value-into-stream",
}
"""Codes of problems that make it unclear which edges stream."""


def check(pipeline: Pipeline[..., object]) -> tuple[Problem, ...]:
    """Every problem of the pipeline, in the order of the source; empty if it can run.

    Those of pipelines that models may call as tools come last. `plan` also checks what depends on
    a deployment: whether the models, embedders and stores that the pipeline names exist.

    Raises:
        DefinitionError: the argument is not a pipeline.
    """
    refuse_others(pipeline)
    problems = (problem for each in with_tools(pipeline) for problem in _problems_of(each))
    return tuple(dict.fromkeys(problems))  # a pipeline inlined twice has its problems once


def _problems_of(pipeline: Pipeline[..., object]) -> Iterator[Problem]:
    """The problems of this pipeline alone, in the order of the source."""
    regions = divide(pipeline.output)
    written = list(written_wires(pipeline.nodes))
    of_nodes = chain(
        ((node, problem) for node in pipeline.nodes for problem in _own_problems(node)),
        ((node, problem) for node, _, problem in written),
        _unused(pipeline, regions, {name for _, name, _ in written}),
        late_problems(pipeline.nodes),
        _escaped(regions),
        _streams_read_again(regions),
        _restart_problems(regions),
    )
    found = [(0, problem) for problem in pipeline.faults]
    found += [(node.origin.number, problem) for node, problem in of_nodes]
    uncalled = any(problem.code == "uncalled" for _, problem in found)  # so its type is wrong too
    found += [
        (len(pipeline.nodes), problem) for problem in _output_problems(pipeline, uncalled=uncalled)
    ]
    if _UNCLEAR.isdisjoint(problem.code for _, problem in found):
        found += [(node.origin.number, problem) for node, problem in starved(regions)]
    yield from (problem for _, problem in sorted(found, key=lambda pair: pair[0]))


def _own_problems(node: Node) -> Iterator[Problem]:
    return chain(uncalled_parts(node), node_problems(node), edge_problems(node))


def _unused(
    pipeline: Pipeline[..., object], regions: Regions, written: Container[str]
) -> Iterator[tuple[Node, Problem]]:
    """Inputs that nothing reads, and calls that the result does not need: the last of each chain.

    Nodes whose wires were `written` into a text are left out: they have a problem already.
    """
    used = set(regions.order) | set(_nodes_read(pipeline.nodes))
    for node in pipeline.nodes:
        if node in used or isinstance(node, Constant | EachItem | Gathering):
            continue
        if node.spelled in written:
            continue
        where = node.origin.where
        if isinstance(node, Input):
            fix = f"use it, or remove it from `def {pipeline.function.__name__}(...)`"
            message = f"input {node.name!r} of pipeline {pipeline.name!r} is not used"
            yield node, Problem("unused-input", where, message, fix)
        else:
            message = f"the result of {node.spelled} is not used, so it would never run"
            fix = "pass it to a step that the returned wire needs, or remove the call"
            if isinstance(node, Call) and node.step.annotated_return in (None, NoneType):
                fix = f"return its argument from it, and use the result: `x = {node.step.name}(x)`"
            yield node, Problem("unused-step", where, message, fix)


def _nodes_read(nodes: Iterable[Node]) -> Iterator[Node]:
    """The nodes that other nodes read, or would read in a correct call."""
    for node in nodes:
        yield from node.needs
        match node:
            case Call(arguments=arguments, stray=stray):
                for argument in (*arguments.values(), stray):
                    yield from map(node_of, hidden_in(argument))
            case Constant(value=held):
                yield from map(node_of, wires_held(held))
            case Each(at_once=at_once, failures_max=failures_max):
                yield from map(node_of, wires_held((at_once, failures_max)))


def _escaped(regions: Regions) -> Iterator[tuple[Node, Problem]]:
    """The first nodes of each chain that depend on an item outside the body of its `each`."""
    body_of = {
        node.item: regions.owned[node][0] for node in regions.order if isinstance(node, Each)
    }
    escaped: set[tuple[Node, EachItem]] = set()
    for node in regions.order:
        for item in regions.needs_items[node] - {node}:
            body = body_of.get(item)
            if body is not None and regions.home[node].inside(body):
                continue
            if not any((source, item) in escaped for source in node.needs):
                message = f"{node.spelled} needs an item of an `each`, but is outside its body"
                fix = "call it in the body: each(items, lambda item: ...)"
                yield node, Problem("item-escapes", node.origin.where, message, fix)
            escaped.add((node, item))


def _streams_read_again(regions: Regions) -> Iterator[tuple[Node, Problem]]:
    """Streams from outside that the body of an `each` would read once per item."""
    for node in regions.order:
        for edge in node.edges:
            if not is_stream(edge.wire):
                continue
            here = regions.home[node] if edge.arm is None else regions.owned[node][edge.arm]
            if any(True for _ in here.bodies_below(regions.home[node_of(edge.wire)])):
                name = spelled(edge.wire)
                message = f"{edge.into} reads the stream {name} once for each item"
                fix = f"collect({name}) outside the body"
                yield node, Problem("stream-into-body", node.origin.where, message, fix)


def _restart_problems(regions: Regions) -> Iterator[tuple[Node, Problem]]:
    """Fallbacks with `restart=True` whose output a step reads, or that give no stream."""
    restarting = {n for n in regions.order if isinstance(n, Fallback) and n.restart}
    for node in regions.order:
        for edge in node.edges:
            if (source := node_of(edge.wire)) in restarting:
                restarting.remove(source)
                why = f"{edge.into} reads it, and what was read cannot be taken back"
                yield source, _restart_unfit(source, why)
    for node in regions.order:
        if node in restarting and chunk_of(node.returns) is None:
            yield node, _restart_unfit(node, "it gives one value, and only a stream can restart")


def _restart_unfit(node: Node, why: str) -> Problem:
    message = f"{node.label}(restart=True) is for the stream that is the pipeline's result: {why}"
    fix = "leave out restart=True; commit=complete() waits for the whole answer"
    return Problem("restart-unfit", node.origin.where, message, fix)


def _output_problems(pipeline: Pipeline[..., object], *, uncalled: bool) -> Iterator[Problem]:
    output = pipeline.output
    where = place(*returned_at(function_of(pipeline.function, "pipeline").__code__))
    missing = missing_part(output, where)
    if missing is not None:
        yield missing
        return
    if isinstance(node_of(output), EachItem):
        message = f"the {node_of(output).spelled} has a value only in the body of its `each`"
        yield Problem("item-escapes", where, message, "return the result of the `each`")
    named = tuple(uncalled_result(output, pipeline.name, where))
    yield from named
    kind, promised = type_of(output), pipeline.returns
    if named or uncalled or promised is MISSING:
        return
    fix = f"annotate it `-> {spell(kind)}`"
    if compare(kind, promised) is not Fit.CANNOT:
        if not refuses_failed(kind, promised):
            return
        fix = place_for_failed(kind)
    fix = chunks_unannotated(output, promised) or fix
    if chunk_of(kind) is not None and chunk_of(promised) is None:
        fix += f", or return collect({spelled(output)})"
    yield Problem(
        "type-clash",
        pipeline.where,
        f"pipeline {pipeline.name!r} returns {spelled(output)}, which is {spell(kind)}, but is "
        f"annotated `-> {spell(promised)}`",
        fix,
    )
