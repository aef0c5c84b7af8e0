"""Exception groups, opened: nobody who runs a pipeline or opens a context ever sees one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from logging import Logger
from math import inf
from typing import TypeVar, cast

import trio

from orchestra.errors import StepFailedError
from orchestra.graph.calls.raised import message_of

E = TypeVar("E", bound=BaseException)
T = TypeVar("T")
U = TypeVar("U")
REST_S = 0.5
"""The pause before a task that has ended is started again."""


def split(error: BaseException) -> tuple[Exception | None, BaseException | None]:
    """A task's exception split into its own error and the rest to be raised: `(own, onward)`.

    `Cancelled` goes on to whoever cancelled, and so does what stops the process
    (`KeyboardInterrupt`, and what a test's framework raises past `Exception`); whatever else was
    raised, of whatever class, is the task's own: a step that calls `sys.exit`, or a panic of a
    library in Rust, ends its run, and not those of everybody else. A nursery in the task may have
    raised several at once.
    """
    if isinstance(error, BaseExceptionGroup):
        own, onward = error.split(_is_own)
        return (single(own) if own is not None else None), onward
    return (single(error), None) if _is_own(error) else (None, error)


def parted(error: BaseException) -> tuple[Exception | None, BaseException | None]:
    """As `split`, of what the present task has raised, asked outside of the task's own scopes.

    A `Cancelled` that nobody has asked for is then its own: it would go on to nobody, and take
    with it what is beside the task.
    """
    own, onward = split(error)
    if onward is None or stopping(onward) is not None:
        return own, onward
    if trio.current_effective_deadline() == -inf:
        return own, onward
    return own or _stray(onward), None


async def contained(task: Callable[[], Awaitable[object]], log: Logger, what: str) -> bool:
    """Run a task that calls somebody else's code; its own errors are logged, and end nothing else.

    True if it had none. `what` says in the log what has failed. Raises what `split` calls onward.
    """
    try:
        await task()
    except BaseException as error:  # noqa: ASYNC103 - all but its own errors is re-raised
        own, onward = parted(error)
        if own is not None:
            log.exception("%s: %s", what, message_of(own))
        if onward is not None:
            raise onward from onward.__cause__  # noqa: ASYNC104 - as above
        return False  # noqa: ASYNC104 - as above
    return True


async def lasting(task: Callable[[], Awaitable[object]], log: Logger, what: str) -> None:
    """As `contained`, for a task that others need: it is started again, `REST_S` after its end."""
    while True:
        await contained(task, log, what)
        await trio.sleep(REST_S)


@asynccontextmanager
async def groupless_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery for a context, whose body has cancelled it when it ends: no group leaves it.

    What leaves it is what stops the process, if anything does; else what its body raised, as it
    is; else what its tasks raised, as one error; else the `Cancelled` that goes on.
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
    """The results of `act` for all items, in their order; at most `at_once` run at a time.

    They start in order. When one fails, or the caller is cancelled, all are cancelled.

    Raises:
        Exception: the error of the first to fail, without a group.
    """
    found, failed, places = dict[int, U](), list[Exception](), iter(range(len(items)))

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
    """The one error in a group, or one that lists them all; of an error that is none, itself.

    Not StopIteration, which no coroutine can pass on.
    """
    errors = [leaf for leaf in leaves(error) if _is_own(leaf)]
    several = f"{len(errors)} errors at once:" if len(errors) > 1 else _OF_NO_STEP
    if len(errors) == 1:
        (own,) = errors
        if isinstance(own, StopIteration):
            several = _OF_AN_ITERATOR
        elif isinstance(own, Exception):
            return own
    failed = StepFailedError(several, errors)
    failed.__cause__ = error
    return failed


def stopping(error: BaseException | None) -> BaseException | None:
    """The exception that stops the process (`KeyboardInterrupt`) in a task's, if there is one."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(stopping, error.exceptions)), None)
    return None if error is None or isinstance(error, trio.Cancelled) or _is_own(error) else error


def _stray(error: BaseException) -> Exception:
    return StepFailedError(
        "it was not cancelled, and raised trio.Cancelled: it caught one in a scope and raised it "
        "outside; leave `Cancelled` to the scope that it came from",
        [error],
    )


_OF_NO_STEP = "it raised what is no Exception; raise an error that says what is wrong:"
_OF_AN_ITERATOR = "it took the next of what has no more; write `next(iterator, None)`, or a `for`:"


def _is_own(error: BaseException) -> bool:
    return not isinstance(error, _ONWARD) and not _is_of_a_test(error)


_ONWARD = (BaseExceptionGroup, KeyboardInterrupt, trio.Cancelled)
_FRAMEWORKS = {"_pytest.outcomes", "hypothesis.errors"}


def _is_of_a_test(error: BaseException) -> bool:
    """Whether it is for a test's framework, as of `pytest.skip`; told by where its classes are."""
    if isinstance(error, Exception):
        return False
    return any(each.__module__ in _FRAMEWORKS for each in type(error).__mro__)


def leaves(error: E) -> list[E]:
    """The errors in a group, however deep; the error itself if it is none."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    inner = cast("Iterable[E]", error.exceptions)  # an `ExceptionGroup` holds nothing else
    return [leaf for each in inner for leaf in leaves(each)]


def taken_by(kinds: tuple[type[BaseException], ...]) -> tuple[type[BaseException], ...]:
    """The classes for `on=kinds`: with `TimeoutError`, also the error of `trio.fail_after`."""
    return (*kinds, trio.TooSlowError) if TimeoutError in kinds else kinds
