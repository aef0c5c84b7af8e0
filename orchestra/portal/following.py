"""Iterate over the chunks or events of a run from another thread, as they arrive."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import trio

from orchestra.errors import RunError
from orchestra.events import ArmRestarted, Delta, Event, Snapshot

if TYPE_CHECKING:
    from orchestra.engine.journal import Reader
    from orchestra.engine.run import Run
    from orchestra.portal.portal import Portal

T = TypeVar("T")
LEFT = "its reader has left"


class Following(Generic[T]):
    """A run to iterate over: in a `with` block or, on asyncio, in an `async with` block.

    The run starts when the block is entered. Leaving the block before the run has ended cancels
    the run and waits for its end. A slow reader slows down the run and its provider
    (backpressure).

    Raises, while iterating:
        RunError: this is outside the block; another task or thread iterates at the same time; or
            the output restarts, which chunks cannot express.
        Exception: the error that the failing step raised.
    """

    def __init__(
        self,
        portal: Portal,
        start: Callable[[], Run[Any]],
        pick: Callable[[Event], Iterable[T]],
    ) -> None:
        self._portal = portal
        self._start = start
        self._pick = pick
        self._ready: deque[T] = deque()
        self._seq = 0
        self._run: Run[Any] | None = None
        self._reader: Reader | None = None
        self._over = False
        self._reading = threading.Lock()

    @property
    def run_id(self) -> str:
        """The id of the run; empty until the block is entered."""
        return "" if self._run is None else self._run.id

    def __enter__(self) -> Self:
        self._refuse_again()
        try:
            self._wait(self._begin)
        except BaseException:  # Ctrl-C: the run may have started all the same
            with suppress(RunError):
                self._wait(self._end)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._wait(self._end)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        with self._alone():
            while not self._ready:
                if self._over:
                    raise StopIteration
                self._take(self._wait(self._more))
            return self._ready.popleft()

    async def __aenter__(self) -> Self:
        self._refuse_again()
        try:
            await self._portal.wait_async(self._begin)
        except BaseException:  # as in `__enter__`, for a cancellation
            with suppress(RunError):
                await self._portal.wait_async(self._end)  # noqa: ASYNC102 - asyncio's, as is the task
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._portal.wait_async(self._end)  # noqa: ASYNC102 - asyncio's, as is the task

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        with self._alone():
            while not self._ready:
                if self._over:
                    raise StopAsyncIteration
                self._take(await self._portal.wait_async(self._more))
            return self._ready.popleft()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Refuse a second reader, which would get the events that the first is about to take."""
        if not self._reading.acquire(blocking=False):
            raise RunError(
                f"run {self.run_id} is read by another task or thread at this moment, and only one "
                "can read: pass its output on through a queue, or ask the portal for a run for each"
            )
        try:
            yield
        finally:
            self._reading.release()

    def _refuse_again(self) -> None:
        if self._run is not None:
            raise RunError(
                f"run {self._run.id} was followed before, and a run can be followed only once: "
                "ask the portal for another run"
            )

    def _wait(self, work: Callable[[], Awaitable[Any]]) -> Any:
        return self._portal.wait(work, f"with {self._call}", f"async with {self._call}")

    @property
    def _call(self) -> str:
        """How the author wrote it."""
        return "portal.events(...)" if self._pick is itself else "portal.stream(...)"

    def _take(self, batch: Sequence[Event]) -> None:
        self._over = not batch
        for event in batch:
            self._seq = event.seq
            self._ready += self._pick(event)

    # --- in the portal's Trio thread -------------------------------------------------------------

    async def _begin(self) -> None:
        self._run = self._start()
        self._reader = self._run.journal.attach()

    async def _more(self) -> tuple[Event, ...]:
        """The next events; empty when the run has finished. Raises the error of a failed run."""
        if self._run is None or self._reader is None:
            raise self._outside()
        try:
            batch = await self._reader.after(self._seq)
        except trio.ClosedResourceError:
            raise self._outside() from None
        if not batch:
            await self._run.result()
        return batch

    def _outside(self) -> RunError:
        return RunError(
            f"a run can be followed only inside its block: `with {self._call} as chunks:`"
        )

    async def _end(self) -> None:
        if self._run is None or self._reader is None:
            return
        with self._reader:
            self._run.cancel(LEFT)
        await self._run.wait_ended()


def chunk(event: Event) -> Iterable[Any]:
    """The chunk in an event, if there is one.

    Raises:
        RunError: the event makes the chunks before it invalid.
    """
    if isinstance(event, Delta):
        return (event.chunk,)
    if isinstance(event, ArmRestarted | Snapshot):
        raise RunError(
            f"{event.type}: the output of this run restarts, and the chunks read before are void; "
            "use portal.events(...), which reports restarts, or write the fallback without "
            "restart=True"
        )
    return ()


def itself(event: Event) -> Iterable[Event]:
    """The event itself."""
    return (event,)
