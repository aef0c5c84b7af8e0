"""Elastic lanes: where streams part and meet again, a lane grows rather than hold up its reader.

The theory: a step that reads one stream to its end, and then a second one that comes of the same
producer, would get through if lanes had no bound. With one, all stand in a circle: the step waits
for a chunk of the first, and who makes it waits for room in the second. Giving room to a full lane
of the circle, and to no other, lets them go on with as little as that takes (T. M. Parks, "Bounded
Scheduling of Process Networks", Berkeley 1995). Rules of the file: it is looked for only where a
step reads several streams; and an operation counts as one that waits only when all of it does, so
that whoever still reads holds the writer back as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from orchestra.compiler.blocks import Operation
from orchestra.engine.lane import Lane
from orchestra.engine.output import size_bytes
from orchestra.errors import LimitExceededError

if TYPE_CHECKING:
    from orchestra.engine.frame import Frame


class ElasticLane(Lane[object]):
    """A lane between two operations of a frame that may wait for each other in a circle."""

    __slots__ = ("_frame", "reader", "writer")

    def __init__(
        self, frame: Frame, writer: int, reader: int, bound: int, on_leave: Callable[[], None]
    ) -> None:
        super().__init__(bound, on_leave)
        self._frame = frame
        self.writer = writer
        """The slot of the operation that writes."""
        self.reader = reader
        """The slot of the one that reads."""

    def waits_for(self, slot: int) -> int | None:
        """Whom an operation waits for here, when it can do nothing else; None if it does not."""
        task, other = (
            (self._reader, self.writer) if slot == self.reader else (self._writer, self.reader)
        )
        return other if task is not None and self._is_all(task, slot) else None

    async def _wait_chunk(self) -> None:
        self._give_room(self.reader, self.writer)
        await super()._wait_chunk()

    async def _wait_room(self) -> None:
        self._give_room(self.writer, self.reader)
        if len(self) >= self._bound:
            await super()._wait_room()

    def _give_room(self, waiting: int, for_whom: int) -> None:
        """Before an operation waits here for another: if that waits for it, let them go on.

        Raises:
            LimitExceededError: what waits in a lane of the circle is over `output_chunks` or
                `output_bytes`.
        """
        if not self._is_all(trio.lowlevel.current_task(), waiting):
            return
        full = [self] if waiting == self.writer else []
        at: int | None = for_whom
        for _ in range(self._frame.block.size):
            if at == waiting:
                min(full, key=len).grow()
                return
            if at is None:
                return
            at = self._onward(at, full)

    def _onward(self, slot: int, full: list[ElasticLane]) -> int | None:
        """Whom the operation of a slot waits for; the lane too, where that is full."""
        for lane in self._frame.lanes_of(self._operation(slot)):
            if isinstance(lane, ElasticLane) and (found := lane.waits_for(slot)) is not None:
                if slot == lane.writer:
                    full.append(lane)
                return found
        return None

    def _operation(self, slot: int) -> Operation:
        operation = self._frame.block.operations[slot]
        assert operation is not None, "an elastic lane lies between two operations"
        return operation

    def _is_all(self, task: trio.lowlevel.Task, slot: int) -> bool:
        """Whether a task is all that there is of an operation."""
        nursery = self._frame.scope_of(self._operation(slot)).nursery
        return task.parent_nursery is nursery and not any(
            inner.child_tasks for inner in task.child_nurseries
        )

    def grow(self) -> None:
        """Have room for twice as many chunks.

        Raises:
            LimitExceededError: they are over `output_chunks` or `output_bytes`.
        """
        limits = self._frame.run.limits
        held_bytes = sum(map(size_bytes, self._chunks))
        if len(self) >= limits.output_chunks:
            raise self._too_much("output_chunks", limits.output_chunks, "chunks")
        if held_bytes > limits.output_bytes:
            raise self._too_much("output_bytes", limits.output_bytes, "bytes")
        self._bound = min(2 * self._bound, limits.output_chunks)
        self._wake_writer()

    def _too_much(self, limit: str, most: int, unit: str) -> LimitExceededError:
        lanes = self._frame.lanes
        source = next(
            each
            for each in self._operation(self.reader).streams
            if each.lane is not None and lanes[each.slot][each.lane] is self
        )
        return LimitExceededError(
            f"{source.into} has taken nothing of {source.spelled} for over {most} {unit}: its step "
            "reads another stream to its end first, which comes of the same producer; read both as "
            f"they come, or raise Limits({limit}=...) if that is intended",
            limit=limit,
        )
