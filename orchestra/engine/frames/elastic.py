"""Elastic lanes: where streams fork and join again, a lane grows instead of causing a deadlock.

The theory: a step may read one stream to its end, and then a second one from the same producer.
With unbounded lanes this works. With bounds, it deadlocks: the step waits for a chunk of the
first stream, and its producer waits for room in the second. Growing the shortest full lane of the
cycle lets them continue with as little memory as possible (T. M. Parks, "Bounded Scheduling of
Process Networks", Berkeley 1995). Rules of the file: a cycle of waits is looked for only in blocks
where a step reads several streams, by the task that is about to wait. An operation counts as
waiting only when it can do nothing else; otherwise backpressure works as usual.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import trio

from orchestra.compiler.blocks.slots import Operation
from orchestra.engine.lanes.lane import Lane
from orchestra.engine.lanes.output import size_bytes
from orchestra.errors import LimitExceededError

if TYPE_CHECKING:
    from orchestra.engine.frames.frame import Frame
    from orchestra.graph.nodes import Node

Wait: TypeAlias = "tuple[int, ElasticLane | None]"
"""The slot of the operation waited for, and the lane, if the wait is for room in a lane."""
Coming: TypeAlias = "tuple[ElasticLane, int]"
"""The lane at which the current task is about to wait, and the slot of its operation."""


class ElasticLane(Lane[object]):
    """A lane between two operations of a frame that may wait for each other in a cycle.

    `writer` and `reader` are their slots. The reader of an arm is the operation that has the arm.
    """

    __slots__ = ("_frame", "_put", "_taken", "_turn", "reader", "writer")

    def __init__(
        self,
        frame: Frame,
        writer: int,
        reader: int,
        bound: int,
        on_leave: Callable[[], None] | None,
    ) -> None:
        super().__init__(bound, on_leave)
        self._chunks = deque()  # removing the first from a list is slow if it has grown long
        self._turn = bound
        """Chunks that pass at either end before other tasks run, however far the lane has grown."""
        self._put = self._taken = 0
        self._frame = frame
        self.writer = writer
        self.reader = reader

    @property
    def full(self) -> bool:
        """Whether a `put` has to wait: for room, or to let other tasks run."""
        return super().full or (self._put >= self._turn and not self._left)

    async def put(self, chunk: object) -> None:
        """As in `Lane`; other tasks run once per initial bound of chunks, even in a grown lane."""
        if self.full:
            await self.room()
        self._put += 1
        await super().put(chunk)

    async def __anext__(self) -> object:
        """As in `Lane`; other tasks run as with `put`."""
        self._taken += 1
        if self._taken > self._turn:
            await trio.lowlevel.checkpoint()
            self._taken = 1
        return await super().__anext__()

    def _take(self) -> object:
        return self._chunks.popleft()  # type: ignore[union-attr]

    async def _wait_chunk(self) -> None:
        self._give_room(self.reader)
        await super()._wait_chunk()

    async def _wait_room(self) -> None:
        if super().full:
            self._give_room(self.writer)
        if super().full:
            await super()._wait_room()
        else:
            await trio.lowlevel.checkpoint()
        self._put = 0

    def _give_room(self, slot: int) -> None:
        """Before an operation waits here, grow a lane if the wait would be part of a deadlock.

        Raises:
            LimitExceededError: the chunks in a lane of the cycle exceed `output_chunks` or
                `output_bytes`.
        """
        full: list[ElasticLane] = []
        seen, ahead = {slot}, [slot]
        while ahead:
            waits = _waits(self._frame, ahead.pop(), (self, slot))
            if waits is None:
                return
            for other, lane in waits:
                if lane is not None:
                    full.append(lane)
                if other not in seen:
                    seen.add(other)
                    ahead.append(other)
        if full:
            min(full, key=lambda lane: lane.held).grow()

    def waiting(self, slot: int, coming: Coming) -> trio.lowlevel.Task | None:
        """The task of an operation that waits here, or is about to; None if there is none."""
        if coming == (self, slot):
            return trio.lowlevel.current_task()
        return self._reader if slot == self.reader else self._writer

    def grow(self) -> None:
        """Double the lane's bound.

        Raises:
            LimitExceededError: the chunks exceed `output_chunks` or `output_bytes`.
        """
        limits = self._frame.run.shared.limits
        if self.held >= limits.output_chunks:
            raise self._too_much("output_chunks", limits.output_chunks, "chunks")
        if sum(map(size_bytes, self._chunks)) > limits.output_bytes:
            raise self._too_much("output_bytes", limits.output_bytes, "bytes")
        self._bound = min(2 * self._bound, limits.output_chunks)
        self._wake_writer()

    def _too_much(self, limit: str, most: int, unit: str) -> LimitExceededError:
        reader = _operation(self._frame, self.reader)
        arms = (self._frame.block.regions[region].source for region in reader.regions)
        read = (*reader.streams, *arms)
        source = next(each for each in read if self._frame.lane_of(each) is self)
        return LimitExceededError(
            f"{source.into} has read nothing from {source.spelled} for over {most} {unit}: its "
            "step first reads another stream of the same producer to its end; read both at the "
            f"same time, or raise Limits({limit}=...) if that is intended",
            limit=limit,
        )


def _waits(frame: Frame, slot: int, coming: Coming) -> list[Wait] | None:
    """All waits of an operation, any of which would let it continue; None if it is not blocked."""
    operation = _operation(frame, slot)
    for lane in _elastic(frame.lanes.get(slot, ())):
        if _is_held(frame, operation, lane.waiting(slot, coming)):
            return [(lane.reader, lane)]
    if operation.regions:
        return _waits_of_arms(frame, operation, coming)
    for lane in _elastic(map(frame.lane_of, operation.streams)):
        if _is_held(frame, operation, lane.waiting(slot, coming)):
            return [(lane.writer, None)]
    return None


def _waits_of_arms(frame: Frame, operation: Operation[Node], coming: Coming) -> list[Wait] | None:
    """The waits of a race, a fallback or a route: each running arm has a task of its own."""
    waits: list[Wait] = []
    for region in operation.regions:
        scope = frame.scopes[region]
        if scope is None or scope.closed is not None:
            continue
        lane = frame.lane_of(frame.block.regions[region].source)
        if not isinstance(lane, ElasticLane) or lane.waiting(operation.slot, coming) is None:
            return None
        waits.append((lane.writer, None))
    return waits or None


def _elastic(lanes: Iterable[Lane[object] | None]) -> Iterator[ElasticLane]:
    return (lane for lane in lanes if isinstance(lane, ElasticLane))


def _is_held(frame: Frame, operation: Operation[Node], task: trio.lowlevel.Task | None) -> bool:
    """Whether an operation is blocked while a task of it waits: its only one, an arm's, an item's.

    An item's task passes on the values of all items, so an `each` cannot continue without it.
    """
    if task is None or operation.regions:
        return task is not None
    if task.parent_nursery is not frame.scope_of(operation).nursery:
        return operation.body is not None
    return not any(inner.child_tasks for inner in task.child_nurseries)


def _operation(frame: Frame, slot: int) -> Operation[Node]:
    operation = frame.block.operations[slot]
    assert operation is not None, "an elastic lane lies between two operations"
    return operation
