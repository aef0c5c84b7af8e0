"""Elastic lanes: where streams part and meet again, a lane grows rather than hold up its reader.

The theory: a step that reads one stream to its end, and then a second one that comes of the same
producer, would get through if lanes had no bound. With one, all stand in a circle: the step waits
for a chunk of the first, and who makes it waits for room in the second. Giving room to the shortest
full lane among them lets them go on with as little as that takes (T. M. Parks, "Bounded Scheduling
of Process Networks", Berkeley 1995). Rules of the file: it is looked for only where a step reads
several streams, by whoever is about to wait; and an operation counts as one that waits only when
it can do nothing else, so that whoever still reads holds the writer back as ever.
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
"""Whom an operation waits for, and the lane, where it is for room in one."""
Coming: TypeAlias = "tuple[ElasticLane, int]"
"""At which lane the present task is about to wait, and which operation it is of."""


class ElasticLane(Lane[object]):
    """A lane between two operations of a frame that may wait for each other in a circle.

    `writer` and `reader` are their slots; the reader of an arm is the operation that it is an arm
    of.
    """

    __slots__ = ("_frame", "_put", "_taken", "_turn", "reader", "writer")

    def __init__(
        self, frame: Frame, writer: int, reader: int, bound: int, on_leave: Callable[[], None]
    ) -> None:
        super().__init__(bound, on_leave)
        self._chunks = deque()  # so many may come to wait that to take the first moves all the rest
        self._turn = bound
        """How many chunks pass at either end before the others run, however far it has grown."""
        self._put = self._taken = 0
        self._frame = frame
        self.writer = writer
        self.reader = reader

    @property
    def full(self) -> bool:
        """Whether a chunk that is put would have to wait: for room, or for the others to run."""
        return super().full or (self._put >= self._turn and not self._left)

    async def put(self, chunk: object) -> None:
        """As of any lane; the others run once in every so many chunks, also when it has grown."""
        if self.full:
            await self.room()
        self._put += 1
        await super().put(chunk)

    async def __anext__(self) -> object:
        """As of any lane, in the same way."""
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
        """Before an operation waits here: if nobody could end that, let them go on.

        Raises:
            LimitExceededError: what waits in a lane of the circle is over `output_chunks` or
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
        """The task of this operation that waits here, or is about to."""
        if coming == (self, slot):
            return trio.lowlevel.current_task()
        return self._reader if slot == self.reader else self._writer

    def grow(self) -> None:
        """Have room for twice as many chunks.

        Raises:
            LimitExceededError: they are over `output_chunks` or `output_bytes`.
        """
        limits = self._frame.run.limits
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
            f"{source.into} has taken nothing of {source.spelled} for over {most} {unit}: its step "
            "reads another stream to its end first, which comes of the same producer; read both as "
            f"they come, or raise Limits({limit}=...) if that is intended",
            limit=limit,
        )


def _waits(frame: Frame, slot: int, coming: Coming) -> list[Wait] | None:
    """All that an operation waits for, any of which lets it go on; None if it may go on anyway."""
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
    """Those of a race, a fallback or a route: each arm that is under way has a task of its own."""
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
    """Whether the task that waits is all that there is of an operation; of one with arms, any."""
    if task is None or operation.regions:
        return task is not None
    return task.parent_nursery is frame.scope_of(operation).nursery and not any(
        inner.child_tasks for inner in task.child_nurseries
    )


def _operation(frame: Frame, slot: int) -> Operation[Node]:
    operation = frame.block.operations[slot]
    assert operation is not None, "an elastic lane lies between two operations"
    return operation
