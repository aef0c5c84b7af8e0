"""The registry of a server's runs, and the log lines of runs that failed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING

import trio

from orchestra.codecs.serving.decisive import decisive
from orchestra.events import RunCancelled, RunFailed
from orchestra.messages import class_name
from orchestra.policies.observed import CANCELLED, CHAT, EMBEDDINGS
from orchestra.runs.registry import Registry, open_registry
from orchestra.server.runs.fit_events import fit_for_clients
from orchestra.server.runs.relay import relay_vectors
from orchestra.server.runs.words import model_of
from orchestra.stores.state.memory import MemoryState

if TYPE_CHECKING:
    from orchestra.engine.engine import Engine
    from orchestra.engine.run import Run
    from orchestra.observe.metrics import Metrics
    from orchestra.protocols import State
    from orchestra.server.runs.failures import Causes
    from orchestra.server.settings import Settings


def open_runs(
    state: State, settings: Settings, *, shared: bool, metrics: Metrics | None = None
) -> AbstractAsyncContextManager[Registry]:
    """Open the registry of one engine's runs, over a state; leave it after the engine's end.

    `shared` is whether other registries use the state, in this process or in others. `metrics`
    count the runs of models that clients ask for by name.
    """
    fit = partial(fit_for_clients, debug=settings.debug)
    tell_end = _teller(settings, metrics)
    return open_registry(state, settings.runs, shared=shared, fit=fit, tell_end=tell_end)


def registry_beside(engine: Engine, settings: Settings, metrics: Metrics | None = None) -> Registry:
    """A registry of this process's runs, in memory, that lasts as long as the engine."""
    state = MemoryState(limit_bytes=settings.runs.kept_total_bytes)
    fit = partial(fit_for_clients, debug=settings.debug)
    registry = Registry(
        state,
        settings.runs,
        engine.shared.nursery,
        shared=False,
        fit=fit,
        tell_end=_teller(settings, metrics),
    )
    registry.begin()
    return registry


def _teller(settings: Settings, metrics: Metrics | None) -> Callable[[Run], None]:
    """The callback for ended runs; its log lines have the run's ids, like those of its steps."""
    callbacks: list[Callable[[Run], None]] = [_reporter()]
    if settings.usage_log:
        from orchestra.server.runs.usage_log import tell_usage

        callbacks.insert(0, tell_usage)
    if metrics is not None:
        callbacks.insert(0, partial(_count_served, metrics))

    def tell(run: Run) -> None:
        variables = run.variables.copy()
        for callback in callbacks:
            variables.run(callback, run)

    return tell


def _reporter() -> Callable[[Run], None]:
    """The callback that logs failed runs; what it needs is imported with the first of them."""
    causes: Causes | None = None

    def report(run: Run) -> None:
        nonlocal causes
        if run.error is None:
            return
        from orchestra.server.runs import failures

        causes = failures.Causes() if causes is None else causes
        failures.report(run, causes, trio.current_time())

    return report


def _count_served(metrics: Metrics, run: Run) -> None:
    """Count a run of a model that a client asked for by its name."""
    model, last = model_of(run), run.journal.last
    if model is None:
        return
    operation = EMBEDDINGS if run.plan.pipeline is relay_vectors else CHAT
    metrics.served(model, operation, last.at_s, run.journal.first_chunk_s, _error_of(run))


def _error_of(run: Run) -> str:
    """How a run failed: the class of the error that decides its problem, "" if it finished."""
    match run.journal.last:
        case RunFailed() if run.error is not None:
            return class_name(decisive(run.error).error)
        case RunCancelled():
            return CANCELLED
        case _:
            return ""
