"""Portals: an engine for a program that uses asyncio or threads, kept open while it runs.

The engine runs on Trio in its own thread. Calls are sent to that thread, and their results are
sent back.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import nullcontext
from contextvars import copy_context
from functools import partial
from typing import Any, ParamSpec, Self, TypeVar, overload

import trio

from orchestra.accounts import Caller
from orchestra.engine.engine import Engine, Observe, open_engine
from orchestra.engine.inputs import by_name
from orchestra.engine.run import Run
from orchestra.errors import RunError
from orchestra.events import Event
from orchestra.graph.pipelines import Pipeline
from orchestra.graph.rules.policy import Limits
from orchestra.portal.cross_thread import CrossThreadCall, closed, future_in_loop
from orchestra.portal.following import Following, chunk, itself
from orchestra.portal.trio_side import LEAVE_S, TrioSide
from orchestra.protocols import Bindings, Stream
from orchestra.tags import NO_TAGS, Tags

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("orchestra.portal")

LEFT_BEHIND = "a portal was closed, but one of its steps does not end: its thread is left running"


class Runner:
    """Runs pipelines in a portal, on behalf of a caller, within a deadline and with tags."""

    def __init__(self, portal: Portal, how: Mapping[str, Any]) -> None:
        self._portal = portal
        self._how = how

    @overload
    def run(  # type: ignore[overload-overlap]
        self, pipeline: Pipeline[P, Stream[str]], /, *args: P.args, **kwargs: P.kwargs
    ) -> str: ...
    @overload
    def run(  # type: ignore[overload-overlap]
        self, pipeline: Pipeline[P, Stream[bytes]], /, *args: P.args, **kwargs: P.kwargs
    ) -> bytes: ...
    @overload
    def run(
        self, pipeline: Pipeline[P, Stream[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> list[T]: ...
    @overload
    def run(self, pipeline: Pipeline[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    def run(self, pipeline: Pipeline[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run the pipeline, block this thread until it has ended, and return its result.

        May be called from any thread, but not from a running event loop: use `arun` there.

        Raises:
            CheckError: the pipeline has problems.
            DefinitionError: `pipeline` is not a pipeline.
            InputError: an input is missing, unknown, or of the wrong type.
            RunError: the portal is closed; or the call would block an event loop: it was made in
                asyncio, in Trio, or in a step.
            KeyboardInterrupt: on Ctrl-C, after all steps of the run have ended.
            Exception: the error that the failing step raised.
        """
        result = self._result(pipeline, args, kwargs)
        what, instead = f"portal.run({pipeline.name}, ...)", "await portal.arun(...)"
        return self._portal.wait(result, what, instead)

    @overload
    async def arun(  # type: ignore[overload-overlap]
        self, pipeline: Pipeline[P, Stream[str]], /, *args: P.args, **kwargs: P.kwargs
    ) -> str: ...
    @overload
    async def arun(  # type: ignore[overload-overlap]
        self, pipeline: Pipeline[P, Stream[bytes]], /, *args: P.args, **kwargs: P.kwargs
    ) -> bytes: ...
    @overload
    async def arun(
        self, pipeline: Pipeline[P, Stream[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> list[T]: ...
    @overload
    async def arun(self, pipeline: Pipeline[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def arun(self, pipeline: Pipeline[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Like `run`, but awaited in an asyncio task, in any event loop.

        Cancelling the task cancels the run; `CancelledError` is raised once the run has ended.

        Raises:
            CheckError: the pipeline has problems.
            DefinitionError: `pipeline` is not a pipeline.
            InputError: an input is missing, unknown, or of the wrong type.
            RunError: the portal is closed; or this is Trio: open an engine there instead.
            Exception: the error that the failing step raised.
        """
        return await self._portal.wait_async(self._result(pipeline, args, kwargs))

    def stream(
        self, pipeline: Pipeline[P, Stream[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Following[T]:
        """The output chunks of a streaming run, as they arrive; use `with` or `async with`.

        Raises:
            DefinitionError: `pipeline` is not a pipeline.
            InputError: there are too many inputs, or one is given twice.
        """
        return Following(self._portal, self._starting(pipeline, args, kwargs, streams=True), chunk)

    def events(
        self, pipeline: Pipeline[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Following[Event]:
        """The events of a run, as they arrive; use `with` or `async with`.

        Raises:
            DefinitionError: `pipeline` is not a pipeline.
            InputError: there are too many inputs, or one is given twice.
        """
        return Following(self._portal, self._starting(pipeline, args, kwargs), itself)

    def _result(
        self, pipeline: Pipeline[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Callable[[], Awaitable[Any]]:
        start = self._starting(pipeline, args, kwargs)

        async def result() -> Any:
            run = start()
            try:
                return await run.result()
            finally:
                if not run.ended:
                    run.cancel("its caller stopped waiting for it")
                    with trio.CancelScope(shield=True):  # as if its steps ran in this task
                        await run.wait_ended()  # noqa: ASYNC102 - bounded by the steps' own shields

        return result

    def _starting(
        self,
        pipeline: Pipeline[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        streams: bool = False,
    ) -> Callable[[], Run[Any]]:
        inputs, portal = by_name(pipeline, args, kwargs), self._portal
        context = copy_context()  # of the caller: its current span, what its log lines have

        def start() -> Run[Any]:
            engine = portal.engine
            if streams and not engine.plan(pipeline).streams:
                raise RunError(
                    f"pipeline {pipeline.name!r} returns a value, not a stream: write "
                    "portal.run(...), or await portal.arun(...)"
                )
            return context.run(partial(engine.start, pipeline, inputs, **self._how))

        return start


class Portal(Runner):
    """An engine in its own thread, open inside a `with` or, on asyncio, an `async with` block.

    Any number of threads and asyncio event loops may use it at the same time. Leaving the block
    cancels the runs in flight and waits up to five seconds for their end; then, as for
    `open_engine`, up to two for a state that has not taken what they cost.

    Raises, when the block is entered:
        ConfigError: `orchestra.toml` is wrong.
        RunError: the portal was opened before, or this is Trio.
    """

    def __init__(
        self,
        bindings: Bindings | None = None,
        *,
        limits: Limits | None = None,
        observe: Observe | None = None,
    ) -> None:
        super().__init__(self, {})
        self._bindings = bindings
        self._limits = limits
        self._observe = observe
        self._thread: threading.Thread | None = None
        self._opened: Future[TrioSide] = Future()
        self._ended: Future[None] = Future()
        self._pid = os.getpid()

    def using(
        self,
        *,
        caller: Caller | None = None,
        deadline_s: float | None = None,
        tags: Tags = NO_TAGS,
    ) -> Runner:
        """The same portal; each run is on behalf of `caller`, with this deadline and these tags.

        The tags are as for `Engine.start`.
        """
        how = {"caller": caller or Caller(), "deadline_s": deadline_s, "tags": tags}
        return Runner(self, how)

    def __enter__(self) -> Self:
        self._open()
        try:
            self._opened.result()
        except KeyboardInterrupt:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    async def __aenter__(self) -> Self:
        self._open()
        try:
            await asyncio.shield(asyncio.wrap_future(self._opened))
        except asyncio.CancelledError:
            await self._leave()  # noqa: ASYNC102 - this is asyncio, and it is bounded
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()  # noqa: ASYNC102 - this is asyncio, and it is bounded

    @property
    def engine(self) -> Engine:
        """The engine of the portal; to be used only in the portal's Trio thread."""
        return self._is_open().engine

    def wait(self, work: Callable[[], Awaitable[T]], what: str, instead: str) -> T:
        """Call `work` in the portal's Trio thread, block this thread, and return its result.

        Raises:
            RunError: the portal is closed or not open; or this is Trio, or another process; or
                this is an asyncio event loop, which the call named `what` would block (the
                message says to write `instead`).
        """
        trio_side = self._trio_side
        if asyncio._get_running_loop() is not None:  # noqa: SLF001 - the public function raises where there is none
            raise RunError(f"{what} would block the event loop of this thread: write {instead}")
        return CrossThreadCall(work).wait(trio_side)

    async def wait_async(self, work: Callable[[], Awaitable[T]]) -> T:
        """Like `wait`, but awaited in an asyncio task.

        Raises:
            RunError: the portal is closed or not open; or this is Trio, or another process.
        """
        return await CrossThreadCall(work).wait_async(self._trio_side)

    @property
    def _trio_side(self) -> TrioSide:
        trio_side = self._is_open()
        if os.getpid() != self._pid:
            raise RunError(
                "this portal was opened before this process was forked, and its thread exists only "
                "in the parent process: open another portal after the fork"
            )
        if trio.lowlevel.in_trio_run():
            raise RunError(
                "a portal is for programs that do not use Trio, but Trio is running here; in a "
                "step, write `await context.run(pipeline, ...)`, or call the pipeline in the outer "
                "pipeline; elsewhere, write `async with orchestra.open_engine(bindings) as engine: "
                "await engine.run(...)`"
            )
        return trio_side

    def _is_open(self) -> TrioSide:
        if not self._opened.done():
            raise closed()
        return self._opened.result()

    def _open(self) -> None:
        if self._thread is not None:
            raise RunError(
                "this portal was opened before, and a portal can be opened only once: write "
                "`with orchestra.open_portal() as portal:`"
            )
        if trio.lowlevel.in_trio_run():
            raise RunError(
                "a portal is for programs that do not use Trio, but Trio is running here: write "
                "`async with orchestra.open_engine(bindings) as engine:`"
            )
        self._pid = os.getpid()
        # A daemon thread, so that a program that does not close the portal can exit; `_serve`
        # registers a finalizer that closes the portal first.
        self._thread = threading.Thread(target=self._live, name="orchestra-portal", daemon=True)
        self._thread.start()

    def _live(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:  # noqa: ASYNC103 - outside Trio; raised by `_open`'s caller
            if self._opened.done():
                log.exception("a portal has failed and accepts no more runs")
            else:
                self._opened.set_exception(error)
        finally:
            self._ended.set_result(None)

    async def _serve(self) -> None:
        from orchestra.config import default_bindings

        given = self._bindings
        with default_bindings() if given is None else nullcontext(given) as bindings:
            async with (
                open_engine(bindings, limits=self._limits, observe=self._observe) as engine,
                trio.open_nursery() as nursery,
            ):
                trio_side = TrioSide(engine, nursery)
                weakref.finalize(self, _end, trio_side, threading.current_thread())
                self._opened.set_result(trio_side)
                await trio_side.serve()

    def _close(self) -> None:
        if self._thread is not None and self._opened.exception() is None:
            _end(self._opened.result(), self._thread)

    async def _leave(self) -> None:
        """Like `_close`, on asyncio: uses no pool thread, since all may be waiting for runs."""
        self._opened.add_done_callback(_close_when_open)  # even if the wait below is cancelled
        await asyncio.wait([future_in_loop(self._ended)], timeout=LEAVE_S)
        if not self._ended.done():
            log.warning(LEFT_BEHIND)


def _close_when_open(opened: Future[TrioSide]) -> None:
    """Close the portal once its opening is done, if that succeeded."""
    if opened.exception() is None:
        opened.result().close_soon()


def _end(trio_side: TrioSide, thread: threading.Thread) -> None:
    """Close a portal, and wait for its thread."""
    if trio_side.close_soon():
        thread.join(LEAVE_S)
        if thread.is_alive():
            log.warning(LEFT_BEHIND)


def open_portal(
    bindings: Bindings | None = None,
    *,
    limits: Limits | None = None,
    observe: Observe | None = None,
) -> Portal:
    """An engine for a program that does not use Trio, open inside a `with` block.

    Without `bindings`, it uses those of the deployment in this directory, and closes them at the
    end. `limits` and `observe` are as for `open_engine`.
    """
    return Portal(bindings, limits=limits, observe=observe)
