"""The registry of a server's runs. What clients may not see of an error is only logged."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING

from orchestra.errors import OrchestraError
from orchestra.events import RunFailed
from orchestra.runs.registry import Registry, open_registry
from orchestra.server.responses.problems import fit_for_clients
from orchestra.stores.state_memory import MemoryState

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
    """The registry of the runs of one engine, over a state; leave it behind the engine's end.

    `shared` is whether other registries use the state, in this process or elsewhere.
    """
    fit = partial(fit_for_clients, debug=settings.debug)
    return open_registry(state, settings.runs, shared=shared, fit=fit, tell_end=_teller(settings))


def registry_beside(engine: Engine, settings: Settings) -> Registry:
    """A registry of this process's runs, as old as the engine."""
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
    """The callbacks for ended runs; their logs have the run's ids, like those of its steps."""
    told: list[Callable[[Run], None]] = [report]
    if settings.usage_log:
        from orchestra.server.runs.usage_log import tell_usage

        told.insert(0, tell_usage)

    def tell(run: Run) -> None:
        variables = run.variables.copy()
        for each in told:
            variables.run(each, run)

    return tell


def report(run: Run) -> None:
    """Log why a run that has ended has failed, whether or not anybody follows it.

    A foreign exception is logged with its traceback, since no client is told its message; an error
    of the provider or of the deployment as one line. Errors that callers can mend themselves (their
    request, their rate, their budget) are not logged.
    """
    error = run.error
    if error is None:
        return
    last = run.journal.last
    if not isinstance(last, RunFailed):
        return
    from orchestra.server.runs.words import asked, failed_at  # of no use while runs go well

    if not isinstance(error, OrchestraError):
        log.error("run %s of %s failed", run.id, asked(run), exc_info=error)
    elif _is_ours_to_mend(error):
        at, told = failed_at(error), f"{last.error}: {last.message}"
        what = f"{at}: {told}".encode(errors="backslashreplace").decode()
        log.warning("run %s of %s failed%s", run.id, asked(run), what)


def _is_ours_to_mend(error: OrchestraError) -> bool:
    """Whether one of its errors is for the owner to mend, even if clients are told another."""
    from orchestra.codecs.serving.decisive import leaves  # of no use while runs go well
    from orchestra.server.runs.problems import kind_of

    return any(kind_of(each).status >= SERVER_FAULT for each in leaves(error))
