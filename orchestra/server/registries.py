"""The registry of a server's runs, which never keeps or publishes what no client may see."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING

from orchestra.runs.registry import Registry, open_registry
from orchestra.server.problems import fit_for_clients
from orchestra.stores.state_memory import MemoryState

if TYPE_CHECKING:
    from orchestra.engine.engine import Engine
    from orchestra.protocols import State
    from orchestra.server.settings import Settings


def open_runs(
    state: State, settings: Settings, *, shared: bool
) -> AbstractAsyncContextManager[Registry]:
    """The registry of the runs of one engine, over a state; leave it behind the engine's end.

    `shared` is whether there are others over this state, in this process or elsewhere.
    """
    fit = partial(fit_for_clients, debug=settings.debug)
    return open_registry(state, settings.runs, shared=shared, fit=fit)


def registry_beside(engine: Engine, settings: Settings) -> Registry:
    """A registry of this process's runs, as old as the engine."""
    state = MemoryState(limit_bytes=settings.runs.kept_total_bytes)
    fit = partial(fit_for_clients, debug=settings.debug)
    registry = Registry(state, settings.runs, engine.nursery, shared=False, fit=fit)
    registry.begin()
    return registry
