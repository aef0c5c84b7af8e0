"""Chooses which error is reported to clients, if one error contains several. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil

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
from orchestra.eventclass import frozen

UNKNOWN_WAIT_S = 1.0
"""The wait for conditions that end soon, but at an unknown time: an unreachable state, or a limit
that other calls have used up.
"""


def whole_seconds(wait_s: float) -> str:
    """A wait in the form of `Retry-After`: rounded up, and at least one second."""
    return str(max(ceil(wait_s), 1))


@frozen
class Decisive:
    """The reported error, and the wait before a retry, if known."""

    error: BaseException
    retry_after_s: float | None


def decisive(error: BaseException) -> Decisive:
    """Choose the last retryable one of the errors of a route's models or of arms; else the last.

    So an outage is not reported as the client's fault just because another model could not handle
    the request. For a route, the wait is that of all its models together. Errors of our own limits
    and of an unreachable state always have a wait.
    """
    several = _several(error)
    if not several:
        return Decisive(error, _wait_s(error, error))
    found = decisive(next(filter(_may_be_retried, reversed(several)), several[-1]))
    if isinstance(error, ModelsFailedError):
        return Decisive(found.error, _wait_s(error, found.error))
    return found


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The innermost errors in an error; the error itself if it contains none."""
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


def _wait_s(whole: BaseException, chosen: BaseException) -> float | None:
    wait_s = whole.retry_after_s if isinstance(whole, ModelError) else None
    if isinstance(chosen, LimitUnknownError | StateError):
        return UNKNOWN_WAIT_S
    if wait_s is None and isinstance(chosen, LimitReachedError):
        return UNKNOWN_WAIT_S
    return wait_s


def _may_be_retried(error: BaseException) -> bool:
    if isinstance(error, ModelError):
        return error.retryable
    several = _several(error)
    if several:
        return any(map(_may_be_retried, several))
    return isinstance(error, DeadlineError | StateError)
