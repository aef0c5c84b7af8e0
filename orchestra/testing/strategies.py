"""Hypothesis strategies for simulated runs. All are finite and shrink well."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from hypothesis import strategies as st

from orchestra.graph.rules.policy import Limits
from orchestra.testing.scripts import Script
from orchestra.testing.world import World


def schedules() -> st.SearchStrategy[int]:
    """Seeds for the order in which ready tasks run."""
    return st.integers(0, 2**32 - 1)


def moments(most_s: float = 8.0) -> st.SearchStrategy[float]:
    """Times in a run, on a grid fine enough to fall between its events."""
    return st.integers(0, int(most_s * 512)).map(lambda ticks: ticks / 512)


def narrow_limits() -> st.SearchStrategy[Limits]:
    """Limits so small that edges fill at once."""
    return st.builds(
        lambda lane, chunks: Limits(lane_chunks=lane, window_chunks=chunks),
        st.integers(1, 3),
        st.integers(1, 4),
    )


def worlds(
    *,
    steps: Mapping[str, st.SearchStrategy[Script]] | None = None,
    limits: st.SearchStrategy[Limits] | None = None,
    cancels: bool | st.SearchStrategy[float] = False,
    world: World | None = None,
) -> st.SearchStrategy[World]:
    """Worlds with a drawn schedule, drawn scripts for `steps`, and a drawn time to cancel.

    `cancels=True` draws from the first eight seconds; write `cancels=moments(60)` for
    runs that take longer.

    Raises:
        TypeError: an argument is not a strategy.
    """
    _refuse_values("limits", limits)
    for name, script in (steps or {}).items():
        _refuse_values(f"steps={{{name!r}: ...}}", script)
    if not isinstance(cancels, bool):
        _refuse_values("cancels", cancels)
    if not isinstance(world, World | None):
        raise TypeError(
            f"worlds(world={world!r:.80}): it must be a World, whose other fields are kept; draw "
            "the fields that vary with `steps`, `limits` and `cancels`"
        )
    return _worlds(steps or {}, limits, moments() if cancels is True else cancels, world or World())


def _refuse_values(argument: str, given: object) -> None:
    if given is not None and not isinstance(given, st.SearchStrategy):
        raise TypeError(
            f"worlds({argument}): {given!r:.80} is not a strategy; write it in "
            "worlds(world=World(...)), or wrap it in st.just(...)"
        )


@st.composite
def _worlds(
    draw: st.DrawFn,
    steps: Mapping[str, st.SearchStrategy[Script]],
    limits: st.SearchStrategy[Limits] | None,
    cancels: st.SearchStrategy[float] | bool,
    base: World,
) -> World:
    return attrs.evolve(
        base,
        schedule=draw(schedules()),
        cancel_at_s=base.cancel_at_s if isinstance(cancels, bool) else draw(cancels),
        steps={**base.steps, **{name: draw(script) for name, script in steps.items()}},
        limits=draw(limits) if limits is not None else base.limits,
    )
