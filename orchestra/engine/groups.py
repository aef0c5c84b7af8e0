"""Exception groups, opened: nobody outside the engine ever sees one."""

from __future__ import annotations

import trio

from orchestra.errors import StepFailedError


def split(error: BaseException) -> tuple[Exception | None, BaseException | None]:
    """What a task raised, as its own error and as what has to go on: `(own, onward)`.

    `Cancelled` goes on to whoever cancelled, and so does what stops the process
    (`KeyboardInterrupt`, `SystemExit`); whatever else was raised is the task's own. A
    nursery in the task may have raised several at once.
    """
    if isinstance(error, BaseExceptionGroup):
        own, onward = error.split(Exception)
        return (single(own) if own is not None else None), onward
    if isinstance(error, Exception):
        return error, None
    return None, error


def single(group: BaseException) -> Exception:
    """The one error in a group, or one that lists them all."""
    errors = [error for error in leaves(group) if isinstance(error, Exception)]
    if len(errors) == 1:
        return errors[0]
    failed = StepFailedError(f"{len(errors)} errors at once:", errors)
    failed.__cause__ = group
    return failed


def stopping(error: BaseException | None) -> BaseException | None:
    """What stops the process (`KeyboardInterrupt`, `SystemExit`) in what a task raised, if any."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(stopping, error.exceptions)), None)
    return None if isinstance(error, Exception | trio.Cancelled) else error


def message_of(error: Exception) -> str:
    """What an error says of itself, also where it cannot."""
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001 - a step's error may be of any class
        return f"({type(broken).__name__} while it was asked for its message)"


def leaves(error: BaseException) -> list[BaseException]:
    """The errors in a group, however deep; the error itself if it is none."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]
