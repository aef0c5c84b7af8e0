"""Frames: one activation of a block.

A frame has a slot for each node's value, which is filled once. It counts, for each operation, how
many events the operation still waits for; at zero the operation starts. So there is no polling, and
there are no supersteps. A region that is not entered leaves its slots empty: the steps in it never
start, and are recorded as skipped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import trio

from orchestra.compiler.blocks.mutable_values import copied_if_mutable
from orchestra.compiler.blocks.slots import Block, Operation, RegionPlan, Source
from orchestra.engine.frames.elastic import ElasticLane
from orchestra.engine.frames.nesting import NOT_NESTED, Nesting
from orchestra.engine.frames.outlet import Outlet
from orchestra.engine.frames.scope import Failure, Scope
from orchestra.engine.lanes.lane import Lane
from orchestra.events import StepSkipped
from orchestra.groups import split

if TYPE_CHECKING:
    from orchestra.engine.run import Run
    from orchestra.graph.nodes import Node

T = TypeVar("T")

_FAILURES_MAX = 16  # each holds a traceback, and a step rarely runs more pipelines at once


class Children:
    """The pipelines that a step has run so far."""

    __slots__ = ("count", "failures")

    def __init__(self) -> None:
        self.count = 0
        self.failures: deque[Failure] = deque(maxlen=_FAILURES_MAX)
        """The failures of the last ones that failed; the step may let one's error through."""


