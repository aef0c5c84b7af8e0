"""For scripts: one run, with Trio started and stopped around it."""

from __future__ import annotations

import inspect
import sys
from types import FrameType
from typing import Any, ParamSpec, TypeVar, overload

import trio

from orchestra.engine.engine import open_engine
from orchestra.errors import RunError
from orchestra.graph.pipelines import Pipeline
from orchestra.graph.wrapping import refuse_others
from orchestra.protocols import Stream

P = ParamSpec("P")
T = TypeVar("T")


@overload
def run(  # type: ignore[overload-overlap]
    pipeline: Pipeline[P, Stream[str]], /, *args: P.args, **kwargs: P.kwargs
) -> str: ...
@overload
def run(  # type: ignore[overload-overlap]
    pipeline: Pipeline[P, Stream[bytes]], /, *args: P.args, **kwargs: P.kwargs
) -> bytes: ...
@overload
def run(pipeline: Pipeline[P, Stream[T]], /, *args: P.args, **kwargs: P.kwargs) -> list[T]: ...
@overload
def run(pipeline: Pipeline[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
def run(pipeline: Pipeline[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """The result of one run of a pipeline, with what this directory's deployment binds.

    For scripts and notebooks; in Trio code, or with `Limits`, use `open_engine` and `engine.run`.

    Raises:
        RunError: Trio is running here already, as it is in a step; or an `async def` of asyncio's
            calls it, whose event loop would stand still for as long.
        ConfigError: `orchestra.toml` is wrong.
        CheckError: the pipeline has problems; all of them are in it.
        DefinitionError: it is no pipeline.
        InputError: an input is missing, unknown, or of the wrong type.
        KeyboardInterrupt: Ctrl-C, after every step has been cancelled.
        Exception: the error of the step that failed, the step's own.
    """
    from orchestra.config import default_bindings

    refuse_others(pipeline)
    if trio.lowlevel.in_trio_run():
        raise RunError(
            f"orchestra.run starts Trio, which is running here already: write `await engine.run("
            f"{pipeline.name}, ...)` in `async with open_engine(bindings) as engine:`, with "
            "`default_bindings()` of orchestra.config; in a step, write `await context.run("
            f"{pipeline.name}, ...)`, or call the pipeline in the pipeline's function, as a step "
            "is called, and pass its result to the step"
        )
    if _in_asyncio(sys._getframe(1)):  # noqa: SLF001 - who asks
        raise RunError(
            f"orchestra.run would hold up asyncio's event loop, which is running here: write "
            f"`await portal.arun({pipeline.name}, ...)` in `async with orchestra.open_portal() as "
            "portal:`, which goes around the program's whole life"
        )

    async def main() -> Any:
        async with open_engine(bindings) as engine:
            return await engine.run(pipeline, *args, **kwargs)

    with default_bindings() as bindings:
        return trio.run(main)


def _in_asyncio(asking: FrameType) -> bool:
    """Whether an `async def` of asyncio's asks; a cell of a notebook does not, it may wait."""
    code = asking.f_code
    if not code.co_flags & _ASYNC or code.co_name.startswith("<"):
        return False
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
