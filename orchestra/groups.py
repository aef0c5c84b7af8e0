"""Unwrap exception groups: code that runs a pipeline or opens a context never sees one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from logging import Logger
from math import inf
from threading import current_thread, main_thread
from typing import TypeVar, cast

import trio

from orchestra.errors import StepFailedError
from orchestra.graph.calls.raised import message_of

E = TypeVar("E", bound=BaseException)
T = TypeVar("T")
U = TypeVar("U")
REST_S = 0.5
"""The pause, in seconds, before a task that has ended is started again."""


def split(error: BaseException) -> tuple[Exception | None, BaseException | None]:
    """Split a task's exception into `(own, onward)`: its own error, and what must be re-raised.

    To be re-raised are `Cancelled`, which belongs to the scope that was cancelled, and what stops
    the process: in the main thread, `KeyboardInterrupt`, and the outcomes of test frameworks, which
    are not subclasses of `Exception`. Any other exception, of any class, is the task's own: a step
    that calls `sys.exit`, or a panic of a Rust library, ends its own run and no other. Both may be
    present, as a nursery in the task may raise several exceptions at once.
    """
    if isinstance(error, BaseExceptionGroup):
        own, onward = error.split(_is_own)
        return (single(own) if own is not None else None), onward
    return (single(error), None) if _is_own(error) else (None, error)


def split_in_task(error: BaseException) -> tuple[Exception | None, BaseException | None]:
    """Like `split`, for an exception of the present task, caught outside the task's own scopes.

    Here, a `Cancelled` counts as the task's own error unless an enclosing scope is cancelled: no
    scope would catch it, and it would end the tasks beside this one.
    """
    own, onward = split(error)
    if onward is None or stopping(onward) is not None:
        return own, onward
    if trio.current_effective_deadline() == -inf:
        return own, onward
    return own or _stray(onward), None


async def contained(task: Callable[[], Awaitable[object]], log: Logger, what: str) -> bool:
    """Run a task that calls foreign code; log the task's own error, so that it ends nothing else.

    Returns True if there was no error. `what` names the task in the log. What `split` calls
    `onward` is raised.
    """
    try:
        await task()
    except BaseException as error:  # noqa: ASYNC103 - all but the task's own error is re-raised
        own, onward = split_in_task(error)
        if own is not None:
            log.exception("%s: %s", what, message_of(own))
        if onward is not None:
            raise onward from onward.__cause__  # noqa: ASYNC104 - as above
        return False  # noqa: ASYNC104 - as above
    return True


async def lasting(task: Callable[[], Awaitable[object]], log: Logger, what: str) -> None:
    """Like `contained`, for a task that others need: restart it `REST_S` after it has ended."""
    while True:
        await contained(task, log, what)
        await trio.sleep(REST_S)


def abandon_nurseries() -> None:
    """Cancel the nurseries that foreign code has left open in this task, which is about to end.

    Such as a nursery in a generator that was not read to its end. Trio makes the end of a task with
    an open nursery an error, which would end all tasks beside it. The code itself gets its error
    from the scope around it, which was left before the scope of that nursery.
    """
    task = trio.lowlevel.current_task()
    if left_open := task.child_nurseries:
        for nursery in left_open:
            nursery.cancel_scope.cancel()
        task._child_nurseries.clear()  # noqa: SLF001 - `child_nurseries` is a copy of it


@asynccontextmanager
async def groupless_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery that never raises an exception group.

    Like any nursery, it waits for its tasks at the end of its body. It raises the first of these
    that exists: an exception that stops the process; the exception of the body, unchanged; the
    errors of the tasks, as one error; a `Cancelled` for a scope outside.
    """
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except trio.Cancelled:
                raise
            except BaseException as error:  # noqa: BLE001 - raised below, with no group around it
                raised = error
    except BaseExceptionGroup as group:
        own, onward = split(group)
        raised = stopping(group) or raised or own or leaves(onward or group)[0]
    if raised is not None:
        raise raised


async def in_order(act: Callable[[T], Awaitable[U]], items: Sequence[T], at_once: int) -> list[U]:
    """Call `act` for all items, at most `at_once` at a time; return the results in order.

    The calls start in order. When one fails, or the caller is cancelled, all are cancelled.

    Raises:
        Exception: the error of the first call to fail, without a group.
    """
    found: dict[int, U] = {}
    failed: list[Exception] = []
    places = iter(range(len(items)))

    async def work() -> None:
        for at in places:
            try:
                found[at] = await act(items[at])
            except Exception as error:  # noqa: BLE001 - raised below, with no group around it
                failed.append(error)
                nursery.cancel_scope.cancel()
                return

    async with groupless_nursery() as nursery:
        for _ in range(min(at_once, len(items))):
            nursery.start_soon(work)
    if failed:
        raise failed[0]
    return [found[at] for at in range(len(items))]


def single(error: BaseException) -> Exception:
    """The only error in a group, or a `StepFailedError` that lists all of them.

    An error that is not a group is returned as it is, unless it is a `StopIteration`, which no
    coroutine can raise, or not an `Exception`: these are listed in a `StepFailedError` too.
    """
    errors = [leaf for leaf in leaves(error) if _is_own(leaf)]
    several = f"{len(errors)} errors at once:" if len(errors) > 1 else _NOT_AN_EXCEPTION
    if len(errors) == 1:
        (own,) = errors
        if isinstance(own, StopIteration):
            several = _STOP_ITERATION
        elif isinstance(own, Exception):
            return own
    failed = StepFailedError(several, errors)
    failed.__cause__ = error
    return failed


def stopping(error: BaseException | None) -> BaseException | None:
    """The part of a task's exception that stops the process (`KeyboardInterrupt`), if any."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(stopping, error.exceptions)), None)
    return None if error is None or isinstance(error, trio.Cancelled) or _is_own(error) else error


def _stray(error: BaseException) -> Exception:
    return StepFailedError(
        "it raised trio.Cancelled without being cancelled: it caught one in a scope and raised it "
        "outside; let the scope that was cancelled catch its own `Cancelled`",
        [error],
    )


_NOT_AN_EXCEPTION = (
    "it raised something that is not an Exception; raise an error that says what is wrong:"
)
_STOP_ITERATION = (
    "it called `next` on an iterator that has ended; write `next(iterator, None)` or a `for` loop:"
)


def _is_own(error: BaseException) -> bool:
    if isinstance(error, (BaseExceptionGroup, trio.Cancelled)):
        return False
    stops = isinstance(error, KeyboardInterrupt) or _is_of_a_test(error)
    # Ctrl-C and a test runner wait in the main thread: in another one, as of a portal, such an
    # exception would stop nothing but the runs beside the one that raised it.
    return not stops or current_thread() is not main_thread()


_FRAMEWORKS = {"_pytest.outcomes", "hypothesis.errors"}


def _is_of_a_test(error: BaseException) -> bool:
    """Whether it belongs to a test framework (such as `pytest.skip`), by its classes' modules."""
    if isinstance(error, Exception):
        return False
    return any(each.__module__ in _FRAMEWORKS for each in type(error).__mro__)


def leaves(error: E) -> list[E]:
    """The errors in a group, at any depth; the error itself if it is not a group."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    inner = cast("Iterable[E]", error.exceptions)  # an `ExceptionGroup` holds nothing else
    return [leaf for each in inner for leaf in leaves(each)]


def taken_by(kinds: tuple[type[BaseException], ...]) -> tuple[type[BaseException], ...]:
    """The classes that `on=kinds` catches: `TimeoutError` stands also for `trio.TooSlowError`."""
    return (*kinds, trio.TooSlowError) if TimeoutError in kinds else kinds
