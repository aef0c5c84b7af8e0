"""The registry of a server's runs, and the log lines of runs that failed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING

from orchestra.errors import OrchestraError
from orchestra.events import RunFailed
from orchestra.runs.registry import Registry, open_registry
from orchestra.server.runs.fit_events import fit_for_clients
from orchestra.stores.state.memory import MemoryState

if TYPE_CHECKING:
    from orchestra.engine.engine import Engine
    from orchestra.engine.run import Run
    from orchestra.protocols import State
    from orchestra.server.settings import Settings


log = logging.getLogger("orchestra.server")

SERVER_FAULT = 500


def open_runs(
    state: State, settings: Settings, *, shared: bool
) -> AbstractAsyncContextManager[Registry]:
    """Open the registry of one engine's runs, over a state; leave it after the engine's end.

    `shared` is whether other registries use the state, in this process or in others.
    """
    fit = partial(fit_for_clients, debug=settings.debug)
    return open_registry(state, settings.runs, shared=shared, fit=fit, tell_end=_teller(settings))


def registry_beside(engine: Engine, settings: Settings) -> Registry:
    """A registry of this process's runs, in memory, that lasts as long as the engine."""
    state = MemoryState(limit_bytes=settings.runs.kept_total_bytes)
    fit = partial(fit_for_clients, debug=settings.debug)
    registry = Registry(
        state,
        settings.runs,
        engine.shared.nursery,
        shared=False,
        fit=fit,
        tell_end=_teller(settings),
    )
    registry.begin()
    return registry


def _teller(settings: Settings) -> Callable[[Run], None]:
    """The callback for ended runs; its log lines have the run's ids, like those of its steps."""
    callbacks: list[Callable[[Run], None]] = [report]
    if settings.usage_log:
        from orchestra.server.runs.usage_log import tell_usage

        callbacks.insert(0, tell_usage)

    def tell(run: Run) -> None:
        variables = run.variables.copy()
        for callback in callbacks:
            variables.run(callback, run)

    return tell


def report(run: Run) -> None:
    """Log why a run failed, whether or not anybody follows it.

    A foreign exception is logged with its traceback, since clients are not told its message. An
    error of the provider or of the deployment is logged as one line. Errors that the caller can fix
    (in the request, rate or budget) are not logged.
    """
    error = run.error
    if error is None:
        return
    last = run.journal.last
    if not isinstance(last, RunFailed):
        return
    from orchestra.server.runs.words import asked, failed_at  # only failed runs need it

    if not isinstance(error, OrchestraError):
        log.error("run %s of %s failed", run.id, asked(run), exc_info=error)
    elif _is_ours_to_mend(error):
        at, why = failed_at(error), f"{last.error}: {last.message}"
        what = f"{at}: {why}".encode(errors="backslashreplace").decode()
        log.warning("run %s of %s failed%s", run.id, asked(run), what)


def _is_ours_to_mend(error: OrchestraError) -> bool:
    """Whether one of the errors in it is for the operator to fix, even if clients see another."""
    from orchestra.codecs.serving.decisive import leaves  # only failed runs need it
    from orchestra.server.runs.problems import kind_of

    return any(kind_of(each).status >= SERVER_FAULT for each in leaves(error))
