"""What a user's function has raised, in words: also where the error cannot say it."""

from __future__ import annotations

from traceback import walk_tb

from orchestra.messages import message

_OF_ASYNCIO = (
    "a step runs on Trio, and this is asyncio's: write trio.sleep for asyncio.sleep, a nursery for "
    "gather and TaskGroup, and call what knows asyncio only with asyncio.run in a "
    "@step(thread=True)"
)
_KINDS = (RuntimeError, TypeError, AttributeError)
_LOOP = "asyncio.base_events"  # whose loop runs, as that of asyncio.run in a thread: all is well
_UNKNOWN = "trio.run received unrecognized yield"
_NO_LOOP = "There is no current event loop in thread"  # once asyncio.run has run there
_TOO_SLOW = (
    "the time of a trio.fail_after is over, and that is no TimeoutError: write `except "
    "trio.TooSlowError`; `on=TimeoutError` of fallback and Retry takes both"
)
_OF_RUNS = (
    "a step is in a run already: call the other pipeline in the pipeline's function, as a step is "
    "called, and pass its result to the step"
)


class RunNote(str):
    """A note that a run has put on a step's error, told from those of the step's own."""

    __slots__ = ()


def message_of(error: Exception) -> str:
    """What an error says of itself, also where it cannot; and what to write, where we know."""
    said, advice = message(error), advice_on(error)
    return "; ".join(filter(None, (said, advice)))


def advice_on(error: Exception) -> str | None:
    """What to write instead, of errors of other packages that do not say it; None for the rest."""
    if f"{type(error).__module__}.{type(error).__name__}" == "trio.TooSlowError":
        return _TOO_SLOW
    if not isinstance(error, _KINDS):
        return None
    if message(error) == "Attempted to call run() from inside a run()":
        return _OF_RUNS
    return _OF_ASYNCIO if is_of_asyncio(error) else None


def is_of_asyncio(error: Exception) -> bool:
    """Whether it is raised because somebody called asyncio on Trio.

    Much of asyncio works until it has to wait: a queue that has room, a lock that is free. Then it
    fails in its own code, and in words that are about that.
    """
    if not isinstance(error, _KINDS):
        return False
    said = message(error)
    if said == "no running event loop" or said.startswith((_NO_LOOP, _UNKNOWN)):
        return True
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(error.__traceback__)]
    return modules[-1:] != [] and modules[-1].startswith("asyncio.") and _LOOP not in modules
