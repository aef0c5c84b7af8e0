"""Drawings of a pipeline's graph: for a terminal, as Mermaid, and as JSON.

Pure and deterministic: the same pipeline always gives the same drawing. A pipeline with
problems can be drawn too; nodes that its output does not need are left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestra.compiler.naming import FILLED
from orchestra.compiler.picture import (
    Picture,
    Reading,
    arm_name,
    kind_of,
    options,
    part_of,
    picture,
    readings,
    type_text,
)
from orchestra.compiler.regions import Region
from orchestra.graph.nodes import Call, Constant, EachItem, Node, is_stream, type_of
from orchestra.graph.pipelines import Pipeline
from orchestra.graph.wires import Wire, node_of
from orchestra.values import Json

_INDENT_MAX = 90  # deeper rows are not indented further
_COLUMN_MAX = 64  # a longer line moves only its own type to the right


def as_json(pipeline: Pipeline[..., object]) -> Json:
    """The graph as a JSON object, for programs.

    `nodes` are in the order of definition, each with its `id`, its `name` as in events, its
    `kind` (`step`, `input`, `constant`, `item`, or the construct's own name), its `type`,
    its source line and its `region`. `edges` lead from the id `source` (and a `part` of its
    value) to the id `target`, with `streams` and the `type` of the value or stream. The edge
    to the outlet of a region has the region's number as `region`. `regions` has the run's root
    region first, then every arm and body. `output` is the source of the result.
    """
    drawn = picture(pipeline)
    return {
        "name": pipeline.name,
        "where": pipeline.where,
        "nodes": [_node(drawn, node) for node in drawn.regions.order],
        "edges": [edge for node in drawn.regions.order for edge in _edges(drawn, node)],
        "regions": [_region(drawn, region) for region in drawn.areas],
        "output": _source(drawn, pipeline.output),
    }


def _node(drawn: Picture, node: Node) -> Json:
    return {
        "id": drawn.ids[node],
        "name": drawn.title(node),
        "kind": kind_of(node),
        "runs": node.step.kind.value if isinstance(node, Call) else None,
        "type": type_text(node.returns),
        "where": node.origin.where,
        "region": drawn.areas[drawn.regions.home[node]],
        "constants": {each.into: each.constant for each in readings(node) if not each.wires},
        "options": {
            name: value if isinstance(value, int | float) else str(value)
            for name, value in options(node).items()
        },
    }


def _edges(drawn: Picture, node: Node) -> Iterator[Json]:
    target = drawn.ids[node]
    for reading in readings(node):
        for wire in reading.wires:
            ends = {"target": target, "into": reading.into, "region": None}
            yield _source(drawn, wire) | ends
    for region in drawn.regions.owned[node]:
        ends = {"target": target, "into": arm_name(region), "region": drawn.areas[region]}
        yield _source(drawn, region.outlet) | ends


def _source(drawn: Picture, wire: Wire) -> Json:
    return {
        "source": drawn.ids[node_of(wire)],
        "part": part_of(wire),
        "streams": is_stream(wire),
        "type": type_text(type_of(wire)),
    }


def _region(drawn: Picture, region: Region) -> Json:
    return {
        "id": drawn.areas[region],
        "name": arm_name(region),
        "owner": None if region.owner is None else drawn.ids[region.owner],
        "inside": None if region.parent is None else drawn.areas[region.parent],
        "body": region.is_body,
    }


# --- text --------------------------------------------------------------------------------------


def as_text(pipeline: Pipeline[..., object]) -> str:
    """The graph as a tree for a terminal, top to bottom in the order of the data.

    Nodes that only one arm needs are below that arm. `──` is an edge for one value, `══` one
    for chunks. The type of each node's result is on the right.
    """
    drawn = picture(pipeline)
    rows = list(_rows(drawn))
    width = max((len(text) for text, _ in rows if len(text) <= _COLUMN_MAX), default=0)
    inputs = ", ".join(
        f"{name}: {type_text(node.annotation)}" for name, node in pipeline.inputs.items()
    )
    lines = [f"{pipeline.name}({inputs}) {_gives(pipeline.output)}   {pipeline.where}"]
    lines += [f"{text:{width}}  {gives}".rstrip() for text, gives in rows]
    return "\n".join([*lines, "", "── one value   ══ chunk by chunk"])


def _rows(drawn: Picture) -> Iterator[tuple[str, str]]:
    """Each row of the tree, with the type of its node's result."""
    # Not recursive: a graph may be nested deeper than Python recurses.
    todo: list[tuple[str, Node | Region, bool]] = _children_of(drawn, "", drawn.regions.root)
    while todo:
        indent, part, is_last = todo.pop()
        branch = indent + ("└─ " if is_last else "├─ ")
        if isinstance(part, Node):
            yield branch + _call(drawn, part), _gives(Wire(part))
        else:
            yield branch + _arm(drawn, part), ""
        deeper = "   " if is_last else "│  "
        todo += _children_of(drawn, indent + deeper * (len(indent) < _INDENT_MAX), part)
    yield f"output {_arrow(drawn.pipeline.output)} {drawn.source(drawn.pipeline.output)}", ""


def _children_of(
    drawn: Picture, indent: str, part: Node | Region
) -> list[tuple[str, Node | Region, bool]]:
    """The children of a node or a region, in reverse order."""
    parts: list[Node | Region] = []
    if isinstance(part, Node):
        parts += drawn.regions.owned[part]
    else:
        parts += [each for each in part.nodes if not isinstance(each, FILLED)]
    return [(indent, each, n == 0) for n, each in enumerate(reversed(parts))]


def _call(drawn: Picture, node: Node) -> str:
    given = [_argument_text(drawn, reading) for reading in readings(node)]
    given += [f"{name}={value!r}" for name, value in options(node).items()]
    return f"{drawn.title(node)}({', '.join(given)})"


def _argument_text(drawn: Picture, reading: Reading) -> str:
    if not reading.wires:
        return f"{reading.into}={reading.constant}"
    sources = ", ".join(drawn.source(wire) for wire in reading.wires)
    sources = f"[{sources}]" if len(reading.wires) > 1 else sources
    return f"{reading.into} {_arrow(reading.wires[0])} {sources}".lstrip()


def _arm(drawn: Picture, region: Region) -> str:
    """The row of an arm, with its source if that is elsewhere or is a part of a node's value."""
    source = node_of(region.outlet)
    here = drawn.regions.home[source] is region and not isinstance(source, Constant | EachItem)
    if here and not part_of(region.outlet):
        return arm_name(region)
    return f"{arm_name(region)} {_arrow(region.outlet)} {drawn.source(region.outlet)}"


def _arrow(wire: Wire) -> str:
    return "══" if is_stream(wire) else "──"


def _gives(wire: Wire) -> str:
    return f"{_arrow(wire)}> {type_text(type_of(wire))}"


# --- Mermaid -----------------------------------------------------------------------------------

_SHAPES = {
    "input": ("([", "])"),
    "item": ("([", "])"),
    "constant": ("(", ")"),
    "route": ("{", "}"),
    "race": ("{{", "}}"),
    "fallback": ("{{", "}}"),
    "quorum": ("{{", "}}"),
    "best_of": ("{{", "}}"),
    "each": ("[[", "]]"),
    "collect": ("[/", "\\]"),
}
_ESCAPES = {ord(sign): f"#{ord(sign)};" for sign in '"#<>&`\\'}


def as_mermaid(pipeline: Pipeline[..., object]) -> str:
    """The graph as a Mermaid flowchart, for Markdown: regions framed, streams as thick arrows."""
    drawn = picture(pipeline)
    lines = ["flowchart TD", *_framed(drawn)]
    for node in drawn.regions.order:
        lines += [_mermaid_edge(edge) for edge in _edges(drawn, node)]
    output = _source(drawn, pipeline.output)
    lines.append(f"    output([{_quoted('output', output['type'])}])")
    lines.append(_mermaid_edge(output | {"target": None, "into": "", "region": None}))
    return "\n".join(lines)


def _framed(drawn: Picture) -> Iterator[str]:
    """The Mermaid nodes, each inside the subgraph of its region."""
    todo: list[Node | Region | str] = list(reversed(drawn.regions.root.nodes))
    while todo:
        part = todo.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, Node):
            yield _mermaid_node(drawn, part)
            todo += reversed(drawn.regions.owned[part])
        elif part.nodes:
            owner = "" if part.owner is None else drawn.title(part.owner)
            yield f"    subgraph r{drawn.areas[part]}[{_quoted(f'{owner}: {arm_name(part)}')}]"
            todo.append("    end")
            todo += reversed(part.nodes)


def _mermaid_node(drawn: Picture, node: Node) -> str:
    opens, closes = _SHAPES.get(kind_of(node), ("[", "]"))
    given = [f"{each.into}={each.constant}" for each in readings(node) if not each.wires]
    given += [f"{name}={value!r}" for name, value in options(node).items()]
    lines = [drawn.title(node), *given, type_text(node.returns)]
    return f"    n{drawn.ids[node]}{opens}{_quoted(*lines)}{closes}"


def _mermaid_edge(edge: Json) -> str:
    arrow = "==>" if edge["streams"] else "-->"
    into = edge["into"] if edge["region"] is not None else ""
    label = " ".join(filter(None, (edge["part"], into)))
    target = "output" if edge["target"] is None else f"n{edge['target']}"
    return f"    n{edge['source']} {arrow}{f'|{_quoted(label)}|' if label else ''} {target}"


def _quoted(*lines: str) -> str:
    return '"' + "<br/>".join(line.translate(_ESCAPES) for line in lines) + '"'
