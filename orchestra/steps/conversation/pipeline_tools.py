"""Tools that are pipelines: if a model calls one, the step runs it as a part of its own run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from inspect import Parameter
from typing import Any

from orchestra.annotations.deferred import annotate, signature
from orchestra.annotations.facts import hints
from orchestra.graph.pipelines import Pipeline
from orchestra.protocols import Context, injected


def with_functions(function: Callable[..., object]) -> Callable[..., object]:
    """The function itself; for a pipeline, or a partial of one, a function that runs it."""
    if isinstance(function, Pipeline):
        return _function_of(function)
    if isinstance(function, partial) and isinstance(function.func, Pipeline):
        return partial(_function_of(function.func), *function.args, **function.keywords)
    return function


def pipeline_of(function: object) -> Pipeline[..., Any] | None:
    """The pipeline that a function of `with_functions` runs; None for other functions."""
    return getattr(function, "pipeline", None)


def _function_of(pipeline: Pipeline[..., Any]) -> Callable[..., Awaitable[object]]:
    """A function that runs a pipeline, with the pipeline's parameters and one for the context."""
    named = "context"
    while named in pipeline.inputs:
        named += "_"

    async def call(*args: object, **given: Any) -> object:
        context: Context = given.pop(named)
        return await context.run(pipeline, *args, **given)

    own = signature(pipeline.function)
    context = Parameter(named, Parameter.KEYWORD_ONLY, default=injected, annotation=Context)
    made: Any = call
    made.__signature__ = own.replace(parameters=[*own.parameters.values(), context])
    annotate(made, {**hints(pipeline.function), named: Context})
    made.__name__ = made.__qualname__ = pipeline.name
    made.__doc__ = pipeline.doc
    made.pipeline = pipeline
    return call
