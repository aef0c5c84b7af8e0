"""Outflow: the writing end of a step's stream, all its readers' lanes together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter

import attrs
import trio

from orchestra.engine.lanes.lane import Lane


@attrs.frozen
class Restart:
    """In a lane: what came before it is void. Only the run's output reads such lanes."""

    step: str
    arm: str


class Outflow:
    """Where an operation puts its chunks. The slowest reader holds it back."""

    __slots__ = ("_lanes", "_now_s", "chunks", "first_s")

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._lanes: list[Lane[object]] = []
        self.chunks = 0
        self.first_s: float | None = None
        """When the first chunk was put; None before."""

    def open(self, lanes: list[Lane[object]]) -> None:
        """Take the lanes to write to. An outlet is the first: it may wait whenever it is put to."""
        self._lanes = sorted(lanes, key=attrgetter("is_outlet"), reverse=True)

    def begun(self) -> bool:
        """Whether a chunk was put, also one that still waits for its readers' room."""
        return self.first_s is not None

    async def put(self, chunk: object) -> None:
        """Pass one chunk on, waiting until every reader has room for it."""
        await self.put_soon(chunk)
        self.push()

    async def put_soon(self, chunk: object) -> None:
        """As `put`; the run's own readers may hear of it only with the next `push`.

        For whoever knows when it has no more for now: what is ready together is told together.
        """
        if self.first_s is None:
            self.first_s = self._now_s()
        self.chunks += 1
        if len(self._lanes) > 1:  # all of them have it or, cancelled while this waits, none
            for lane in self._lanes:
                if lane.full:
                    await lane.room()
        left = False
        for lane in self._lanes:
            await lane.put_soon(chunk)
            left = left or lane.left
        if left:  # a writer that never waits has to hear that it is cancelled
            await trio.lowlevel.checkpoint_if_cancelled()

    def push(self) -> None:
        """Tell the run's readers of what was put soon. Never raises, and never waits."""
        for lane in self._lanes:
            lane.push()

    def before_wait(self) -> None:
        """As `push`, by whoever is about to wait, so that others run anyway."""
        for lane in self._lanes:
            lane.before_wait()

    async def restart(self, step: str, arm: str) -> None:
        """Say that what was put before is void, and that what comes is this arm's."""
        for lane in self._lanes:
            await lane.put(Restart(step, arm))

    async def put_all(self, chunks: Iterable[object]) -> None:
        """Pass several chunks on, in order."""
        for chunk in chunks:
            await self.put(chunk)

    @property
    def peak(self) -> int:
        """The most chunks that have ever waited on one of its edges."""
        return max((lane.peak for lane in self._lanes), default=0)

    def close(self) -> None:
        """Say that the last chunk has been put."""
        for lane in self._lanes:
            lane.close()
