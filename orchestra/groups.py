"""Exception groups, opened: nobody who runs a pipeline or opens a context ever sees one."""

from __future__ import annotations

from math import inf

import trio

from orchestra.errors import StepFailedError


def split(error: BaseException) -> tuple[Exception | None, BaseException | None]:
    """What a task raised, as its own error and as what has to go on: `(own, onward)`.

    `Cancelled` goes on to whoever cancelled, and so does what stops the process
    (`KeyboardInterrupt`, and what a test's framework raises); whatever else was raised is the
    task's own: a step that calls `sys.exit` ends its run, and not those of everybody else. A
    nursery in the task may have raised several at once.
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


def opened(group: BaseExceptionGroup, raised: BaseException | None = None) -> BaseException:
    """What leaves a context instead of its nursery's group.

    What stops the process, if anything does; else `raised`, which is what its body did; else what
    its tasks did, as one error; else the `Cancelled` that goes on.
    """
    own, onward = split(group)
    return stopping(group) or raised or own or leaves(onward or group)[0]


def single(error: BaseException) -> Exception:
    """The one error in a group, or one that lists them all; of an error that is none, itself."""
    errors = [leaf for leaf in leaves(error) if _is_own(leaf)]
    if len(errors) == 1:
        (own,) = errors
        if isinstance(own, Exception):
            return own
    several = f"{len(errors)} errors at once:" if len(errors) > 1 else _OF_NO_STEP
    failed = StepFailedError(several, errors)
    failed.__cause__ = error
    return failed


def stopping(error: BaseException | None) -> BaseException | None:
    """What stops the process (`KeyboardInterrupt`) in what a task raised, if anything does."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(stopping, error.exceptions)), None)
    return None if error is None or isinstance(error, trio.Cancelled) or _is_own(error) else error


def _stray(error: BaseException) -> Exception:
    return StepFailedError(
        "it was not cancelled, and raised trio.Cancelled: it caught one in a scope and raised it "
        "outside; leave `Cancelled` to the scope that it came from",
        [error],
    )


_OF_NO_STEP = "it raised what ends a program; raise an error that says what is wrong:"


def _is_own(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return False
    # asyncio's is told by its name: it is here only where a step has imported it
    own = Exception | SystemExit | GeneratorExit
    return isinstance(error, own) or type(error).__name__ == "CancelledError"


def message_of(error: Exception) -> str:
    """What an error says of itself, also where it cannot; and what to write, where we know."""
    try:
        said = str(error)
        return f"{said}; {_OF_ASYNCIO}" if _is_of_asyncio(error, said) else said
    except Exception as broken:  # noqa: BLE001 - a step's error may be of any class
        return f"({type(broken).__name__} while it was asked for its message)"


_OF_ASYNCIO = (
    "a step runs on Trio, and this is asyncio's: write trio.sleep for asyncio.sleep, a nursery for "
    "gather and TaskGroup, and call what knows asyncio only with asyncio.run in a "
    "@step(thread=True)"
)


def _is_of_asyncio(error: Exception, said: str) -> bool:
    if isinstance(error, RuntimeError):
        return said == "no running event loop"
    return isinstance(error, TypeError) and said.startswith("trio.run received unrecognized yield")


def leaves(error: BaseException) -> list[BaseException]:
    """The errors in a group, however deep; the error itself if it is none."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]
