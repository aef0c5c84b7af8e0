"""Error messages for a step, a function or another object where a pipeline is needed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from textwrap import indent
from typing import Any

from orchestra.annotations.deferred import signature
from orchestra.annotations.facts import hints, spell
from orchestra.errors import DefinitionError
from orchestra.graph.pipelines import Pipeline
from orchestra.graph.source.frames import called_at
from orchestra.graph.steps import Step


def refuse_others(given: object) -> None:
    """Check that an object is a pipeline.

    Raises:
        DefinitionError: it is something else; for a step or function, the message shows the
            pipeline to write.
    """
    if isinstance(given, Pipeline):
        return
    where = called_at()
    if (inner := hidden_pipeline(given)) is not None:
        raise DefinitionError(f"{where}: {decorated_in_vain(inner)}")
    if isinstance(given, Step):
        message = f"step {given.name!r} is not a pipeline, and only pipelines run; wrap it in one"
        right = _wrapped(given.name, given.call, given.hints, given.required, given.returns)
    elif inspect.isfunction(given):
        lambda_, known = given.__name__ == "<lambda>", hints(given)
        name = "some_step" if lambda_ else given.__name__
        message = (
            f"{'a lambda' if lambda_ else f'function {name!r}'} is not a pipeline; decorate it "
            f"with @pipeline if it calls steps; if it works on values, decorate it with @step, and "
            f"wrap it in a pipeline"
        )
        parameters = signature(given).parameters.values()
        needed = tuple(each.name for each in parameters if each.default is each.empty)
        right = _wrapped(name, given, known, needed, known.get("return", Any))
    else:
        raise DefinitionError(
            f"{where}: {given!r:.200} is not a pipeline: a pipeline is a function that calls "
            "steps, decorated with @pipeline"
        )
    raise DefinitionError(f"{where}: {message}:\n{indent(right, '    ')}")


def hidden_pipeline(given: object) -> Pipeline[..., Any] | None:
    """The pipeline inside a function made by a decorator above `@pipeline`; None without one."""
    inner = inspect.unwrap(given) if inspect.isfunction(given) else None
    return inner if isinstance(inner, Pipeline) else None


def decorated_in_vain(inner: Pipeline[..., Any]) -> str:
    """The message about a decorator above `@pipeline`, which makes a plain function of it."""
    return (
        f"a decorator above @pipeline has made a plain function of pipeline {inner.name!r}, at "
        f"{inner.where}: it is no longer a pipeline, and the decorator would act only once, when "
        "the pipeline is defined; remove it, or put it below @step, on a function that runs in "
        "each run"
    )


def _wrapped(
    name: str,
    function: Callable[..., object],
    known: Mapping[str, object],
    needed: tuple[str, ...],
    returns: object,
) -> str:
    """The source of a pipeline that only calls the function with its required arguments."""
    by_name = {
        each.name
        for each in signature(function).parameters.values()
        if each.kind is each.KEYWORD_ONLY
    }
    takes = ", ".join(f"{each}: {spell(known[each])}" if each in known else each for each in needed)
    given = ", ".join(f"{each}={each}" if each in by_name else each for each in needed)
    arrow = "" if returns is Any else f" -> {spell(returns)}"
    return f"@pipeline\ndef run_{name}({takes}){arrow}:\n    return {name}({given})"
