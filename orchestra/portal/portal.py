"""Portals: one engine for a program on asyncio or threads, as long as the program lives.

The engine runs on Trio in a thread of its own. Calls are sent to that thread, and their results
come back.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import nullcontext
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
from orchestra.protocols import Bindings, Stream

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("orchestra.portal")

CLOSE_S = 5.0
"""How long closing a portal waits for its runs to end."""
LEFT_BEHIND = "a step of a portal does not end, and is left behind with its thread"


class Runner:
    """Runs pipelines in a portal, on behalf of a caller, and within a deadline."""

    def __init__(self, portal: Portal, caller: Caller, deadline_s: float | None) -> None:
        self._portal = portal
        self._caller = caller
        self._deadline_s = deadline_s

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
        """The result of a run, for which this thread waits. From any thread; not in asyncio.

        Raises:
            CheckError: the pipeline has problems.
            DefinitionError: it is no pipeline.
            InputError: an input is missing, unknown, or of the wrong type.
            RunError: the portal is closed, or this would wait for itself: in a loop of asyncio's,
                in Trio, in a step.
            KeyboardInterrupt: Ctrl-C, after every step of it has ended.
            Exception: the error of the step that failed, the step's own.
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
        """The result of a run, awaited in a task of asyncio's, in whichever loop.

        Cancelling the task cancels the run, and the cancellation goes on when the run has ended.

        Raises:
            CheckError: the pipeline has problems.
            DefinitionError: it is no pipeline.
            InputError: an input is missing, unknown, or of the wrong type.
            RunError: the portal is closed, or this is Trio: open an engine there.
            Exception: the error of the step that failed, the step's own.
        """
        return await self._portal.wait_async(self._result(pipeline, args, kwargs))

    def stream(
        self, pipeline: Pipeline[P, Stream[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Following[T]:
        """The chunks of a run that streams, as they come: for `with`, and for `async with`.

        Raises:
            DefinitionError: it is no pipeline.
            InputError: there are too many inputs, or one is given twice.
        """
        return Following(self._portal, self._starting(pipeline, args, kwargs, streams=True), chunk)

    def events(
        self, pipeline: Pipeline[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Following[Event]:
        """The events of a run, as they come: for `with`, and for `async with`.

        Raises:
            DefinitionError: it is no pipeline.
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
                    run.cancel("nobody waits for it any more")
                    with trio.CancelScope(shield=True):  # its steps end as they would in its place
                        await run.wait_ended()  # noqa: ASYNC102 - bounded by their own shields

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

        def start() -> Run[Any]:
            engine = portal.engine
            if streams and not engine.plan(pipeline).streams:
                raise RunError(
                    f"pipeline {pipeline.name!r} gives a value, and no stream: write "
                    "portal.run(...), or await portal.arun(...)"
                )
            return engine.start(pipeline, inputs, caller=self._caller, deadline_s=self._deadline_s)

        return start


class Portal(Runner):
    """An engine in a thread of its own, while its `with` lasts; in asyncio, its `async with`.

    It can be asked from any thread and any loop of asyncio's, by many at once. Leaving the block
    cancels the runs in flight, and waits for their end, for five seconds at the most.

    Raises, where its block begins:
        ConfigError: `orchestra.toml` is wrong.
        RunError: it was opened before, or this is Trio.
    """

    def __init__(
        self,
        bindings: Bindings | None = None,
        *,
        limits: Limits | None = None,
        observe: Observe | None = None,
    ) -> None:
        super().__init__(self, Caller(), None)
        self._bindings = bindings
        self._limits = limits
        self._observe = observe
        self._thread: threading.Thread | None = None
        self._opened: Future[TrioSide] = Future()
        self._ended: Future[None] = Future()
        self._pid = os.getpid()

    def using(self, *, caller: Caller | None = None, deadline_s: float | None = None) -> Runner:
        """The same portal, asked on behalf of `caller`, within so many seconds for each run."""
        return Runner(self, caller or Caller(), deadline_s)

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
            await self._leave()  # noqa: ASYNC102 - asyncio's, and bounded
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()  # noqa: ASYNC102 - asyncio's, and bounded

    @property
    def engine(self) -> Engine:
        """Its engine, for what runs in its Trio."""
        return self._is_open().engine

    def wait(self, work: Callable[[], Awaitable[T]], what: str, instead: str) -> T:
        """What `work` returns, called in the portal's Trio, for which this thread waits.

        Raises:
            RunError: the portal is closed or not open, or this is Trio or another process. Or this
                is a loop of asyncio's, which `what` would block; it should call `instead`.
        """
        trio_side = self._trio_side
        if asyncio._get_running_loop() is not None:  # noqa: SLF001 - the others raise
            raise RunError(f"{what} would hold up the event loop of this thread: write {instead}")
        return CrossThreadCall(work).wait(trio_side)

    async def wait_async(self, work: Callable[[], Awaitable[T]]) -> T:
        """As `wait`, awaited in a task of asyncio's.

        Raises:
            RunError: the portal is closed or not open, or this is Trio, or another process.
        """
        return await CrossThreadCall(work).wait_async(self._trio_side)

    @property
    def _trio_side(self) -> TrioSide:
        trio_side = self._is_open()
        if os.getpid() != self._pid:
            raise RunError(
                "this portal was opened by another process, of which this one is a fork, and its "
                "thread is not here: open one after the fork"
            )
        if trio.lowlevel.in_trio_run():
            raise RunError(
                "a portal is for programs that are not on Trio, which is running here; in a step, "
                "call the pipeline in a pipeline; elsewhere, write `async with "
                "orchestra.open_engine(bindings) as engine: await engine.run(...)`"
            )
        return trio_side

    def _is_open(self) -> TrioSide:
        if not self._opened.done():
            raise closed()
        return self._opened.result()

    def _open(self) -> None:
        if self._thread is not None:
            raise RunError("a portal is opened once: write `with orchestra.open_portal() as ...`")
        if trio.lowlevel.in_trio_run():
            raise RunError(
                "a portal is for programs that are not on Trio, which is running here: write "
                "`async with orchestra.open_engine(bindings) as engine:`"
            )
        self._pid = os.getpid()
        # A daemon, for a program that ends without closing it; its end closes it first, then.
        self._thread = threading.Thread(target=self._live, name="orchestra-portal", daemon=True)
        self._thread.start()

    def _live(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:  # noqa: ASYNC103 - outside of Trio, and told to who opens it
            if self._opened.done():
                log.exception("a portal has failed, and takes no more runs")
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
        """As `_close`, in asyncio: in none of its threads, which may all be waiting for runs."""
        self._opened.add_done_callback(_close_when_open)  # now, also where this is cancelled
        await asyncio.wait([future_in_loop(self._ended)], timeout=2 * CLOSE_S)
        if not self._ended.done():
            log.warning(LEFT_BEHIND)


class TrioSide:
    """The part of a portal in its Trio. `call_soon` and `begin` may be called from any thread."""

    def __init__(self, engine: Engine, nursery: trio.Nursery) -> None:
        self.engine = engine
        self._nursery = nursery
        self._token = trio.lowlevel.current_trio_token()
        self._closing = trio.Event()

    def call_soon(self, act: Callable[[], object]) -> bool:
        """Call `act` in Trio soon; False if Trio has ended."""
        try:
            self._token.run_sync_soon(act)
        except trio.RunFinishedError:
            return False
        return True

    def begin(self, call: CrossThreadCall[Any]) -> None:
        """Begin a call; it is refused if the portal is closed."""

        def start() -> None:
            if self._closing.is_set():
                call.refuse()
            else:
                self._nursery.start_soon(call.perform)

        if not self.call_soon(start):
            call.refuse()

    def close_soon(self) -> bool:
        """Accept no more calls, and end those under way; False if Trio has ended."""
        return self.call_soon(self._closing.set)

    async def serve(self) -> None:
        """Wait until the portal is closed, then until its runs have ended."""
        await self._closing.wait()
        self.engine.close()
        with trio.move_on_after(CLOSE_S):
            await self.engine.wait_idle()
        self._nursery.cancel_scope.cancel()


def _close_when_open(opened: Future[TrioSide]) -> None:
    """Close a portal whose opening is over, if it succeeded."""
    if opened.exception() is None:
        opened.result().close_soon()


def _end(trio_side: TrioSide, thread: threading.Thread) -> None:
    """Close a portal, and wait for its thread."""
    if trio_side.close_soon():
        thread.join(2 * CLOSE_S)
        if thread.is_alive():
            log.warning(LEFT_BEHIND)


def open_portal(
    bindings: Bindings | None = None,
    *,
    limits: Limits | None = None,
    observe: Observe | None = None,
) -> Portal:
    """An engine for a program that is not on Trio, while a `with` lasts.

    Without bindings, it has what this directory's deployment binds, and closes that at its end.
    `limits` and `observe` are as of `open_engine`.
    """
    return Portal(bindings, limits=limits, observe=observe)
