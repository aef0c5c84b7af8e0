"""A pipeline's graph as clients see it: its shape, and of its text only what is theirs to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestra.graph.pipelines import Pipeline


def outline(pipeline: Pipeline[..., Any], *, debug: bool) -> dict[str, Any]:
    """The graph as its drawing has it; outside debug mode, the nodes and edges of it only.

    A prompt's text and a source line are nobody's business.
    """
    from orchestra.compiler import draw

    graph = draw.as_json(pipeline)
    if debug:
        return graph
    nodes = [{key: node[key] for key in ("id", "name", "kind", "type")} for node in graph["nodes"]]
    for node in nodes:
        if node["kind"] == "constant":
            node["name"] = "constant"
    edges = [{key: edge[key] for key in ("source", "target", "streams")} for edge in graph["edges"]]
    return {"nodes": nodes, "edges": edges, "output": graph["output"]["source"]}
