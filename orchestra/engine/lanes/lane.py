"""Lanes: the bounded channel on a stream edge, with one writer and one reader.

A Trio memory channel costs two task switches per chunk. A lane parks its tasks only when it must:
a writer runs until the lane is full, a reader until it is empty, so chunks that are ready together
move together. Both reach a checkpoint at least once every `bound` chunks, because neither can be
more than `bound` ahead of the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, NoReturn, Self, TypeVar

import trio

from orchestra.errors import RunError

C = TypeVar("C")


class Lane(Generic[C]):
    """Chunks on their way from one step to another, at most `bound` of them."""

    is_outlet = False
    """Whether the lane ends in the journal."""
    __slots__ = ("_bound", "_chunks", "_closed", "_left", "_on_leave", "_reader", "_writer", "peak")

    def __init__(self, bound: int, on_leave: Callable[[], None] | None) -> None:
        self._bound = bound
        self._on_leave = on_leave
        # An empty deque takes 700 bytes, and most lanes are empty.
        self._chunks: list[C] | deque[C] = []
        self._closed = False
        self._left = ""  # the name of its reader, after it has left
        self._reader: trio.lowlevel.Task | None = None
        self._writer: trio.lowlevel.Task | None = None
        self.peak = 0
        """The largest number of chunks that it has held at once."""

    @property
    def held(self) -> int:
        """The number of chunks that it holds."""
        return len(self._chunks)

    @property
    def left(self) -> bool:
        """Whether its reader has left."""
        return bool(self._left)

    @property
    def full(self) -> bool:
        """Whether a `put` would have to wait."""
        return len(self._chunks) >= self._bound and not self._left

    async def room(self) -> None:
        """Wait while the lane is full."""
        while self.full:
            await self._wait_room()

    async def put(self, chunk: C) -> None:
        """Append a chunk, waiting while the lane is full; dropped if the reader has left.

        If it is cancelled while it waits, the chunk is not in the lane.
        """
        if len(self._chunks) >= self._bound:
            await self.room()
        if not self._left:
            self._chunks.append(chunk)
            if len(self._chunks) > self.peak:  # noqa: PLR1730 - half the time of `max`
                self.peak = len(self._chunks)
            self._wake_reader()

    async def put_soon(self, chunk: C) -> None:
        """As `put`, but the reader may be woken only by the next `push`, or before a wait."""
        await self.put(chunk)

    def push(self) -> None:
        """Wake the reader for chunks from `put_soon`."""

    def before_wait(self) -> None:
        """As `push`; called by a writer that is about to wait."""

    def close(self) -> None:
        """Mark the last chunk as put. Not called when the writer failed."""
        self._closed = True
        self._on_leave = None  # it may reference this lane
        self._wake_reader()

    def leave(self, reader: str = "its reader") -> None:
        """Mark the reader as gone: the chunks are dropped and the writer is freed.

        A task that still reads gets an error with the name of the reader.
        """
        if not self._left:
            self._left = reader
            self._chunks.clear()
            self._wake_writer()
            self._wake_reader()
            on_leave, self._on_leave = self._on_leave, None
            if on_leave is not None:
                on_leave()

    async def receive(self) -> tuple[C, ...]:
        """Wait for chunks and return all that are here; empty after the last.

        Raises:
            trio.BusyResourceError: another task waits here already.
            trio.ClosedResourceError: the step that it was passed to has ended.
        """
        while not self._chunks:
            if self._left:
                raise self._gone()
            if self._closed:
                return ()
            await self._wait_chunk()
        batch = tuple(self._chunks)
        self._chunks.clear()
        self._wake_writer()
        return batch

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> C:
        while not self._chunks:
            if self._left:
                raise self._gone()
            if self._closed:
                raise StopAsyncIteration
            await self._wait_chunk()
        chunk = self._take()
        self._wake_writer()
        return chunk

    def _take(self) -> C:
        return self._chunks.pop(0)  # type: ignore[call-arg] # a list, except in `elastic`

    def _gone(self) -> Exception:
        return trio.ClosedResourceError(
            f"this stream was passed to {self._left!r}, which has ended, and all chunks not read "
            "by then are gone; read it there, or pass it in the pipeline to the step that reads it"
        )

    async def _wait_chunk(self) -> None:
        if self._reader is not None:
            raise trio.BusyResourceError(
                "two tasks of a step read one stream at once; let one read it and pass the chunks "
                "on through a trio memory channel"
            )
        self._reader = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort_reader)

    async def _wait_room(self) -> None:
        self._writer = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort_writer)

    def _wake_reader(self) -> None:
        task, self._reader = self._reader, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def _wake_writer(self) -> None:
        task, self._writer = self._writer, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def _abort_reader(self, _: object) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _abort_writer(self, _: object) -> trio.lowlevel.Abort:
        self._writer = None
        return trio.lowlevel.Abort.SUCCEEDED


_AT_ONCE = (
    "iter next reversed len bool contains getitem str format bytes fspath add radd "
    "await enter exit aenter aexit"
)
"""Operations that take a stream for its complete value. Python would answer some of them itself:
from the chunks in the lane now, or with the repr of this object, which a model would be sent."""


def _refused(*_: object) -> NoReturn:
    raise RunError(
        "the chunks of a stream are still to come: write `async for chunk in stream` in an "
        "`async def` step, or pass it collect(...) in the pipeline, and take the whole value"
    )


for _method in _AT_ONCE.split():
    setattr(Lane, f"__{_method}__", _refused)
