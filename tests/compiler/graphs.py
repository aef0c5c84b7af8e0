"""Random pipelines, as a user would write them: calls, choices and bodies in each other."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from orchestra.graph.control.constructs import each, fallback, race, route
from orchestra.graph.pipelines import Pipeline, pipeline
from orchestra.graph.steps import step

ARMS_MAX, PARTS_MAX, DEPTH_MAX = 3, 5, 2


@step
async def join(values: Any) -> Any:
    return values


@step
def listed(value: Any) -> list[Any]:
    return [value]


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline[..., object]:
    """A pipeline without streams, whose parts read any parts before them."""

    def define(first: Any, second: Any) -> Any:
        return _part(draw, [first, second], 0)

    return pipeline(name="drawn")(define)


def _part(draw: st.DrawFn, scope: list[Any], depth: int) -> Any:
    """The last of a few parts that are built on what is in scope."""
    scope = list(scope)
    for _ in range(draw(st.integers(1, PARTS_MAX))):
        kinds = ["call", "race", "fallback", "route", "each"]
        scope.append(_made(draw, draw(st.sampled_from(kinds)), scope, depth))
    return _any(draw, scope) if draw(st.booleans()) else scope[-1]


def _any(draw: st.DrawFn, scope: list[Any]) -> Any:
    # By its number: `sampled_from` would hash the wires, which they refuse.
    return scope[draw(st.integers(0, len(scope) - 1))]


def _made(draw: st.DrawFn, kind: str, scope: list[Any], depth: int) -> Any:
    chosen = [_any(draw, scope) for _ in range(draw(st.integers(1, ARMS_MAX)))]
    match kind:
        case "race":
            return race(*chosen)
        case "fallback":
            return fallback(*chosen)
        case "route":
            return route(_any(draw, scope), dict(enumerate(chosen)))
        case "each" if depth < DEPTH_MAX:
            items = listed(chosen[0])
            return each(items, lambda item: _part(draw, [*scope, item], depth + 1), at_once=2)
    return join(chosen)
