"""Of several errors in one, the one that decides what clients are told. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil

import attrs

from orchestra.errors import (
    ArmsFailedError,
    DeadlineError,
    LimitReachedError,
    LimitUnknownError,
    ModelError,
    ModelsFailedError,
    StateError,
    StepFailedError,
)

UNKNOWN_WAIT_S = 1.0
"""How long to wait for what is sure to come back, when nothing says when: a state that is away, or
room below a limit that others take up."""


def whole_seconds(wait_s: float) -> str:
    """A wait as `Retry-After` has it: no less, and never none at all."""
    return str(max(ceil(wait_s), 1))


@attrs.frozen
class Decisive:
    """The error that decides, and how long to wait before it may be tried again, where known."""

    error: BaseException
    retry_after_s: float | None


def decisive(error: BaseException) -> Decisive:
    """Of the models of a route, or of arms, the last that may be retried; if none may, the last.

    So an outage is never told as a fault of the client's, because another model could not do what
    was asked. The wait is that of all models together; of a limit of our own there always is one.
    """
    several = _several(error)
    if not several:
        return Decisive(error, _wait_s(error, error))
    found = decisive(next(filter(_may_be_retried, reversed(several)), several[-1]))
    if isinstance(error, ModelsFailedError):
        return Decisive(found.error, _wait_s(error, found.error))
    return found


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors that are in one, or itself, if there are none."""
    several = _several(error)
    if not several:
        yield error
    for each in several:
        yield from leaves(each)


def _several(error: BaseException) -> list[BaseException]:
    match error:
        case ModelsFailedError() | ArmsFailedError():
            errors: Mapping[str, BaseException] = error.errors
            return list(errors.values())
        case StepFailedError():
            return list(error.errors[:1])
        case _:
            return []


def _wait_s(told: BaseException, decides: BaseException) -> float | None:
    wait_s = told.retry_after_s if isinstance(told, ModelError) else None
    if isinstance(decides, LimitUnknownError | StateError):
        return UNKNOWN_WAIT_S
    if wait_s is None and isinstance(decides, LimitReachedError):
        return UNKNOWN_WAIT_S
    return wait_s


def _may_be_retried(error: BaseException) -> bool:
    if isinstance(error, ModelError):
        return error.retryable
    several = _several(error)
    if several:
        return any(map(_may_be_retried, several))
    return isinstance(error, DeadlineError | StateError)
