"""Pipelines that models may call as tools: what is wrong with them is found with their callers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from orchestra.graph.nodes import Call, Node
from orchestra.graph.pipelines import MayRunPipeline, Pipeline


def with_tools(pipeline: Pipeline[..., object]) -> tuple[Pipeline[..., object], ...]:
    """The pipeline, and all that models in it may call as tools, also in each other; each once."""
    found = [pipeline]
    for each in found:  # which grows meanwhile
        called = dict.fromkeys(tool for node in each.nodes for tool in _tools_of(node))
        found += [tool for tool in called if tool not in found]
    return tuple(found)


def _tools_of(node: Node) -> Iterator[Pipeline[..., object]]:
    """The pipelines among the tools that a call is given."""
    arguments = node.arguments.values() if isinstance(node, Call) else ()
    for argument in arguments:
        for each in argument if isinstance(argument, tuple) else ():
            tool = each.func if isinstance(each, partial) else each
            if isinstance(tool, MayRunPipeline) and tool.pipeline is not None:
                yield tool.pipeline
