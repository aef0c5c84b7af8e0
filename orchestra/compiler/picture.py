"""A picture: the content of a drawing, independent of its format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import inf

import attrs

from orchestra.annotations.facts import MISSING, spell
from orchestra.compiler.naming import paths_of
from orchestra.compiler.regions import Region, Regions, divide
from orchestra.graph.control.agreeing import Quorum, Survivors
from orchestra.graph.nodes import (
    Call,
    Choice,
    Collect,
    Constant,
    Each,
    EachItem,
    Fallback,
    Input,
    Node,
    Race,
    Route,
)
from orchestra.graph.parts import wires_in
from orchestra.graph.pipelines import Pipeline
from orchestra.graph.rules.commits import FIRST_CONTENT
from orchestra.graph.rules.policy import Policy, Retry
from orchestra.graph.wires import Wire, node_of, path_of

_CONSTANT_CHARACTERS = 40


@attrs.frozen
class Reading:
    """The value of one argument of a node: wires, or the text of a plain value."""

    into: str
    """The name of the parameter; empty if there is only one."""
    wires: tuple[Wire, ...]
    constant: str = ""


@attrs.frozen(repr=False)
class Named:
    """A function or class in the options of a node, shown by its name."""

    what: Callable[..., object]

    def __repr__(self) -> str:
        return getattr(self.what, "__qualname__", None) or repr(self.what)


@attrs.frozen(eq=False)
class Picture:
    """The nodes that a pipeline's output reaches, with their names and numbers."""

    pipeline: Pipeline[..., object]
    regions: Regions
    ids: Mapping[Node, int]
    """The position of each node in the order of definition."""
    paths: Mapping[Node, str]
    areas: Mapping[Region, int]
    """The number of every region; the run's root region is 0."""

    def title(self, node: Node) -> str:
        """The name of a node in the drawing: `cite#2`, `question`, `'yes'`."""
        return shortened(node.value) if isinstance(node, Constant) else self.paths[node]

    def source(self, wire: Wire) -> str:
        """The name of a wire in the drawing: `cite#2`, `pair[0]`."""
        return self.title(node_of(wire)) + part_of(wire)


def picture(pipeline: Pipeline[..., object]) -> Picture:
    """The picture of a pipeline, which may have problems."""
    regions = divide(pipeline.output)
    areas = [regions.root]
    for node in regions.order:
        areas += regions.owned[node]
    return Picture(
        pipeline,
        regions,
        {node: n for n, node in enumerate(regions.order)},
        paths_of(regions),
        {region: n for n, region in enumerate(areas)},
    )


def kind_of(node: Node) -> str:
    """The kind of a node: `input`, `constant`, `item`, `step`, or its construct."""
    return _KINDS.get(type(node)) or node.label


_KINDS: Mapping[type[Node], str] = {
    Input: "input",
    Constant: "constant",
    EachItem: "item",
    Call: "step",
}


def readings(node: Node) -> Iterator[Reading]:
    """The arguments that the node itself reads; arms and bodies are drawn as regions."""
    if isinstance(node, Call):
        for name, argument, _ in node.places:
            wires = tuple(wire for wire, _ in wires_in(argument))
            yield Reading(name, wires, "" if wires else shortened(argument))
    elif isinstance(node, Collect):
        yield Reading("", (node.source,))
    elif isinstance(node, Route):
        yield Reading("", (node.on,))
    elif isinstance(node, Each):
        yield Reading("", (node.items,))


def options(node: Node) -> dict[str, object]:
    """The options of a node that differ from the defaults."""
    if isinstance(node, Call):
        return {**_written(node.policy), **_written(node.policy.retry)}
    if isinstance(node, Race | Fallback):
        return _rules(node)
    if isinstance(node, Quorum):
        return _agreement(node)
    if isinstance(node, Survivors):
        return {"least": node.least} if node.least > 1 else {}
    if isinstance(node, Each):
        bound: dict[str, object] = {} if node.at_once is None else {"at_once": node.at_once}
        if node.failures_max is not None:
            bound["failures_max"] = node.failures_max
        return bound if node.ordered else {**bound, "ordered": False}
    return {}


def _written(bounds: Policy | Retry | None) -> dict[str, float]:
    """The fields of a policy, or of its retry, that differ from the defaults."""
    if bounds is None:
        return {}
    pairs = ((f.default, f.name, getattr(bounds, f.name)) for f in attrs.fields(type(bounds)))
    return {n: value for by, n, value in pairs if isinstance(value, int | float) and value != by}


def _rules(node: Race | Fallback) -> dict[str, object]:
    """The options by which a race or fallback commits that differ from the defaults."""
    given: dict[str, object] = {}
    if node.commit != FIRST_CONTENT:
        given["commit"] = node.commit
    if node.validate is not None:
        given["validate"] = Named(node.validate)
    if isinstance(node, Fallback) and node.on != (Exception,):
        given["on"] = tuple(map(Named, node.on)) if len(node.on) > 1 else Named(node.on[0])
    if isinstance(node, Fallback) and node.restart:
        given["restart"] = True
    return given | _starts(node) if isinstance(node, Race) else given


def _agreement(node: Quorum) -> dict[str, object]:
    """The count of a quorum, and its other options that differ from the defaults."""
    given: dict[str, object] = {"count": node.count}
    if node.agree is not None:
        given["agree"] = Named(node.agree)
    return given | {"stagger_s": node.stagger_s} if node.stagger_s else given


def _starts(node: Race) -> dict[str, object]:
    """The options for when the arms of a race start, if not at once."""
    by_default = 0 if node.hedge is None else inf
    given: dict[str, object] = {}
    if node.stagger_s != by_default:
        given["stagger_s"] = node.stagger_s
    if node.hedge is not None:
        given |= {"hedge_at": node.hedge.at, "hedge_share": node.hedge.share}
    return given


def arm_name(region: Region) -> str:
    """The name of an arm in events; `item` for the body of an `each`, `run` for the run."""
    if isinstance(region.owner, Choice):
        return region.owner.arm_names[region.arm]
    return "run" if region.owner is None else "item"


def part_of(wire: Wire) -> str:
    """The part of the node's value that the wire carries: `.text`, `[0]`; empty for all of it."""
    return "".join(map(str, path_of(wire)))


def type_text(kind: object) -> str:
    """The text of an annotation; `?` where it is wrong."""
    return "?" if kind is MISSING else spell(kind)


def shortened(value: object) -> str:
    """The text of a plain value, on one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _CONSTANT_CHARACTERS else text[: _CONSTANT_CHARACTERS - 1] + "…"