class Frame:
    """The slots of a block that is running, and the scopes of its regions."""

    __slots__ = (
        "_settled",
        "_waiting_plain",
        "_waits",
        "above",
        "block",
        "children",
        "lanes",
        "nesting",
        "outer",
        "path",
        "run",
        "scopes",
        "taken",
        "values",
    )

    def __init__(
        self, run: Run, block: Block, path: str, inputs: Mapping[str, object], outer: Scope | None
    ) -> None:
        self.run = run
        self.block = block
        self.path = path
        self.outer = outer
        self.above: Frame | None = None
        """The frame of the `each`, if this is the frame of an item's body."""
        self.nesting: Nesting = NOT_NESTED
        self.children: dict[int, Children] = {}
        """By the slot of a running step, the pipelines that it has run."""
        self.values: list[object] = [None] * block.size
        self.lanes: dict[int, list[Lane[object]]] = {}
        self.scopes: list[Scope | None] = [None] * len(block.regions)
        self.taken: dict[int, list[int]] = {}
        """By the slot of a choice, the regions that its result is made from."""
        self._waits = list(block.waits)
        self._settled = bytearray(block.size)
        """1 for slots whose operation has started, or never will."""
        self._waiting_plain: deque[Operation[Node]] | None = None
        for slot, value in block.constants:
            self.values[slot] = copied_if_mutable(value)
        for slot, name in block.inputs:
            self.values[slot] = inputs[name]

    async def enter(self, index: int, take: Callable[[Source], Awaitable[T]]) -> T | None:
        """Start a region and `take` its result; everything in it has ended on return.

        None if the region was closed before `take` was done.

        Raises:
            Exception: the first error of a step in it, as the step raised it.
        """
        region = self.block.regions[index]
        outer = self.outer if region.inside is None else self.scopes[region.inside]
        scope = self.scopes[index] = Scope(outer)
        # In its caller's task, only a task that waits itself notices that it is cancelled.
        alone = region.alone and (outer is not None or self.run.has_task)
        result: T | None = None
        try:
            async with trio.open_nursery() as scope.nursery:
                if outer is None:
                    self.run.begin(scope)
                await trio.lowlevel.checkpoint_if_cancelled()  # plain steps have no checkpoint
                if alone:
                    self._begin(region)
                else:
                    result = await self._within(scope, region, take)
            if alone and scope.ready:  # its task did not have to wake this one
                result = await take(region.source)
        finally:
            self.settle(index, self._reason(scope))
        if scope.error is not None:
            raise scope.error
        return result

    def _begin(self, region: RegionPlan) -> None:
        for slot in region.members:
            self._count(slot)

    async def _within(
        self, scope: Scope, region: RegionPlan, take: Callable[[Source], Awaitable[T]]
    ) -> T | None:
        """Start a region's members, take its result, and close it, however that ends."""
        try:
            self._begin(region)
            await scope.wait_ready()
            result = await take(region.source)
        except BaseException as error:  # noqa: ASYNC103, BLE001 - `_stop` re-raises all else
            self._stop(scope, error)
            return None  # noqa: ASYNC104 - as above
        scope.end("nobody needs it any more")
        return result

    def _stop(self, scope: Scope, error: BaseException) -> None:
        """Keep an error for `enter`, which raises it ungrouped; re-raise everything else."""
        own, onward = split(error)
        if own is not None:
            scope.fail(own)
        try:
            if onward is not None:
                scope.close(self._reason(scope))  # nothing may start any more
                raise onward from onward.__cause__
        finally:
            del error, own, onward  # as in `tasks`

    def close(self, index: int, reason: str) -> None:
        """Stop a region; one that has not started never will, and holds back no lane it reads."""
        scope = self.scopes[index]
        if scope is not None:
            scope.close(reason)
        else:
            self.settle(index, reason)

    def settle(self, index: int, reason: str) -> None:
        """Record the operations of a region that never started as skipped; leave their lanes."""
        left = self._members(index)
        while left:  # a loop, not a recursion: arms may be nested hundreds deep
            region, slot = left.pop()
            operation = self.block.operations[slot]
            if operation is None:  # the outlet: its `take` may have stopped before the last chunk
                self._leave(region.source, "the run")
            elif not self._settled[slot]:
                self._skip(operation, reason)
                left += self._members(*operation.regions)
            self._settled[slot] = 1

    def _members(self, *indices: int) -> list[tuple[RegionPlan, int]]:
        """The regions with the slots of their members, the last first."""
        regions = [self.block.regions[index] for index in reversed(indices)]
        return [(region, slot) for region in regions for slot in reversed(region.members)]

    def skip(self, operation: Operation[Node], reason: str) -> None:
        """Record an operation that never runs, and those of its arms, as skipped."""
        self._skip(operation, reason)
        for inner in operation.regions:
            self.settle(inner, reason)

    def _skip(self, operation: Operation[Node], reason: str) -> None:
        self.run.journal.append(StepSkipped, self.path + operation.name, reason)
        self._leave_all(operation)

    def scope_of(self, operation: Operation[Node]) -> Scope:
        """The scope of a started operation."""
        scope = self.scopes[operation.region]
        assert scope is not None, "an operation starts in an open scope"
        return scope

    def deliver(self, operation: Operation[Node], value: object) -> None:
        """Fill an operation's slot, and start the operations that waited only for it."""
        self.values[operation.slot] = value
        for slot in operation.values:
            self._count(slot)

    def feeds_output(self, operation: Operation[Node]) -> bool:
        """Whether its chunks are the run's output, whose reader stays until the run's end."""
        return self.outer is None and self.block.regions[0].outlet in operation.lanes

    def open_lanes(
        self, operation: Operation[Node], on_leave: Callable[[], None] | None
    ) -> list[Lane[object]]:
        """Open a lane for each reader of an operation's chunks, and start waiting readers.

        `on_leave` is called when the last reader has left before the end. It is None for an
        operation that `feeds_output`.
        """
        lanes: list[Lane[object]] = []

        def left() -> None:
            if on_leave is not None and all(lane.left for lane in lanes):
                on_leave()

        each_left = None if on_leave is None else left
        lanes += [self._lane(operation.slot, slot, each_left) for slot in operation.lanes]
        self.lanes[operation.slot] = lanes
        for slot, lane in zip(operation.lanes, lanes, strict=True):
            if self._settled[slot]:  # the reader was skipped before the first chunk
                lane.leave()
            self._count(slot)
        return lanes

    def _lane(self, writer: int, reader: int, on_leave: Callable[[], None] | None) -> Lane[object]:
        """A lane from one slot to another; the lane to the run's own outlet is the journal."""
        bound = self.run.shared.limits.lane_chunks
        if self.outer is None and reader == self.block.regions[0].outlet:  # see `feeds_output`
            top = self.scopes[0]
            assert top is not None, "a lane is opened by a task of an entered region"
            return Outlet(self.run.journal, bound, on_leave, top.fail)
        if self.block.operations[reader] is None:
            reader = self.block.owners.get(reader, -1)
        if self.block.rejoins and reader >= 0:
            return ElasticLane(self, writer, reader, bound, on_leave)
        return Lane(bound, on_leave)

    def lane_of(self, source: Source) -> Lane[object] | None:
        """The lane that a stream is read from; None before its producer has started."""
        lanes = self.lanes.get(source.slot)
        return None if lanes is None or source.lane is None else lanes[source.lane]

    def leave(self, operation: Operation[Node]) -> None:
        """Let an operation leave all its lanes, and skip its arms that have not started."""
        if self.children:
            self.children.pop(operation.slot, None)
        self._leave_all(operation)
        for inner in operation.regions:
            self.settle(inner, self.stopped(operation))

    def _leave_all(self, operation: Operation[Node]) -> None:
        for source in operation.streams:
            self._leave(source, self.path + operation.name)

    def stopped(self, operation: Operation[Node]) -> str:
        """The reason why an operation is being stopped."""
        return self._reason(self.scope_of(operation))

    @property
    def late(self) -> bool:
        """Whether the run was cancelled, or its deadline or that of a nested pipeline has passed.

        A region of one step does not close itself then: its own task waits only for that step.
        """
        return self.run.stopping or self.nesting.stopped is not None

    def _reason(self, scope: Scope) -> str:
        """The reason why the steps in a scope are being stopped."""
        return scope.stopped or self.nesting.stopped or self.run.stopped

    def _leave(self, source: Source, reader: str) -> None:
        lane = self.lane_of(source)
        if lane is not None:
            lane.leave(reader)

    def _count(self, slot: int) -> None:
        """Count one event that the slot's operation has waited for."""
        self._waits[slot] -= 1
        if self._waits[slot] or self._settled[slot]:
            return
        operation = self.block.operations[slot]
        index = self.block.outlets[slot] if operation is None else operation.region
        scope = self.scopes[index]
        assert scope is not None, "an operation waits for the start of its region, too"
        if scope.stopped is not None or (self.nesting.shielded and self.late):
            self._end_stopped()
            return
        if operation is not None and operation.plain:
            self._run_plain(operation)
            return
        self._settled[slot] = 1
        if operation is None:
            scope.set_ready()
        else:
            self.run.spawn(scope.nursery, self, operation)

    def _run_plain(self, operation: Operation[Node]) -> None:
        """Run a plain step directly; in a loop, not a recursion, as one may start the next."""
        if self._waiting_plain is not None:
            self._waiting_plain.append(operation)
            return
        self._waiting_plain = deque([operation])
        try:
            while self._waiting_plain:
                operation = self._waiting_plain.popleft()
                if self.scope_of(operation).stopped is None:  # otherwise it is skipped
                    self._settled[operation.slot] = 1
                    self.run.run_plain(self, operation)
        finally:
            self._waiting_plain = None

    def _end_stopped(self) -> None:
        """End the frame if what is around it was stopped: nothing more will start in it.

        That has also cancelled the frame, unless the step that runs it shields it.
        """
        top = self.scopes[0]
        assert top is not None, "it is entered before anything can start"
        if top.closed is None and (top.stopped is not None or self.late):
            top.close(self._reason(top))
