"""A pipeline's graph as clients see it: without prompts and source lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestra.graph.pipelines import Pipeline


def outline(pipeline: Pipeline[..., Any], *, debug: bool) -> dict[str, Any]:
    """The graph as it is drawn; unless `debug`, without prompts, constants and source lines."""
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
