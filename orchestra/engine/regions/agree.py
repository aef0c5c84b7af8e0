"""Polls: the arms of a quorum or a `best_of`, and the outcome of their complete values.

An arm may fail without failing the poll. As soon as the outcome is certain, success or failure,
running arms are closed, and the others never start.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

import trio

from orchestra.engine.frames.reading import read
from orchestra.engine.frames.scope import Scope, bare
from orchestra.engine.regions.votes import Votes
from orchestra.errors import ArmsFailedError, DisagreedError, NoQuorumError
from orchestra.events import ArmCommitted, ArmFailed
from orchestra.graph.calls.raised import name_and_message
from orchestra.graph.control.agreeing import Comparison, Quorum, Survivors

if TYPE_CHECKING:
    from orchestra.compiler.blocks.slots import Operation, Source
    from orchestra.engine.frames.frame import Frame

T = TypeVar("T")


async def quorum_value(frame: Frame, operation: Operation[Quorum]) -> object:
    """The value that enough arms agree on.

    Raises:
        NoQuorumError: not enough arms can agree any more.
    """
    return await _Counted(frame, operation).outcome()


async def surviving_values(frame: Frame, operation: Operation[Survivors]) -> list[object]:
    """The values of the arms that did not fail, in the order of the arms.

    Raises:
        ArmsFailedError: too few arms are left.
    """
    return await _Surviving(frame, operation).outcome()


class _Poll(ABC):
    """A running poll."""

    def __init__(self, frame: Frame, operation: Operation[Comparison]) -> None:
        self.names = operation.node.arm_names
        self.path = frame.path + operation.name
        self.values: dict[str, object] = {}
        self.errors: dict[str, Exception] = {}
        self.over: str | None = None
        """The reason why all arms are stopped; None while the outcome is open."""
        self._frame = frame
        self._regions = operation.regions
        self._slot = operation.slot

    @abstractmethod
    def take_value(self, arm: str, value: object) -> None:
        """Handle the value of an arm."""

    @abstractmethod
    def failed(self) -> None:
        """Handle the failure of an arm, which is in `errors`."""

    async def due(self, arm: int) -> bool:
        """Wait until an arm has to start; False if it is no longer needed."""
        del arm
        return True

    async def run(self) -> None:
        """Start the arms as they are due, and return when all of them have ended."""
        async with trio.open_nursery() as nursery:
            for arm, name in enumerate(self.names):
                if not await self.due(arm):
                    break
                nursery.start_soon(self._run_arm, name, self._regions[arm], name=name)

    def stop(self, reason: str) -> None:
        """Close every arm now."""
        self.over = reason
        for region in self._regions:
            self._frame.close(region, reason)

    def in_order(self, by_arm: Mapping[str, T]) -> dict[str, T]:
        """The entries of a mapping by arm, in the order of the arms."""
        return {name: by_arm[name] for name in self.names if name in by_arm}

    def tell_failure(self, arm: str, error: Exception) -> None:
        """Record in the journal that an arm is left out, and why."""
        self._frame.run.journal.append(ArmFailed, self.path, arm, *name_and_message(error))

    def take(self, arms: Iterable[str]) -> None:
        """Record the arms that the result is made from."""
        self._frame.taken[self._slot] = [self._regions[self.names.index(arm)] for arm in arms]

    async def _run_arm(self, arm: str, region: int) -> None:
        if self.over is not None:
            return
        try:
            await self._frame.enter(region, partial(self._take, arm, region))
        except Exception as error:  # noqa: BLE001 - kept: the other arms may be enough
            if self.over is None:
                self.errors[arm] = bare(error)
                self.tell_failure(arm, bare(error))
                self.failed()

    async def _take(self, arm: str, region: int, source: Source) -> None:
        """Take the value of an arm, unless the arm fails at the same moment."""
        scope = cast("Scope", self._frame.scopes[region])
        if self.over is None and scope.closed is None:
            self.take_value(arm, read(self._frame, source))


class _Counted(_Poll):
    """A quorum."""

    def __init__(self, frame: Frame, operation: Operation[Quorum]) -> None:
        super().__init__(frame, operation)
        node = operation.node
        self._votes = Votes(node.count, len(node.arms), node.agree or operator.eq)
        self._stagger_s = node.stagger_s
        self._news = trio.lowlevel.ParkingLot()

    async def due(self, arm: int) -> bool:
        if self._stagger_s and arm >= self._votes.count:
            with trio.move_on_after(self._stagger_s):
                while not (self.over or self._votes.is_impossible(idle=len(self.names) - arm)):
                    await self._news.park()
        return self.over is None

    async def outcome(self) -> object:
        await self.run()
        if self._votes.winner is not None:
            return self._votes.winner[0][1]
        count, done = self._votes.count, {*self.values, *self.errors}
        left = [name for name in self.names if name not in done]
        others = f"; not waited for: {', '.join(left)}" if left else ""
        message = f"no {count} of {len(self.names)} arms of {self.path!r} agree{others}:"
        raise NoQuorumError(message, self.in_order(self.errors), self.in_order(self.values))

    def take_value(self, arm: str, value: object) -> None:
        self._votes.add(arm, value)
        self.values[arm] = value
        winner = self._votes.winner
        if winner is None:
            self._check()
            return
        first = winner[0][0]
        agreed = {name for name, _ in winner}
        for other, given in self.values.items():
            if other not in agreed:
                message = f"arm {other} gave {given!r:.200}, but {len(agreed)} agree with {first}"
                self.tell_failure(other, DisagreedError(message))
        self.take([first])
        self._frame.run.journal.append(ArmCommitted, self.path, first)
        self.stop(f"{len(agreed)} arms agree with {first}")
        self._news.unpark_all()

    def failed(self) -> None:
        self._votes.leave()
        self._check()

    def _check(self) -> None:
        if self._votes.is_impossible():
            self.stop(f"no {self._votes.count} arms can agree any more")
        self._news.unpark_all()


class _Surviving(_Poll):
    """The arms of a `best_of`."""

    def __init__(self, frame: Frame, operation: Operation[Survivors]) -> None:
        super().__init__(frame, operation)
        self._least = operation.node.least

    async def outcome(self) -> list[object]:
        await self.run()
        if self.over is None:
            self.take(self.values)
            return [*self.in_order(self.values).values()]
        what = "every arm" if self._least == 1 else f"all but {self._left} of the arms"
        wanted = "" if self._least == 1 else f", and least={self._least}"
        raise ArmsFailedError(
            f"{what} of {self.path!r} failed{wanted}:", self.in_order(self.errors)
        )

    def take_value(self, arm: str, value: object) -> None:
        self.values[arm] = value

    def failed(self) -> None:
        if self._left < self._least:
            self.stop(f"fewer than least={self._least} arms are left")

    @property
    def _left(self) -> int:
        return len(self.names) - len(self.errors)
