"""Flights: one shared call, and its waiters.

The theory: a flight is a task beside the runs, a list of items, and for each waiter the number
of items that it has read. All items are kept from the beginning, so that a late joiner gets them
at once, until they exceed `held_bytes`. From then on, nobody can join, and items that all waiters
have read are dropped; unread items hold the call back (backpressure).

If a flight has to queue for the limits of its opener (the caller that started it), other callers
need not wait for that. They are turned away and ask again: each queues for its own limits, and
the first flight that is admitted takes over the waiters of the others.

Rules of the file: joining, leaving and ending a flight await nothing, so nobody joins a flight
that is about to be cancelled. The last waiter to leave cancels it at once. However it ends, every
waiter is woken. Nearly all flights have one waiter, which reads without delay: objects for further
waiters are made when they are needed.

The task does exist from the start, although it and its cancel scope are two thirds of the cost of
a flight, and a quarter of the cost of all policies. A call can be cancelled only through a scope
that its task has entered. If the call began in the first caller's task, it could not continue
when that caller leaves: its scopes and nurseries would belong to that task, and its waits could
only be ended by a cancellation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from copy import copy
from math import inf
from typing import Generic, TypeVar

import trio

from orchestra.accounts import Usage
from orchestra.errors import (
    LimitReachedError,
    ModelConnectionError,
    ModelError,
    ModelTimeoutError,
)
from orchestra.events import BudgetReached, Note
from orchestra.groups import abandon_nurseries, split_in_task
from orchestra.policies.account import NOBODY, PRESENT, Account, JointAccount
from orchestra.policies.flights.coalesce import Bill, CoalesceRule, Question
from orchestra.policies.flights.waiter import Waiter
from orchestra.values import Vector

Item = TypeVar("Item")
E = TypeVar("E", bound=BaseException)


class Flight(JointAccount, Generic[Item]):
    """One call for several waiters; `closed` is called when nobody can join any more.

    `size_bytes` returns the size of an item for `say`. The flight is the account of its call:
    the call uses the limits and budgets of its opener, and all waiters pay for it.
    """

    # Class attributes are defaults that nearly all flights keep, so that instances stay small.
    caller = NOBODY.caller
    """The opener's caller; `run_id`, `step` and `run_key` are the opener's, too."""
    run_id = step = ""
    run_key: object = None
    vector: Vector | None = None
    """The vector of the question; None before the first comparison."""
    queued = False
    """Whether the call waits for the limits of its opener."""
    begun = False
    """Whether the limits of its opener have admitted the call."""
    overtakes: Callable[[Flight[Item]], None] | None = None
    """Called when the call has `begun`, if there are other flights with the same question."""
    held_bytes = 0
    _joined = 0
    _dropped = 0
    _over = False
    _succeeded = False
    _error: BaseException | None = None
    _opener = _last = NOBODY
    _name = ""
    """The model whose calls are shared, or the route."""
    _landed: trio.Event | None = None
    _progress: trio.lowlevel.ParkingLot | None = None
    _notes: tuple[Callable[[object], None], ...] = ()

    def __init__(
        self,
        question: Question,
        rule: CoalesceRule,
        size_bytes: Callable[[Item], int] | None,
        closed: Callable[[Flight[Item]], None],
    ) -> None:
        self.question = question
        self.bill = Bill()
        self.waiters: list[Waiter[Item]] = []
        self._rule = rule
        self._size_bytes = size_bytes
        self._closed: Callable[[Flight[Item]], None] | None = closed
        self._runs: set[str] = set()
        self._kept: list[Item] = []
        self._patience_s = rule.lag_s
        self._scope = trio.CancelScope()

    @property
    def open(self) -> bool:
        """Whether the flight can be joined: all items are kept, and more may come."""
        return self._closed is not None and self._joined < self._rule.waiters_max

    def opened_by(self, account: Account) -> bool:
        """Whether the call is made on this account."""
        return self._opener is account

    def has_served(self, run_id: str) -> bool:
        """Whether a waiter of this run has ever joined."""
        return bool(run_id) and run_id in self._runs

    def join(self, waiter: Waiter[Item]) -> Waiter[Item]:
        """Add a waiter, which reads the items from the beginning."""
        assert self.open, "the caller checks it"
        account = waiter.account
        waiter.flight, waiter.read, waiter.error = self, 0, None
        self.waiters.append(waiter)
        self._runs.add(account.run_id)
        self._joined += 1
        self._last = account
        for note in self._notes:
            note(account.run_key)
        return waiter

    def start(self, opener: Account, call: Callable[[], Awaitable[None]], name: str) -> None:
        """Start the call of the model `name`, in a task beside the runs of the opener's engine."""
        self._opener, self._name = opener, name
        self.caller, self.run_id = opener.caller, opener.run_id
        self.step, self.run_key = opener.step, opener.run_key
        title = f"a shared call of {name!r}"

        async def fly() -> None:
            PRESENT.set(self)
            try:
                with self._scope:
                    if self.waiters:  # otherwise all of them left before the task began
                        await call()
                        self._succeeded = True
            except BaseException as error:  # noqa: ASYNC103, BLE001 - raised in all waiters
                self._error, onward = split_in_task(error)
                try:
                    if onward is not None:
                        raise onward from onward.__cause__  # noqa: ASYNC104 - not the call's own
                finally:
                    del onward  # noqa: ASYNC104 - its traceback references this frame
            finally:
                self._end(title)
                abandon_nurseries()

        opener.spawn(fly, title)

    def queue(self) -> None:
        """As `JointAccount.queue`; turns the waiters of other callers away."""
        if self.begun or self._count:
            return
        self.queued, opener = True, self.caller
        for waiter in [each for each in self.waiters if each.account.caller != opener]:
            waiter.turned_away = True
            self._part_with(
                waiter,
                LimitReachedError(
                    f"an equal call waits for the limits of {opener}; ask again",
                    code="coalesce",
                ),
            )

    def begin(self) -> None:
        """As `JointAccount.begin`; takes over the waiters of equal flights not admitted yet."""
        self.begun, self.queued = True, False
        if self.overtakes is not None:
            self.overtakes(self)

    @property
    def until_s(self) -> float:
        """The latest deadline of the waiters; infinite if there are none.

        The call itself gets no deadline from it, since the waiters' deadlines may change: a limit
        for the first chunk does not apply to later ones.
        """
        return max((waiter.until_s for waiter in self.waiters), default=inf)

    def each_run(self, note: Callable[[object], None]) -> None:
        """As `JointAccount.each_run`."""
        self._notes = (*self._notes, note)
        keys = [each.account.run_key for each in self.waiters]
        for key in {id(key): key for key in keys}.values():
            note(key)

    def used(self, usage: Usage, model: str = "") -> None:
        """Add the usage of a part of the call to the shared bill, unless it is settled already."""
        del model  # the waiters pay for the shared call, whichever model of a route it is
        self.bill.add(usage)
        if self._over:
            self._settle()

    def record(self, note: type[Note], *fields: object) -> None:
        """Write an event into each waiter's journal; one about a budget only into the opener's."""
        if note is BudgetReached:
            self._opener.record(note, *fields)
            return
        for waiter in self.waiters:
            waiter.account.record(note, *fields)

    def spawn(self, task: Callable[[], Awaitable[None]], name: str) -> None:
        """Run a task beside the runs of the opener's engine."""
        self._opener.spawn(task, name)

    async def publish(self, *items: Item) -> None:
        """Give all waiters the next items; wait while too many bytes are unread by one of them."""
        assert self._size_bytes is not None, "items without a size go through `tell_whole`"
        self._kept += items
        for item in items:
            self.held_bytes += self._size_bytes(item)
        for waiter in self.waiters:
            waiter.wake()
        while self.held_bytes > self._rule.held_bytes and self._crowded():
            slow = min(waiter.read for waiter in self.waiters)
            starved = any(waiter.read == self._count for waiter in self.waiters)
            began_s = trio.current_time()
            with trio.move_on_after(self._patience_s if starved else inf) as patience:
                if self._progress is None:
                    self._progress = trio.lowlevel.ParkingLot()
                await self._progress.park()
            if starved:
                self._patience_s -= min(trio.current_time() - began_s, self._patience_s)
            if patience.cancelled_caught:
                self._leave_behind(slow)

    def tell_whole(self, answer: Item) -> None:
        """Give all waiters the complete answer; the call has to end right after this.

        So no waiter has to wait for a slow one.
        """
        self._kept.append(answer)

    def ended(self, waiter: Waiter[Item]) -> bool:
        """As `Waiter.ended`."""
        return self._over and self._error is waiter.error is None and waiter.read == self._count

    def unread(self, waiter: Waiter[Item]) -> tuple[Item, ...] | None:
        """The waiter's next items, as for `Waiter.receive`; None if it has to wait."""
        if waiter.error is not None:
            raise waiter.error
        begun, kept = waiter.read - self._dropped, self._kept
        if begun < len(kept):
            waiter.read = self._dropped + len(kept)
            if self._progress is not None:
                self._progress.unpark_all()
            return tuple(kept[begun:])
        if not self._over:
            return None
        if self._error is not None:
            raise _own(self._error)
        return ()

    def left(self, waiter: Waiter[Item]) -> bool:
        """Remove a waiter; return whether it was the last one of a running call, now cancelled."""
        if waiter not in self.waiters:
            return False
        if not self._over:
            paid = self.bill.pay(len(self.waiters), self.waiters.index(waiter))
            if paid is not None:
                waiter.account.used(paid, self._name)
        self.waiters.remove(waiter)
        self._last = waiter.account
        if self._progress is not None:
            self._progress.unpark_all()
        if self.waiters or self._over:
            return False
        self._close()
        self._scope.cancel()
        return True

    async def wait_over(self) -> None:
        """Wait until the call has ended and released its resources."""
        if not self._over:
            if self._landed is None:
                self._landed = trio.Event()
            await self._landed.wait()

    def _end(self, title: str) -> None:
        self._close()
        if not self._succeeded and self._error is None:
            self._error = ModelConnectionError(
                f"{title}: the engine that made the call was closed; ask again in another engine",
                code="engine",
            )
        self._settle()
        self._over = True
        for waiter in self.waiters:
            waiter.wake()
        if self._landed is not None:
            self._landed.set()

    def _settle(self) -> None:
        """Charge the waiters that stayed; if all have left, the last one, for later usage."""
        payers = [waiter.account for waiter in self.waiters] or [self._last]
        for at, usage in enumerate(self.bill.settle(len(payers))):
            payers[at].used(usage, self._name)

    @property
    def _count(self) -> int:
        """The number of items so far."""
        return self._dropped + len(self._kept)

    def _crowded(self) -> bool:
        """Close the flight and drop what all have read; return whether the rest is too much."""
        self._close()
        if self.waiters and self._size_bytes is not None:
            read = min(waiter.read for waiter in self.waiters) - self._dropped
            self.held_bytes -= sum(map(self._size_bytes, self._kept[:read]))
            self._dropped += read
            del self._kept[:read]
        return bool(self.waiters) and self.held_bytes > self._rule.held_bytes

    def _leave_behind(self, read: int) -> None:
        for waiter in [each for each in self.waiters if each.read == read]:
            error = ModelTimeoutError(
                "the answer was read too slowly: callers who share it have waited for "
                f"lag_s={self._rule.lag_s:g} s; read faster, or ask with extras={{'orchestra': "
                "{'coalesce': False}}",
                code="lag_s",
            )
            self._part_with(waiter, error)

    def _part_with(self, waiter: Waiter[Item], error: Exception) -> None:
        waiter.error = error
        self.left(waiter)
        waiter.wake()

    def _close(self) -> None:
        closed = self._closed
        if closed is not None:
            self._closed = None
            closed(self)


def _own(error: E) -> E:
    """A copy of an error for one waiter, so that waiters do not share notes and tracebacks.

    Only a `ModelError` can be copied; other errors are raised as they are.
    """
    raised = error
    if isinstance(error, ModelError):
        raised = copy(error)
        raised.__cause__, raised.__context__ = error.__cause__, error.__context__
        raised.__suppress_context__ = error.__suppress_context__
    return raised.with_traceback(error.__traceback__)
