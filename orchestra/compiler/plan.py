"""Plans: a pipeline prepared for a deployment, with a report on where it streams."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache
from typing import TYPE_CHECKING

from orchestra.annotations.facts import MISSING, chunk_of, spell
from orchestra.compiler.blocks.layout import lay_out
from orchestra.compiler.blocks.slots import Block
from orchestra.compiler.check import check
from orchestra.compiler.checks.tools import with_tools
from orchestra.compiler.naming import paths_of
from orchestra.compiler.regions import Regions, divide
from orchestra.errors import CheckError
from orchestra.eventclass import frozen
from orchestra.graph.control.agreeing import Comparison
from orchestra.graph.nodes import (
    Call,
    Choice,
    Collect,
    Each,
    Edge,
    Fallback,
    Node,
    Race,
    is_stream,
    type_of,
)
from orchestra.graph.pipelines import Pipeline
from orchestra.graph.rules.commits import Complete
from orchestra.graph.wires import Wire, node_of
from orchestra.messages import dotted
from orchestra.nearest import did_you_mean
from orchestra.problem import Problem
from orchestra.protocols import Bindings, KnowsModels

if TYPE_CHECKING:
    from orchestra.compiler.picture import Picture


@frozen
class EdgeReport:
    """Whether one edge streams or carries one value, and why."""

    source: str
    into: str
    streams: bool
    why: str

    def __str__(self) -> str:
        how = "streams" if self.streams else "value  "
        return f"{how}  {self.source} -> {self.into}: {self.why}"


@frozen(eq=False)
class Plan:
    """A checked pipeline, laid out to run, with its names resolved against a deployment."""

    pipeline: Pipeline[..., object]
    regions: Regions
    block: Block
    nodes: tuple[Node, ...]
    """What a run may execute: the nodes of the pipeline, and of those that are tools in it."""

    @property
    def streams(self) -> bool:
        """Whether the run's output is a stream; its result is then the collected stream."""
        return is_stream(self.pipeline.output)

    @property
    def edges(self) -> tuple[EdgeReport, ...]:
        """A report on each edge, in source order; the last is that of the output."""
        from orchestra.compiler.picture import picture

        return _reports(picture(self.pipeline))

    def explain(self) -> str:
        """The streaming report: whether each edge streams, and why; then the hedges."""
        edges = self.edges
        hedges = (
            f"hedge    {path}: {node.hedge}"
            for node, path in paths_of(self.regions).items()
            if isinstance(node, Race) and node.hedge is not None
        )
        head = f"{self.pipeline.name}: {edges[-1].why}"
        return "\n".join([head, *(f"  {line}" for line in (*edges, *hedges))])


def plan(
    pipeline: Pipeline[..., object],
    bindings: Bindings | None = None,
    unchecked: Collection[str] = (),
) -> Plan:
    """Check a pipeline and lay it out to run; without `bindings`, names stay unresolved.

    `unchecked` lists kinds of names that are not looked up: "model", "embedder" or "store".

    Raises:
        CheckError: the pipeline has problems, or names what the deployment does not have.
        DefinitionError: the argument is not a pipeline.
    """
    problems = check(pipeline)
    regions, *of_tools = (divide(each.output) for each in with_tools(pipeline))
    nodes = tuple(node for each in (regions, *of_tools) for node in each.order)
    if bindings is not None:
        unknown = unknown_names(nodes, bindings, unchecked)
        unable = () if "model" in unchecked else unable_models(nodes, bindings)
        problems += tuple(dict.fromkeys((*unknown, *unable)))  # what is inlined twice counts once
    if problems:
        raise CheckError(pipeline.name, problems)
    returns = object if pipeline.returns is MISSING else pipeline.returns
    return Plan(pipeline, regions, lay_out(regions, returns), nodes)


def unknown_names(
    nodes: tuple[Node, ...], bindings: Bindings, unchecked: Collection[str] = ()
) -> Iterator[Problem]:
    """Problems of models, embedders and stores that calls name but the deployment does not have."""
    names = cache(bindings.names)  # with a database, each lookup takes a connection
    for node in nodes:
        for parameter, seam, name in named_by(node):
            if seam in unchecked:
                continue
            known = tuple(names(seam))
            if name not in known:
                message = f"{node.label}({parameter}={name!r}): there is no {seam} {name!r}"
                listed = ", ".join(map(repr, known)) or "none"
                near = did_you_mean(name, known, after=" ")
                add = "" if near else _where_to_add(seam, name)
                fix = f"{near}this deployment has: {listed}{add}"
                yield Problem("unknown-name", node.origin.where, message, fix)


