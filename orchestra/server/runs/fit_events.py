"""Events as clients get them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from orchestra.events import Delta, Event, Failure, RunFailed, RunFinished, Snapshot, StepFailed
from orchestra.server.responses.fit_messages import fit_message
from orchestra.server.responses.fit_values import fit_value


def fit_for_clients(event: Event, *, debug: bool = False) -> Event:
    """The event as clients get it, without details that are only for the deployment's owner.

    Outside debug mode, source lines and the messages of foreign exceptions are removed, also from
    each `Failed` in the output. A `run.failed` gets the problem with which a request for the run is
    answered, without its `run_id`.
    """
    if isinstance(event, RunFailed):
        return event if event.problem is not None else _fit_end(event, debug=debug)
    if debug:
        return event
    if not isinstance(event, Failure):
        return _fit_output(event)
    message = fit_message(event.error, event.message)
    if isinstance(event, StepFailed):
        return attrs.evolve(event, message=message, where="")
    return attrs.evolve(event, message=message)


def without_result(event: Event) -> Event:
    """The event with null for its result, for clients that have had all chunks of it."""
    return attrs.evolve(event, result=None) if isinstance(event, RunFinished) else event


def _fit_end(event: RunFailed, *, debug: bool) -> RunFailed:
    from orchestra.server.runs.problems import with_problem  # only failed runs need it

    cause, fit = event.cause, attrs.evolve(event, cause=None)
    if not debug:
        message = fit_message(event.error, event.message)
        fit = attrs.evolve(fit, message=message, where=None)
    return with_problem(fit, cause)


def _fit_output(event: Event) -> Event:
    name = _OUTPUTS.get(type(event))
    if name is None:
        return event
    held = getattr(event, name)
    fitted = fit_value(held, fit_message)
    return event if fitted is held else attrs.evolve(event, **{name: fitted})


_OUTPUTS: Mapping[type[Event], str] = {Delta: "chunk", Snapshot: "output", RunFinished: "result"}
"""The fields of events that contain output."""
