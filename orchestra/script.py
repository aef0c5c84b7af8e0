"""`run`, for scripts: start Trio, run a pipeline once, and stop Trio."""

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
    """Run a pipeline once, with the deployment of this directory, and return its result.

    For scripts and notebooks; in Trio code, or with `Limits`, use `open_engine` and `engine.run`.

    Raises:
        RunError: Trio is already running in this thread, as it is in a step; or the caller is an
            `async def` under asyncio, whose event loop the run would block.
        ConfigError: `orchestra.toml` is wrong.
        CheckError: the pipeline has problems; all of them are in it.
        DefinitionError: the first argument is not a pipeline.
        InputError: an input is missing, unknown, or of the wrong type.
        KeyboardInterrupt: Ctrl-C, after every step has been cancelled.
        Exception: the error of the step that failed, the step's own.
    """
    from orchestra.config import default_bindings

    refuse_others(pipeline)
    if trio.lowlevel.in_trio_run():
        raise RunError(
            f"orchestra.run starts Trio, which is already running here: write `await engine.run("
            f"{pipeline.name}, ...)` in `async with open_engine(bindings) as engine:`, with "
            "`default_bindings()` of orchestra.config. In a step, write `await context.run("
            f"{pipeline.name}, ...)`; or call this pipeline like a step in the function of the "
            "outer pipeline, and pass its result to the step"
        )
    if _in_asyncio(sys._getframe(1)):  # noqa: SLF001 - the caller
        raise RunError(
            f"orchestra.run would block asyncio's event loop, which is running here: write "
            f"`await portal.arun({pipeline.name}, ...)` in `async with orchestra.open_portal() as "
            "portal:`, opened once for the whole life of the program"
        )

    async def main() -> Any:
        async with open_engine(bindings) as engine:
            return await engine.run(pipeline, *args, **kwargs)

    with default_bindings() as bindings:
        return trio.run(main)


def _in_asyncio(caller: FrameType) -> bool:
    """Whether the caller is an `async def` under asyncio; a notebook cell is not: it may block."""
    code = caller.f_code
    if not code.co_flags & _ASYNC or code.co_name.startswith("<"):
        return False
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
