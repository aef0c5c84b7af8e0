"""Refuses coroutines and iterators in a pipeline, since only one run could use them.

Calling an `async def` that is not a step returns a coroutine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from inspect import isasyncgen, iscoroutine
from pathlib import Path
from types import AsyncGeneratorType, CodeType, CoroutineType, GeneratorType
from typing import Never, NoReturn, TypeAlias

from orchestra.errors import DefinitionError
from orchestra.graph.source.decorated import Decorated
from orchestra.graph.source.frames import called_at, user_frame

_DEPTH_MAX = 100
"""How deep containers may be nested: filling them at run time takes stack frames for each level."""
_Awaitable: TypeAlias = "CoroutineType[object, object, object] | AsyncGeneratorType[object, Never]"
_Once: TypeAlias = (
    "GeneratorType[object, object, object] | map[object] | filter[object] | zip[object] | "
    "enumerate[object]"
)
_ONCE = (GeneratorType, map, filter, zip, enumerate)
"""Python's own iterators. Not `itertools.count()`, which runs may share on purpose."""
_ASYNCIO = str(Path(os.__file__).parent / "asyncio") + os.sep


def refuse_awaitables(*values: object, where: str | None = None) -> None:
    """Check that values contain no coroutine, async generator or other iterator of `_ONCE`.

    Coroutines that are found are closed, so that Python does not warn about them too. `where` is
    the place that the message names; by default the caller's line.

    Raises:
        DefinitionError: one contains such an object, or contains itself, or is nested too deep.
    """
    try:
        found = list(_awaitables_in(values, {}))
    except RecursionError as error:
        raise DefinitionError(
            f"{where or called_at()}: a list, tuple or dict here contains itself, or is nested too "
            "deep to be searched for wires; make it in a step"
        ) from error
    for each in found:
        if iscoroutine(each):
            each.close()
    if found:
        first, at = found[0], where or called_at()
        if isinstance(first, _ONCE):
            refuse_iterator(first, at)
        raise DefinitionError(f"{at}: {_unawaited(first)}")


def refuse_iterator(value: object, where: str) -> NoReturn:
    """Refuse an iterator.

    Raises:
        DefinitionError: always.
    """
    raise DefinitionError(
        f"{where}: {value!r:.80} is an iterator, which the first run would leave empty for the "
        "next; write a list: [...], or list(...)"
    )


def _unawaited(found: _Awaitable) -> str:
    """The message about a coroutine that nobody awaits."""
    name = found.__name__
    if (step := _step_of(found)) is not None:
        return (
            f"{step}.call(...) is a coroutine here, which nobody awaits: `.call` is the function "
            f"of the step, for tests; call the step itself: {step}(...)"
        )
    if _code_of(found).co_filename.startswith(_ASYNCIO):
        return (
            f"{name}(...) is a coroutine of asyncio's here, which nobody awaits: a pipeline waits "
            "for nothing. Steps run concurrently anyway; for a time limit, write "
            "some_step.using(Policy(timeout_s=5))(...)"
        )
    return (
        f"{name} is not a step, so {name}(...) is a coroutine here, which nobody awaits; decorate "
        f"it with @step and call it as {name}(...)"
    )


def _step_of(found: _Awaitable) -> str | None:
    """The caller's name for the step whose `.call` was called; None if it was not a step's."""
    code = _code_of(found)
    frame = user_frame()
    for name, value in {**frame.f_globals, **frame.f_locals}.items():
        function = getattr(value, "call", None) if isinstance(value, Decorated) else None
        if getattr(function, "__code__", None) is code:
            return name
    return None


def _code_of(found: _Awaitable) -> CodeType:
    return found.cr_code if iscoroutine(found) else found.ag_code


def _awaitables_in(
    value: object, seen: dict[int, tuple[int, object]], depth: int = 0
) -> Iterator[_Awaitable | _Once]:
    """The refused objects in a value, in its containers, and in the arguments of coroutines.

    `seen` are the containers that were searched, with their depth: again only if found deeper.
    """
    if depth > _DEPTH_MAX:
        raise RecursionError(f"containers are nested more than {_DEPTH_MAX} deep")
    if iscoroutine(value) or isasyncgen(value):
        yield value
        frame = value.cr_frame if iscoroutine(value) else value.ag_frame
        if frame is not None:  # None once it has ended
            for part in frame.f_locals.values():
                yield from _awaitables_in(part, seen, depth + 1)
    elif isinstance(value, _ONCE):
        yield value
    elif type(value) in _CONTAINERS and seen.get(id(value), (-1,))[0] < depth:
        seen[id(value)] = depth, value
        for part in value.values() if type(value) is dict else value:  # type: ignore[attr-defined]
            yield from _awaitables_in(part, seen, depth + 1)


_CONTAINERS = (list, tuple, dict)
