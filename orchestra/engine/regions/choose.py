"""Choices: races, fallbacks and routes, each arm a region of its own.

Output of an arm before its commit is held (in an `ArmBuffer`), and dropped if the arm fails.
A fallback is a race whose next arm starts only when all before it have failed. In both, an
arm may fail without failing the choice until one is committed to. Then the others are closed
at once, and the rest of the winner's output, or its error, is that of the choice: answers are
never spliced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, cast

import trio

from orchestra.compiler.blocks.slots import Operation, Source
from orchestra.compiler.plan import named_by
from orchestra.engine.frames.reading import arguments, read
from orchestra.engine.frames.scope import Scope, bare
from orchestra.engine.lanes.arm_buffer import ArmBuffer
from orchestra.engine.lanes.lane import Lane
from orchestra.engine.lanes.outflow import Outflow
from orchestra.errors import ArmsFailedError, NoContentError, RefusedError, RouteError
from orchestra.events import ArmCommitted, ArmFailed
from orchestra.graph.calls.raised import name_and_message
from orchestra.graph.nodes import Fallback, Race, Route
from orchestra.graph.rules.commits import FirstContent
from orchestra.groups import taken_by
from orchestra.policies.hedge import Hedging
from orchestra.values import Label

if TYPE_CHECKING:
    from orchestra.engine.frames.frame import Frame


async def race(
    frame: Frame, operation: Operation[Race | Fallback], outflow: Outflow | None = None
) -> object:
    """The value of the first arm that has one; with an outflow, the chunks of the first with any.

    Raises:
        ArmsFailedError: no arm had one.
        Exception: the winner's error, after it had won; or one after which no other arm is tried.
    """
    return await Contest(frame, operation, outflow).run()


class Contest:
    """A running race or fallback."""

    def __init__(
        self, frame: Frame, operation: Operation[Race | Fallback], outflow: Outflow | None
    ) -> None:
        node = operation.node
        self._value: object = None
        self._frame = frame
        self._operation = operation
        self._outflow = outflow
        self._rule = node.commit
        self._validate = node.validate
        self._names = node.arm_names
        self._path = frame.path + operation.name
        self._on: tuple[type[BaseException], ...] = (Exception,)
        self._restarts = False
        self._hedging: Hedging | None = None
        if isinstance(node, Fallback):
            self._on, self._restarts, self._stagger_s = taken_by(node.on), node.restart, inf
        elif node.hedge is None:
            self._stagger_s = node.stagger_s
        else:
            hedges = frame.run.shared.hedges
            model = _model_of_first(frame, cast("Operation[Race]", operation))
            of_model = None if model is None else hedges.of_model(model)
            self._hedging = Hedging(hedges.of(node, node.hedge), of_model, node.stagger_s)
            self._stagger_s = self._hedging.delay_s
        self._spoke = False
        """Whether output was passed on that a restart has to take back."""
        self._done = False
        """Whether the winner has passed on all its output."""
        self._errors: dict[str, BaseException] = {}
        self._winner: int | None = None
        self._error: Exception | None = None
        self._news = trio.lowlevel.ParkingLot()

    async def run(self) -> object:
        """Start the arms as they are due, and return the winner's value when all have ended.

        Raises:
            ArmsFailedError: no arm was committed to.
            Exception: the winner's error; or one after which no other arm is tried.
        """
        regions = self._operation.regions
        try:
            async with trio.open_nursery() as nursery:
                for arm in range(len(regions)):
                    if arm and not await self._due(arm):
                        break
                    nursery.start_soon(self._run_arm, arm, name=self._names[arm])
        finally:
            self._first_ended(committed=False)  # needed only if the race was cancelled
            if self._winner is not None:
                for region in regions:
                    self._frame.settle(region, self._over)
        if self._error is not None:
            raise self._error
        if self._winner is None:
            raise ArmsFailedError(f"every arm of {self._path!r} failed:", self._errors)
        return self._value

    @property
    def _over(self) -> str:
        """The reason why an arm that is not the winner is stopped."""
        return f"{self._names[cast('int', self._winner)]} was committed to"

    async def _due(self, arm: int) -> bool:
        """Wait until an arm has to start; False if it is no longer needed."""
        if self._stagger_s:
            with trio.move_on_after(self._stagger_s):
                await self._needed(arm)
        if not self._ready(arm) and self._hedging is not None and not self._hedging.take():
            await self._needed(arm)
        return not self._decided

    async def _needed(self, arm: int) -> None:
        """Wait until all arms before this one have failed, or no further arm is needed."""
        while not self._ready(arm):
            await self._news.park()

    def _ready(self, arm: int) -> bool:
        return self._decided or len(self._errors) >= arm

    def _first_ended(self, *, committed: bool) -> None:
        """Report the duration of the first arm, so far or to its commit, to the hedge if any."""
        if self._hedging is not None:
            self._hedging.ended(committed=committed)

    @property
    def _decided(self) -> bool:
        if self._error is not None:
            return True
        return self._winner is not None and (self._done or not self._restarts)

    async def _run_arm(self, arm: int) -> None:
        if self._winner is not None:
            return
        try:
            await self._frame.enter(self._operation.regions[arm], partial(self._take, arm))
        except Exception as error:  # noqa: BLE001 - kept: the others may still win
            self._fail(arm, error)
        self._end(arm)

    def _end(self, arm: int) -> None:
        """Handle the end of an arm; if it is still the winner, no other arm is needed."""
        if self._winner == arm:
            self._done = True
            self._news.unpark_all()

    def _fail(self, arm: int, error: Exception) -> None:
        if arm == 0:
            self._first_ended(committed=False)
        if self._winner == arm and self._restarts:
            self._winner = None
        if self._winner == arm:
            self._error = error
        if self._winner is not None:
            return
        if not isinstance(bare(error), self._on):  # `on` excludes it: no other arm is tried
            self._error = error
            self._news.unpark_all()
            return
        name, error = self._names[arm], bare(error)
        self._errors[name] = error
        self._frame.run.journal.append(ArmFailed, self._path, name, *name_and_message(error))
        self._news.unpark_all()

    async def _take(self, arm: int, source: Source) -> None:
        """Take the result of an arm: its value, or its chunks from the first with content."""
        got = read(self._frame, source)
        if self._outflow is None:
            self._check(arm, lambda: got)
            scope = cast("Scope", self._frame.scopes[self._operation.regions[arm]])
            # Another step of the arm may have failed at this moment: then the arm has failed.
            if scope.closed is None and self._commit(arm):
                self._value = got
            return
        lane = cast("Lane[object]", got)
        batch = await self._hold(arm, lane, source.chunk)
        if not self._commit(arm):
            return
        if self._spoke:
            await self._outflow.restart(self._path, self._names[arm])
        self._spoke = True
        while batch:
            await self._outflow.put_all(batch)
            batch = await lane.receive()

    async def _hold(self, arm: int, lane: Lane[object], chunk: object) -> Sequence[object]:
        """Hold the arm's chunks until its rule is met; returns all that were received by then."""
        held = ArmBuffer(self._names[arm], self._rule, self._frame.run.shared.limits)
        while batch := await lane.receive():
            for place, said in enumerate(batch, 1):
                if held.add(said):
                    self._check(arm, partial(held.joined, chunk))
                    return [*held.chunks, *batch[place:]]
        if held.chunks:  # it has ended without an error, so nothing more can come
            self._check(arm, partial(held.joined, chunk))
            return held.chunks
        raise NoContentError(f"arm {self._names[arm]} ended without any content")

    def _check(self, arm: int, said: Callable[[], object]) -> None:
        """Call `validate`, if there is one, with the arm's output so far."""
        validate = self._validate
        if validate is None or self._winner is not None:
            return
        value = said()
        if not validate(value):
            name = getattr(validate, "__qualname__", repr(validate))
            raise RefusedError(f"arm {self._names[arm]} was refused by {name}: {value!r:.200}")

    def _commit(self, arm: int) -> bool:
        """Commit to an arm and close the others; False if another arm was faster."""
        if self._winner is not None:  # both were ready at the same moment
            return False
        self._winner = arm
        self._frame.taken[self._operation.slot] = [self._operation.regions[arm]]
        self._first_ended(committed=arm == 0)
        self._frame.run.journal.append(ArmCommitted, self._path, self._names[arm])
        if self._restarts:  # later arms may still be needed, and earlier ones have ended
            return True
        for other, region in enumerate(self._operation.regions):
            if other != arm:
                self._frame.close(region, self._over)
        self._news.unpark_all()
        return True


