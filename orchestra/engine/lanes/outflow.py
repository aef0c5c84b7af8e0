"""Outflow: the writing end of a step's stream, for the lanes of all its readers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter

import attrs
import trio

from orchestra.engine.lanes.lane import Lane


@attrs.frozen
class Restart:
    """A mark in a lane: the chunks before it are void. Only the output of a pipeline has one."""

    step: str
    arm: str


class Outflow:
    """The target of an operation's chunks. The slowest reader holds the operation back."""

    __slots__ = ("_lanes", "_now_s", "chunks", "first_s")

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._lanes: list[Lane[object]] = []
        self.chunks = 0
        self.first_s: float | None = None
        """The time of the first chunk; None before."""

    def open(self, lanes: list[Lane[object]]) -> None:
        """Set the lanes to write to. An outlet has to be the first, as it may wait in any `put`."""
        self._lanes = sorted(lanes, key=attrgetter("is_outlet"), reverse=True)

    def begun(self) -> bool:
        """Whether a chunk was put, even if it still waits for room."""
        return self.first_s is not None

    async def put(self, chunk: object) -> None:
        """Pass one chunk on, waiting until every reader has room for it."""
        await self.put_soon(chunk)
        self.push()

    async def put_soon(self, chunk: object) -> None:
        """As `put`, but the run's own readers may be woken only by the next `push`.

        For a caller that knows when no more are ready: chunks ready together are sent together.
        """
        if self.first_s is None:
            self.first_s = self._now_s()
        self.chunks += 1
        if len(self._lanes) > 1:  # on a cancellation, all lanes have the chunk or none
            for lane in self._lanes:
                if lane.full:
                    await lane.room()
        left = False
        for lane in self._lanes:
            await lane.put_soon(chunk)
            left = left or lane.left
        if left:  # a writer that never waits has to notice its cancellation
            await trio.lowlevel.checkpoint_if_cancelled()

    def push(self) -> None:
        """Wake the run's readers for chunks from `put_soon`. Never raises, and never waits."""
        for lane in self._lanes:
            lane.push()

    def before_wait(self) -> None:
        """As `push`; called by a task that is about to wait, so that other tasks run anyway."""
        for lane in self._lanes:
            lane.before_wait()

    async def restart(self, step: str, arm: str) -> None:
        """Mark the chunks so far as void; the following chunks are those of this arm."""
        for lane in self._lanes:
            await lane.put(Restart(step, arm))

    async def put_all(self, chunks: Iterable[object]) -> None:
        """Pass on several chunks, in order."""
        for chunk in chunks:
            await self.put(chunk)

    @property
    def peak(self) -> int:
        """The largest number of chunks that waited in one of its lanes."""
        return max((lane.peak for lane in self._lanes), default=0)

    def close(self) -> None:
        """Mark the last chunk as put."""
        for lane in self._lanes:
            lane.close()
