"""Group commit: calls that arrive while a batch is in progress are performed as the next batch.

One task at a time, the leader, calls the store; the others wait. When the leader has its outcomes,
it wakes the first waiting task, which becomes the leader of a batch of all waiting calls.

Rules of the file:

1. A task that is woken without an outcome becomes the leader, or wakes the next; even if it is
   cancelled at the same moment.
2. A batch in progress is shielded from cancellation, and has a timeout: so a cancelled call has
   happened completely, or not at all.
3. Once a call has left the queue, only its leader sets its outcome.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import attrs
import trio

from orchestra.errors import StateError
from orchestra.messages import describe
from orchestra.protocols import Change, Entry
from orchestra.stores.state.fair_time import FairTime
from orchestra.stores.state.outage import Outage, outage_of_state

T = TypeVar("T")

CALLS_AT_ONCE = 256
"""The most calls in a batch; the store is busy until all of them are done."""
CALLS_WAITING = 10_000
"""The most waiting calls; more are refused, since they would be too late."""


@attrs.frozen
class Deciding(Generic[T]):
    """A call of `State.change`."""

    keys: Sequence[str]
    decide: Callable[[Sequence[bytes | None], float], Change[T]]


@attrs.frozen
class Recalling:
    """A call of `State.recall`."""

    key: str


@attrs.frozen
class Remembering:
    """A call of `State.remember`."""

    key: str
    data: bytes
    ttl_s: float


Call = Deciding[Any] | Recalling | Remembering


@attrs.frozen
class Failed:
    """The outcome of a call that raises `error`; `decided` is whether its `decide` raised it."""

    error: Exception
    decided: bool = False


Outcomes = Sequence[object]
"""For each call, its result or `Failed`."""


@attrs.define(eq=False)
class _Waiting:
    call: Call
    called: trio.Event = attrs.field(factory=trio.Event)
    done: bool = False
    outcome: object = None


class Group:
    """Performs the calls to one store in batches; `place` is what errors call the store.

    `perform` performs a batch, and returns an outcome for each call, in order. If it raises, all
    calls of the batch raise a StateError, so that callers that can do without the state have one
    error to expect. If it raises a StateError itself, all waiting calls raise it as well, since
    they would fail in the same way later.

    A call returns or raises within `timeout_s`; one that waits and then becomes the leader, within
    twice that. Time in which the event loop was blocked does not count.
    """

    def __init__(
        self, place: str, perform: Callable[[Sequence[Call]], Awaitable[Outcomes]], timeout_s: float
    ) -> None:
        self._place = place
        self._perform = perform
        self._timeout_s = timeout_s
        self._time = FairTime(timeout_s)
        self.outage: Outage | None = outage_of_state(place)
        """Logs that the store is unreachable; None if the callers do."""
        self.writing = False
        """Set by `perform` when it begins to write; a failure then may have changed something."""
        self._queue: deque[_Waiting] = deque()
        self._led = False

    async def do(self, call: Call) -> Any:
        """Perform a call, and return its result.

        Raises:
            StateError: the store is unreachable, was too slow, or has too many waiting calls.
            Exception: whatever the call's own `decide` has raised.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if len(self._queue) >= CALLS_WAITING:
            raise StateError(
                f"{self._place}: {CALLS_WAITING} calls are waiting already: this state is too "
                "slow for its load; send fewer requests, or use a faster state"
            )
        mine = _Waiting(call)
        self._queue.append(mine)
        if self._led:
            await self._wait(mine)
        if not mine.done:
            await self._lead()
        if isinstance(mine.outcome, Failed):
            raise mine.outcome.error
        return mine.outcome

    async def _wait(self, mine: _Waiting) -> None:
        """Wait until there is an outcome, or it is this call's turn to lead."""
        try:
            with self._time.limited():
                await mine.called.wait()
        except BaseException:  # cancelled
            self._leave(mine)
            raise
        if not mine.called.is_set():
            self._leave(mine)
            raise StateError(self._late())

    def _leave(self, mine: _Waiting) -> None:
        """Remove a call from the queue; if it was woken at the same moment, wake the next."""
        if mine in self._queue:
            self._queue.remove(mine)
            if mine.called.is_set():
                self._call_next()

    async def _lead(self) -> None:
        self._led = True
        batch = [self._queue.popleft() for _ in range(min(CALLS_AT_ONCE, len(self._queue)))]
        try:
            outcomes = await self._performed([waiting.call for waiting in batch])
            self._tell(outcomes)
            for waiting, outcome in zip(batch, outcomes, strict=True):
                waiting.outcome, waiting.done = outcome, True
                waiting.called.set()
        finally:
            self._call_next()

    def _call_next(self) -> None:
        self._led = bool(self._queue)
        if self._led:
            self._queue[0].called.set()

    async def _performed(self, calls: Sequence[Call]) -> Outcomes:
        """Perform a batch, and return its outcomes.

        It is shielded from cancellation, but a store that hangs is given up after `timeout_s`.
        """
        self.writing = False
        try:
            with self._time.limited(shield=True):
                return await self._perform(calls)
            error = StateError(self._late(self.in_doubt()))
        except StateError as raised:
            error = raised
        except Exception as raised:  # noqa: BLE001 - it is raised in all calls of the batch
            return [Failed(_again(self._broken(raised))) for _ in calls]
        while self._queue:
            waiting = self._queue.popleft()
            waiting.outcome, waiting.done = Failed(_again(error)), True
            waiting.called.set()
        return [Failed(_again(error)) for _ in calls]

    def _tell(self, outcomes: Outcomes) -> None:
        """Tell `outage` whether the store has failed in a batch."""
        if self.outage is None:
            return
        failed = (each for each in outcomes if isinstance(each, Failed) and not each.decided)
        first, now_s = next(failed, None), trio.current_time()
        if first is None:
            self.outage.answered(now_s)
        else:
            self.outage.failed(first.error, now_s)

    def _broken(self, error: Exception) -> StateError:
        """The error for an unexpected exception of the store."""
        broken = StateError(f"{self._place}: the call failed: {describe(error)}{self.in_doubt()}")
        broken.__cause__ = error
        return broken

    def in_doubt(self) -> str:
        """The clause for an error of a batch that had begun to write; else empty."""
        return "; the change may or may not have been made" if self.writing else ""

    def _late(self, in_doubt: str = "") -> str:
        """The message for a store that did not answer in time."""
        return (
            f"{self._place}: no answer within {self._timeout_s:g} s{in_doubt}. Check the state, or "
            "give it a longer timeout_s"
        )


def _again(error: StateError) -> StateError:
    """A copy of an error to raise in another task, with its own traceback."""
    again = StateError(*error.args)
    again.__cause__ = error.__cause__
    return again


def decide_all(
    calls: Sequence[Deciding[Any]], there: Mapping[str, bytes | None], now_s: float
) -> tuple[Outcomes, dict[str, Entry | None]]:
    """Decide some changes in order; returns their outcomes, and the entries to write.

    `there` has what is stored under all their keys. Each `decide` sees the changes before it. One
    that raises changes nothing.
    """
    seen = dict(there)
    outcomes: list[object] = []
    written: dict[str, Entry | None] = {}
    for call in calls:
        try:
            change = call.decide([seen[key] for key in call.keys], now_s)
        except Exception as error:  # noqa: BLE001 - it is raised in its caller
            outcomes.append(Failed(error, decided=True))
            continue
        outcomes.append(change.result)
        for key, entry in change.entries.items():
            written[key] = entry
            lasts = entry is not None and (entry.ttl_s is None or entry.ttl_s > 0)
            seen[key] = entry.data if entry is not None and lasts else None
    return outcomes, written
