"""A picture: the content of a drawing, independent of its format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import inf

import attrs

from orchestra.annotations.facts import MISSING, spell
from orchestra.annotations.shapes import same
from orchestra.compiler.naming import paths_of
from orchestra.compiler.regions import Region, Regions, divide
from orchestra.graph.control.agreeing import Comparison
from orchestra.graph.nodes import (
    Call,
    Choice,
    Constant,
    Each,
    EachItem,
    Fallback,
    Input,
    Node,
    Race,
)
from orchestra.graph.parts import wires_in
from orchestra.graph.pipelines import Pipeline
from orchestra.graph.rules.policy import Policy, Retry
from orchestra.graph.wires import Wire, node_of, path_of
from orchestra.messages import safe_repr

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
    else:
        yield from (Reading("", (edge.wire,)) for edge in node.edges if edge.arm is None)


def options(node: Node) -> dict[str, object]:
    """The options of a node that differ from the defaults."""
    if isinstance(node, Call):
        bounds = {**_changed(node.policy), **_changed(node.policy.retry)}
        return {name: value for name, value in bounds.items() if isinstance(value, int | float)}
    if not isinstance(node, Race | Fallback | Comparison | Each):
        return {}
    given = {name: _shown(value) for name, value in _changed(node).items()}
    if isinstance(node, Race) and node.hedge is not None:
        del given["hedge"]
        given["stagger_s"] = node.stagger_s
        if node.stagger_s == inf:  # its default, then
            del given["stagger_s"]
        given |= {"hedge_at": node.hedge.at, "hedge_share": node.hedge.share}
    return given


_READ = ("origin", "arms", "items", "item", "body")
"""Fields of nodes that are not options."""


def _changed(options: Node | Policy | Retry | None) -> dict[str, object]:
    """The fields that differ from their defaults."""
    listed = () if options is None else attrs.fields(type(options))
    fields = [(each, getattr(options, each.name)) for each in listed if each.name not in _READ]
    return {each.name: value for each, value in fields if not same(value, each.default)}


def _shown(value: object) -> object:
    """A value as the pipeline writes it: functions and classes by their names."""
    if isinstance(value, tuple):
        return tuple(map(_shown, value)) if len(value) > 1 else _shown(value[0])
    return Named(value) if callable(value) else value


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
    """The repr of a plain value, on one line and shortened; the default repr if its own fails."""
    text = " ".join(safe_repr(value).split())
    return text if len(text) <= _CONSTANT_CHARACTERS else text[: _CONSTANT_CHARACTERS - 1] + "…"