def _where_to_add(seam: str, name: str) -> str:
    """How to give the deployment what has this name; not for a store, which has to be filled."""
    if seam == "store":
        return ""
    table = dotted((f"{seam}s", name))
    return f"; add [{table}] to orchestra.toml, or in a test World({seam}s={{{name!r}: ...}})"


def unable_models(nodes: tuple[Node, ...], bindings: Bindings) -> Iterator[Problem]:
    """Problems of models that calls name, but that are known not to have the ability needed."""
    if not isinstance(bindings, KnowsModels):
        return
    for node in nodes:
        for parameter, seam, name in named_by(node):
            assert isinstance(node, Call), "as for `named_by`"
            ability = node.step.names[parameter].ability
            names = bindings.names(seam) if ability else ()
            if name not in names:
                continue
            if getattr(bindings.capabilities(name), ability) is not False:
                continue
            able = [each for each in names if getattr(bindings.capabilities(each), ability)]
            message = f"{node.label}({parameter}={name!r}): the model {name!r} has no {ability}"
            fix = f"name one that has it: {', '.join(map(repr, able))}" if able else _ADD_RERANKER
            yield Problem("unable-model", node.origin.where, message, fix)


_ADD_RERANKER = (
    "add a rerank model to orchestra.toml, such as [models.reranker] with "
    'provider = "cohere" and model = "rerank-v3.5", or use the step `nearest`, which needs only an '
    "embedder"
)
"""Reranking is the only ability that a step needs of its model whatever it is asked."""


def named_by(node: Node) -> Iterator[tuple[str, str, str]]:
    """The models, embedders and stores that a call names: parameter, kind and name.

    Names that are known only at run time are left out.
    """
    if not isinstance(node, Call):
        return
    for parameter, mark in node.step.names.items():
        default = node.step.signature.parameters[parameter].default
        name = node.arguments.get(parameter, default)
        if isinstance(name, str):
            yield parameter, mark.seam, name


def _reports(drawn: Picture) -> tuple[EdgeReport, ...]:
    reports = [_report(drawn, node, edge) for node in drawn.ids for edge in node.edges]
    return (*reports, _report_of_output(drawn))


def _report(drawn: Picture, node: Node, edge: Edge) -> EdgeReport:
    kind = type_of(edge.wire)
    source = drawn.source(edge.wire)
    into = drawn.paths[node] + edge.into.removeprefix(node.label)
    if chunk_of(kind) is None:
        return EdgeReport(source, into, streams=False, why=_why_value(edge.wire))
    chunk = spell(chunk_of(kind))
    if isinstance(node, Collect):
        why = f"chunks of {chunk} arrive, but {node.origin.where} waits for the last one"
    elif isinstance(node, Each):
        why = f"each {chunk} starts its own body, {node.at_once} at once"
    elif isinstance(node, Race | Fallback) and isinstance(node.commit, Complete):
        why = f"held until this arm of {node.label} is complete, then passed on as a whole"
    elif isinstance(node, Choice):
        why = f"passed on as it comes, once {node.label} has chosen this arm"
    else:
        why = f"both ends take chunks of {chunk}"
    return EdgeReport(source, into, streams=True, why=why)


def _report_of_output(drawn: Picture) -> EdgeReport:
    output = drawn.pipeline.output
    chunk = chunk_of(type_of(output))
    why = _why_value(output) if chunk is None else f"the output streams, chunks of {spell(chunk)}"
    return EdgeReport(drawn.source(output), "the output", streams=chunk is not None, why=why)


def _why_value(wire: Wire) -> str:
    """Why a wire does not stream."""
    node = node_of(wire)
    kind = spell(type_of(wire))
    if isinstance(node, Collect):
        return f"collected into {kind} at {node.origin.where}"
    if isinstance(node, Comparison):
        return f"one value, {kind}, {node.why}"
    if isinstance(node, Each):
        return f"a list is complete only with its last item: {kind}"
    return f"one value, {kind}"
