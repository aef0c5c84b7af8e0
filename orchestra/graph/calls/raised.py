"""Messages for errors that a user's function raised, even if the error's own `__str__` fails."""

from __future__ import annotations

import re
from traceback import walk_tb

import attrs

from orchestra.errors import CheckError, DefinitionError
from orchestra.messages import class_name, message
from orchestra.protocols import injected
from orchestra.values import ChatRequest, Message

_OF_ASYNCIO = (
    "a step runs on Trio, and this is asyncio's: write trio.sleep for asyncio.sleep, a nursery for "
    "gather and TaskGroup, and call code that works only on asyncio with asyncio.run in a "
    "@step(thread=True) or @tool(thread=True)"
)
_KINDS = (RuntimeError, TypeError, AttributeError)
_LOOP = "asyncio.base_events"  # asyncio's own loop is running, as in a thread: not this mistake
_UNKNOWN = "trio.run received unrecognized yield"
_NO_LOOP = "There is no current event loop in thread"  # if an asyncio.run has ended in the thread
_TOO_SLOW = (
    "the deadline of a trio.fail_after has passed, which is not a TimeoutError: write `except "
    "trio.TooSlowError`; `on=TimeoutError` of fallback and Retry matches both"
)
_OF_RUNS = (
    "a step is in a run already: write `await context.run(pipeline, ...)`, with a parameter "
    "`context: Context = injected`; or call the other pipeline in the pipeline's function, as a "
    "step is called, and pass its result to the step"
)


_OF_MODELS = (
    "a model takes a ChatRequest: write `ChatRequest(messages=(Message('user', text),))`, both of "
    "orchestra.values"
)

_OF_CONTEXTS = (
    "a step's function that you call yourself, as by `generate.call(...)`, is given no context: "
    "pass on your own step's, `context=context`"
)
_UNAWAITABLE = re.compile(
    r"object \S+ can't be used in 'await' expression|'\S+' object can't be awaited"
)
_OF_VALUES = (
    "what was called is not async, so leave `await` out; if it is `f.call(...)` of a step with "
    "`thread=True`, which blocks, write `await trio.to_thread.run_sync(f.call, ...)`"
)


class RunNote(str):
    """A note that a run adds to a step's error; the type tells it from the step's own notes."""

    __slots__ = ()


def message_of(error: Exception) -> str:
    """An error's message, even if its `__str__` fails, with advice where there is some."""
    text, advice = message(error), advice_on(error)
    return "; ".join(filter(None, (text, advice)))


def name_and_message(error: Exception) -> tuple[str, str]:
    """The `class_name` of an error, and its `message_of`, as events report them."""
    return class_name(error), message_of(error)


def advice_on(error: Exception) -> str | None:
    """What to write instead, for errors with a well-known cause; None for all others."""
    if f"{type(error).__module__}.{type(error).__name__}" == "trio.TooSlowError":
        return _TOO_SLOW
    if not isinstance(error, _KINDS):
        return None
    if message(error) == "Attempted to call run() from inside a run()":
        return _OF_RUNS
    if isinstance(error, TypeError) and _UNAWAITABLE.fullmatch(message(error)):
        return _OF_VALUES
    if isinstance(error, AttributeError) and error.obj is injected:
        return _OF_CONTEXTS
    if isinstance(error, AttributeError) and _is_of_request(error):
        return _OF_MODELS
    return _OF_ASYNCIO if is_of_asyncio(error) else None


def is_of_code(error: Exception) -> bool:
    """Whether a function is itself wrong: each call would raise this, whatever its arguments.

    It uses a wire as a value, runs a pipeline that has problems, or awaits something of asyncio.
    """
    return isinstance(error, DefinitionError | CheckError) or is_of_asyncio(error)


def _is_of_request(error: AttributeError) -> bool:
    """Whether orchestra read a ChatRequest's attribute from a text, a message or a container."""
    plain = isinstance(error.obj, str | list | tuple | dict | Message)
    return (
        plain
        and error.name in attrs.fields_dict(ChatRequest)
        and "".join(_modules(error)[-1:]).startswith("orchestra.")
    )


def _modules(error: Exception) -> list[str]:
    """The modules in an error's traceback, from the outermost to the one that raised it."""
    return [str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(error.__traceback__)]


def is_of_asyncio(error: Exception) -> bool:
    """Whether an error was raised because asyncio was used on Trio.

    Much of asyncio works until it has to wait: a queue with room, a free lock. Then it fails
    in its own code, with a message about its internals.
    """
    if not isinstance(error, _KINDS):
        return False
    text = message(error)
    if text == "no running event loop" or text.startswith((_NO_LOOP, _UNKNOWN)):
        return True
    modules = _modules(error)
    return modules[-1:] != [] and modules[-1].startswith("asyncio.") and _LOOP not in modules
