"""Coroutines where a wire is asked for: what calling an `async def` gives that is no step."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import isasyncgen, iscoroutine
from types import AsyncGeneratorType, CoroutineType
from typing import Never

from orchestra.errors import DefinitionError
from orchestra.graph.source.frames import called_at, user_frame


def refuse_awaitables(*values: object, where: str | None = None) -> None:
    """Check that values hold no coroutine and no async generator.

    Those that it holds are closed, so that Python does not warn of them as well. `where` is the
    place to name, by default the caller's line.

    Raises:
        DefinitionError: it holds one.
    """
    found = list(_awaitables_in(values))
    for each in found:
        if iscoroutine(each):
            each.close()
    if found:
        name, at = found[0].__name__, where or called_at()
        if (step := _step_of(found[0])) is not None:
            raise DefinitionError(
                f"{at}: {step}.call(...) is a coroutine here, which nobody awaits: `.call` is the "
                f"function of the step, for tests; call the step itself: {step}(...)"
            )
        raise DefinitionError(
            f"{at}: {name} is not a step, so {name}(...) is a "
            f"coroutine here, which nobody awaits; decorate it with @step and call it as "
            f"{name}(...)"
        )


def _step_of(
    found: CoroutineType[object, object, object] | AsyncGeneratorType[object, Never],
) -> str | None:
    """How the caller names the step whose function was called; None for all other functions."""
    from orchestra.graph.steps import Step  # whose calls refuse what this finds

    code = found.cr_code if iscoroutine(found) else found.ag_code
    frame = user_frame()
    for name, value in {**frame.f_globals, **frame.f_locals}.items():
        if isinstance(value, Step) and getattr(value.call, "__code__", None) is code:
            return name
    return None


def _awaitables_in(
    value: object,
) -> Iterator[CoroutineType[object, object, object] | AsyncGeneratorType[object, Never]]:
    """Those in a value, in its containers, and among what they were called with."""
    if iscoroutine(value):
        yield value
        yield from _awaitables_in(list(value.cr_frame.f_locals.values()) if value.cr_frame else ())
    elif isasyncgen(value):
        yield value
        yield from _awaitables_in(list(value.ag_frame.f_locals.values()) if value.ag_frame else ())
    elif type(value) in (list, tuple):
        for part in value:  # type: ignore[attr-defined]
            yield from _awaitables_in(part)
    elif type(value) is dict:
        yield from _awaitables_in(list(value.values()))
