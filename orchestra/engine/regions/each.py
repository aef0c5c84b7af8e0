"""Each: one body per item, in a frame of its own; a bounded number of them at once.

An item is in progress from the start of its body until its value has been passed on, and at
most `at_once` items are in progress. So values that wait for their turn are bounded too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, cast

import trio

from orchestra.engine.frames.cuts import forget_cuts, is_cut
from orchestra.engine.frames.frame import Frame
from orchestra.engine.frames.reading import arguments, collected
from orchestra.engine.frames.scope import Failure, bare
from orchestra.engine.lanes.lane import Lane
from orchestra.engine.lanes.outflow import Outflow
from orchestra.errors import LimitExceededError, ModelError
from orchestra.events import ItemFailed
from orchestra.failed import Failed, ModelFacts
from orchestra.graph.calls.raised import name_and_message
from orchestra.graph.nodes import Each
from orchestra.policies.health.permanent import is_permanent

if TYPE_CHECKING:
    from orchestra.compiler.blocks.slots import Block, Operation


async def each_of_list(frame: Frame, operation: Operation[Each]) -> list[object]:
    """The values of the bodies, in the order of the items, or in the order of completion.

    Raises:
        LimitExceededError: there are more than `each_items` items.
        Exception: the first error in a body.
    """
    limit = frame.run.shared.limits.each_items
    (given,) = arguments(frame, operation).values()
    items = list(islice(cast("Iterable[object]", given), limit + 1))  # it may be endless
    if len(items) > limit:
        raise LimitExceededError(
            f"{frame.path + operation.name!r} was given more than {limit} items; raise "
            "Limits(each_items=...) if that is intended",
            limit="each_items",
        )
    results: list[object] = []

    async def keep(value: object) -> None:
        results.append(value)

    bodies = _Bodies(frame, operation, keep)
    async with trio.open_nursery() as bodies.nursery:
        for item in items:
            await bodies.start(item)
    bodies.check()
    return results


async def each_of_stream(frame: Frame, operation: Operation[Each], outflow: Outflow) -> None:
    """Run a body for each chunk as it arrives, and put each value as soon as it is its turn.

    Raises:
        Exception: the first error in a body.
    """
    (lane,) = arguments(frame, operation).values()
    bodies = _Bodies(frame, operation, outflow.put)
    async with trio.open_nursery() as bodies.nursery:
        async for item in cast("Lane[object]", lane):
            await bodies.start(item)
    bodies.check()


class _Bodies:
    """The running bodies of one `each`."""

    nursery: trio.Nursery

    def __init__(
        self, frame: Frame, operation: Operation[Each], put: Callable[[object], Awaitable[None]]
    ) -> None:
        node = operation.node
        self._frame = frame
        self._operation = operation
        self._put = put
        self._ordered = node.ordered
        self._places = trio.Semaphore(cast("int", node.at_once))
        self._started = 0
        self._done = 0
        self._next = 0
        self._early: dict[int, object] = {}
        """Values whose turn has not come; their items are in progress: at most `at_once`."""
        self._error: Exception | None = None
        self._failures_max = node.failures_max
        self._failures = 0

    async def start(self, item: object) -> None:
        """Start the body of the next item, as soon as fewer than `at_once` are in progress."""
        await self._places.acquire()
        self.nursery.start_soon(self._run, self._started, item)
        self._started += 1

    def check(self) -> None:
        """Raise the first error of a body, if there was one."""
        if self._error is not None:
            raise self._error

    async def _run(self, index: int, item: object) -> None:
        try:
            value = await self._outcome(index, item)
            turn = index if self._ordered else self._done
            self._done += 1
            await self._pass_on(turn, value)
        except Exception as error:  # noqa: BLE001 - kept, and raised by `check`, not in a group
            if self._error is None:
                self._error = error
            self.nursery.cancel_scope.cancel()

    async def _outcome(self, index: int, item: object) -> object:
        """The value of a body; a `Failed` if it failed and `failures_max` allows that."""
        if self._failures_max is None:
            return await self._value(index, item)
        try:
            return await self._value(index, item)
        except Exception as error:
            stopped = trio.current_effective_deadline() == -inf  # cancelled, not failed
            if stopped or is_permanent(bare(error), within_run=True):
                raise
            return self._failed(index, item, error, self._failures_max)

    def _failed(
        self, index: int, item: object, error: Exception, failures_max: int
    ) -> Failed[object]:
        path, own = self._frame.path + self._operation.name, bare(error)
        name, said = name_and_message(own)
        self._frame.run.journal.append(ItemFailed, path, index, name, said)
        self._failures += 1
        if self._failures > failures_max:
            raise LimitExceededError(
                f"more than {failures_max} of the items of {path!r} have failed, the last one item "
                f"{index} with {name}; raise each(..., failures_max=...) if more may fail",
                limit="failures_max",
            ) from own
        return Failed(
            index=index,
            item=item,
            error=name,
            message=said,
            step=error.step if isinstance(error, Failure) else f"{path}[{index}]",
            retryable=getattr(own, "retryable", False) is True,
            model=ModelFacts.of(own) if isinstance(own, ModelError) else None,
        )

    async def _value(self, index: int, item: object) -> object:
        outer, operation = self._frame, self._operation
        block = cast("Block", operation.body)
        path = f"{outer.path}{operation.name}[{index}]/"
        frame = Frame(outer.run, block, path, {}, outer.scope_of(operation))
        frame.above, frame.nesting = outer, outer.nesting
        for there, here in block.imports:
            frame.values[here] = outer.values[there]
        frame.values[cast("int", block.item)] = item
        try:
            value = await frame.enter(0, partial(collected, frame))
            cut = is_cut(frame, block.regions[0].source.slot)
        finally:
            forget_cuts(frame)
        if cut:
            outer.run.cuts[outer.path + operation.name] = True
        return value

    async def _pass_on(self, turn: int, value: object) -> None:
        """Pass on all values whose turn has come, one by one: a lane has one writer."""
        self._early[turn] = value
        if turn != self._next:
            return  # the task whose turn it is passes this one on as well
        while self._next in self._early:
            await self._put(self._early.pop(self._next))
            self._places.release()
            self._next += 1
