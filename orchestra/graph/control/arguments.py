"""Checks of the arguments of constructs with arms; errors name the line of the call."""

from __future__ import annotations

import inspect

from orchestra.errors import DefinitionError
from orchestra.graph.calls.awaitables import refuse_awaitables
from orchestra.graph.calls.closures import refuse_wires
from orchestra.graph.gather import wire_of
from orchestra.graph.parts import is_wired
from orchestra.graph.rules.commits import Commit, Validate
from orchestra.graph.source.decorated import Decorated
from orchestra.graph.source.frames import called_at
from orchestra.graph.wires import Wire


def arms_of(name: str, arms: tuple[object, ...]) -> tuple[Wire, ...]:
    """A wire for each arm, for constructs that take their arms as separate arguments.

    Raises:
        DefinitionError: the only arm is a container of wires, or a generator; or as `wires_of`.
    """
    only = arms[0] if len(arms) == 1 else None
    if not isinstance(only, Wire) and (inspect.isgenerator(only) or is_wired(only)):
        raise DefinitionError(
            f"{called_at()}: {name}(...) is given one {type(only).__name__}, which would be its "
            f"only arm; give it the arms one by one: {name}(a, b), or {name}(*arms)"
        )
    return wires_of(name, arms)


def wires_of(name: str, arms: tuple[object, ...]) -> tuple[Wire, ...]:
    """A wire for each arm.

    Raises:
        DefinitionError: there are none, or one holds a coroutine.
    """
    if not arms:
        raise DefinitionError(f"{called_at()}: {name}() has no arms; give it at least one")
    refuse_awaitables(arms)  # all arms in one call, so that every coroutine is closed
    return tuple(map(wire_of, arms))


def commit_rule(name: str, commit: object) -> Commit:
    """The commit rule, checked.

    Raises:
        DefinitionError: it is not a commit rule.
    """
    if isinstance(commit, Commit):
        return commit
    given = getattr(commit, "__name__", f"{commit!r:.80}")
    raise DefinitionError(
        f"{called_at()}: {name}(commit={given}): commit must be "
        "one of first_content(), chunks(n), chars(n) and complete()"
    )


def plain_function(
    name: str, argument: str, function: object, does: str, *, instead: str
) -> Validate:
    """The function, checked to be a plain one that can be called directly.

    For messages, `does` says what the function has to do, and `instead` how to pass it a value of
    the pipeline, `{wire}`.

    Raises:
        DefinitionError: it is a step, a wire, an `async def`, or not a function; or it holds
            a wire, which would have no value.
    """
    awaited = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    if callable(function) and not awaited and not isinstance(function, Wire | Decorated):
        refuse_wires(function, f"{name}({argument}=...)", instead)
        return function
    raise DefinitionError(
        f"{called_at()}: {name}({argument}={function!r:.80}): {argument} must be a plain function, "
        f"not an async one or a step, that {does}; pass it uncalled: {argument}=some_function"
    )


def error_types(on: object) -> tuple[type[Exception], ...]:
    """The exception classes, given alone or in a tuple, as `except` takes them.

    Raises:
        DefinitionError: there are none, or one is not an exception class.
    """
    kinds = on if isinstance(on, tuple) else (on,)
    if kinds and all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        return kinds
    raise DefinitionError(
        f"{called_at()}: fallback(on={on!r:.80}): on must be one or more exception classes, as "
        "after `except`: on=(ModelError, DeadlineError)"
    )