def _model_of_first(frame: Frame, operation: Operation[Race]) -> str | None:
    """The model for whose first content the first arm waits; None if it waits for anything else.

    Plain functions, such as a prompt of the arm's own, take no time. An arm that only passes on
    what others read, too, has no operation of its own.
    """
    if not isinstance(operation.node.commit, FirstContent):
        return None
    block = frame.block
    found = (block.operations[slot] for slot in block.regions[operation.regions[0]].members)
    waits = [each for each in found if each is not None and not each.plain]
    if len(waits) != 1 or waits[0].chunk is None:
        return None
    models = [name for _, seam, name in named_by(waits[0].node) if seam == "model"]
    return models[0] if len(models) == 1 else None


async def route(
    frame: Frame, operation: Operation[Route], outflow: Outflow | None = None
) -> object:
    """The value of the arm that the label selects; with an outflow, its chunks.

    Raises:
        RouteError: no arm has this key, and there is no default.
        Exception: the first error of a step in the arm.
    """
    node = operation.node
    (label,) = arguments(frame, operation).values()
    arm = _arm_for(node, label, frame.path + operation.name)
    frame.taken[operation.slot] = [operation.regions[arm]]
    for other, region in enumerate(operation.regions):
        if other != arm:
            frame.settle(region, f"the route took {node.arm_names[arm]!r}")
    return await frame.enter(operation.regions[arm], partial(_pass_on, frame, outflow))


async def _pass_on(frame: Frame, outflow: Outflow | None, source: Source) -> object:
    if outflow is None:
        return read(frame, source)
    lane = cast("Lane[object]", read(frame, source))
    while batch := await lane.receive():
        await outflow.put_all(batch)
    return None


def _arm_for(node: Route, label: object, path: str) -> int:
    """The index of the arm that a label selects."""
    key = label.name if isinstance(label, Label) else label
    if key in node.keys:
        return node.keys.index(key)
    if node.has_default:
        return len(node.keys)
    known = ", ".join(map(repr, node.keys))
    raise RouteError(
        f"{path!r} was given {key!r}, but has arms only for {known}; add an arm for it, or "
        "write route(..., default=...)"
    )
