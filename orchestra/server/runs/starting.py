"""The errors of starting a run, and the callbacks for its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestra.errors import InputError, LimitExceededError, LimitReachedError
from orchestra.server.responses import problems
from orchestra.server.responses.problems import HttpProblem

if TYPE_CHECKING:
    from orchestra.engine.run import Run

NOT_STARTED = (InputError, LimitExceededError, LimitReachedError)
"""Errors for which a run is not started."""


def not_started(error: InputError | LimitExceededError | LimitReachedError) -> HttpProblem:
    """The problem of a run that was not started."""
    if isinstance(error, LimitReachedError):
        from orchestra.server.responses.caller_problems import your_rate

        return your_rate(error)
    if isinstance(error, InputError):
        field = error.field or "inputs"
        return problems.bad_inputs([problems.Fault(field, f"#/inputs/{field}", str(error))])
    return problems.too_busy(str(error))


def given_back(held: tuple[Callable[[], None] | None, ...], run: Run) -> None:
    """Give back what a run held that has ended: for its `on_end`."""
    del run
    for each in held:
        if each is not None:
            each()
