"""Limits of calls: how many at once, how many and how many tokens a minute, and who waits.

One queue for all of them, first come, first served: whoever is at its head waits for whatever is
missing, and nobody passes. So a large question is not starved by small ones.

Rules of the file: no task of its own. The head of the queue sleeps until its time, and whoever
leaves (admitted, refused or cancelled) wakes the next. Between the decision to admit and its
effect nothing is awaited, so a cancellation finds a call either waiting or admitted.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection

import attrs
import trio

from orchestra.errors import LimitReachedError
from orchestra.policies.account import left_s
from orchestra.policies.clock import Clock
from orchestra.policies.limits.adaptive import Adaptive
from orchestra.policies.limits.gcra import Meter, Taken
from orchestra.protocols import WhenStateFails


@attrs.frozen(kw_only=True)
class CallLimits:
    """What a provider allows, or what we allow ourselves; None is no limit.

    No 60 seconds see more requests or tokens than a minute's, and a tenth of it goes at once.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Of questions and answers: estimated before a call, and settled after it."""
    concurrency: int | None = None
    """Calls at once; a streamed answer is one until it is left."""
    adaptive: bool = False
    """Whether `concurrency` is only the most: a refusal for want of room halves it for a while."""
    wait_max_s: float | None = 30.0
    """How long a call may wait, if its deadline is not before; None is until its deadline."""
    waiting_max: int = 1_000
    """Calls that may wait; one more is refused at once. As many as the transport lets wait."""
    shared: bool = False
    """Whether all processes with the same state keep them together."""
    when_state_fails: WhenStateFails = "open"
    """Whether calls go on unlimited, or are refused, while the state of shared ones is gone."""

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        limits = (self.requests_per_minute, self.tokens_per_minute, self.concurrency)
        return any(each is not None for each in limits)

    def of_process(self) -> CallLimits:
        """What a process keeps by itself: of shared ones, no more than adapts to refusals."""
        if not self.shared:
            return self
        concurrency = self.concurrency if self.adaptive else None
        return attrs.evolve(
            self, requests_per_minute=None, tokens_per_minute=None, concurrency=concurrency
        )


@attrs.frozen
class Load:
    """What is under way and what waits; `at_once` is what an adaptive concurrency has come to."""

    running: int
    waiting: int
    at_once: int | None = None


@attrs.define(eq=False)
class Admitted:
    """A call that is under way. Give it back with `leave`, once; `asked` are requests not sent."""

    taken: Taken | None
    began_s: float
    asked: Taken | None = None


@attrs.define(eq=False)
class _Waiter:
    requests: int
    tokens: int
    woken: trio.Event = attrs.field(factory=trio.Event)


def _nothing() -> None:
    """No objection."""


class Limiter:
    """The limits of one model, and its queue. Used in one `trio.run` at a time."""

    def __init__(self, limits: CallLimits, clock: Clock, name: str = "the model") -> None:
        self.limits = limits
        self._clock = clock
        self._name = name
        self._running = 0
        self._queue: deque[_Waiter] = deque()
        adapts = limits.adaptive and limits.concurrency is not None
        self._adaptive = Adaptive(limits.concurrency or 1) if adapts else None
        self._requests = _meter(limits.requests_per_minute)
        self._tokens = _meter(limits.tokens_per_minute)
        self.counts_tokens = self._tokens is not None
        """Whether it asks how many tokens a call takes."""

    @property
    def load(self) -> Load:
        """How many calls are under way, and how many wait."""
        at_once = self._adaptive.bound if self._adaptive is not None else None
        return Load(self._running, len(self._queue), at_once)

    def begin(self, now_s: float, requests: int = 1, tokens: int = 0) -> Admitted | None:
        """A call that takes this much and has begun, at once; None where it would have to wait.

        It is to be `sent`, or given back with `withdraw` if nobody was asked.
        """
        if self._queue or self._missing_s(now_s, requests, tokens) > 0:
            return None
        return self._begun(now_s, requests, tokens)

    async def enter(
        self, *, requests: int = 1, tokens: int = 0, check: Callable[[], None] = _nothing
    ) -> Admitted:
        """Wait until a call may begin that takes this much; then it has begun.

        `check` may object by raising while the call waits: before it begins, and whenever
        `wake_all` is called. Cancelled, or refused, nothing has been taken.

        Raises:
            LimitReachedError: too many wait already, it has waited for `wait_max_s`, or it is
                clear that it would wait for longer than that or than to the caller's deadline.
        """
        at_once = self.begin(self._clock.now_s(), requests, tokens)
        if at_once is not None:
            return at_once
        # Who is cancelled already has no time left, and would be refused for that.
        await trio.lowlevel.checkpoint_if_cancelled()
        waiter = _Waiter(requests, tokens)
        self._refuse_hopeless(waiter)
        await self._wait(waiter, check)
        return self._begun(self._clock.now_s(), requests, tokens)

    def sent(self, admitted: Admitted) -> None:
        """Somebody is asked: what it takes of requests stays taken."""
        if self._requests is not None and admitted.asked is not None:
            self._requests.state.settle(admitted.asked, admitted.asked.units)
            admitted.asked = None

    def withdraw(self, admitted: Admitted) -> None:
        """Give a call back that was not sent: it is as if it had never been."""
        if self._requests is not None and admitted.asked is not None:
            self._requests.state.settle(admitted.asked, 0)
            admitted.asked = None
        self.leave(admitted, tokens=0)

    def leave(self, admitted: Admitted, *, tokens: int, room: bool | None = None) -> None:
        """Give a call back, with the tokens that it really took.

        `room` is whether the provider had room for it; None where that is not known.
        """
        self._running -= 1
        taken = admitted.taken
        if self._tokens is not None and taken is not None:
            if tokens > taken.units:
                self._tokens.advance(self._clock.now_s())
            self._tokens.state.settle(taken, tokens)
        if self._adaptive is not None and room is not None:
            if room:
                self._adaptive.served()
            else:
                self._adaptive.refused(admitted.began_s, self._clock.now_s())
        if self._queue:
            self._wake_head()

    def wake_all(self) -> None:
        """Let every call that waits ask its `check` again."""
        for waiter in self._queue:
            waiter.woken.set()

    async def _wait(self, waiter: _Waiter, check: Callable[[], None]) -> None:
        wait_max_s = self.limits.wait_max_s
        self._queue.append(waiter)
        try:
            with trio.move_on_after(math.inf if wait_max_s is None else wait_max_s) as patience:
                await self._wait_turn(waiter, check)
        finally:
            self._queue.remove(waiter)
            self._wake_head()
        if patience.cancelled_caught:
            wait_s, _ = self._rates(waiter, self._queue)
            raise self._refused("wait_max_s", f"it has waited {wait_max_s:g} s", wait_s or None)

    async def _wait_turn(self, waiter: _Waiter, check: Callable[[], None]) -> None:
        while True:
            check()
            missing_s = math.inf
            if self._queue[0] is waiter:
                missing_s = self._missing_s(self._clock.now_s(), waiter.requests, waiter.tokens)
            if missing_s <= 0:
                return
            waiter.woken = trio.Event()
            with trio.move_on_after(missing_s):
                await waiter.woken.wait()

    def _begun(self, now_s: float, requests: int, tokens: int) -> Admitted:
        """Have a call begin of which `_missing_s` has said, just now, that it may."""
        self._running += 1
        asked = self._requests.state.take(requests) if self._requests is not None else None
        taken = None
        if self._tokens is not None:
            taken = self._tokens.state.take(self._tokens.rate.held(tokens))
        return Admitted(taken, now_s, asked)

    def _missing_s(self, now_s: float, requests: int, tokens: int) -> float:
        """Seconds until the first in the queue may begin; infinite where it hangs on others."""
        concurrency = self.limits.concurrency
        if self._adaptive is not None:
            concurrency = self._adaptive.bound
        if concurrency is not None and self._running >= concurrency:
            return math.inf
        missing_s = 0.0
        if self._requests is not None:
            missing_s = self._requests.wait_s(now_s, requests)
        if self._tokens is not None:
            wait_s = self._tokens.wait_s(now_s, tokens)
            missing_s = max(missing_s, wait_s)
        return missing_s

    def _rates(self, waiter: _Waiter, before: Collection[_Waiter]) -> tuple[float, str]:
        """Seconds until the rates allow a call behind others, and which of them it waits for."""
        now_s = self._clock.now_s()
        found = (0.0, "")
        if self._requests is not None:
            ahead = sum(each.requests for each in before)
            wait_s = self._requests.wait_s(now_s, waiter.requests, ahead)
            found = max(found, (wait_s, "requests_per_minute"))
        if self._tokens is not None:
            ahead = sum(each.tokens for each in before)
            wait_s = self._tokens.wait_s(now_s, waiter.tokens, ahead)
            found = max(found, (wait_s, "tokens_per_minute"))
        return found

    def _refuse_hopeless(self, waiter: _Waiter) -> None:
        """Refuse a call that need not wait to know that it waits in vain."""
        limits = self.limits
        wait_s, rate = self._rates(waiter, self._queue)
        if len(self._queue) >= limits.waiting_max:
            why = f"{len(self._queue)} calls wait already"
            raise self._refused("waiting_max", why, wait_s or None)
        allowed_s = math.inf if limits.wait_max_s is None else limits.wait_max_s
        if wait_s > allowed_s:
            why = f"{getattr(limits, rate)} would let it begin in {wait_s:.3g} s only"
            raise self._refused(rate, f"{why}, after wait_max_s = {allowed_s:g}", wait_s)
        if wait_s > (allowed_s := left_s()):
            why = f"{getattr(limits, rate)} would let it begin in {wait_s:.3g} s only"
            raise self._refused(rate, f"{why}, after its deadline in {allowed_s:.3g} s", wait_s)

    def _refused(self, limit: str, why: str, wait_s: float | None = None) -> LimitReachedError:
        return LimitReachedError(
            f"refused by our own limit {limit}: {why}; ask for less at once, ask another model, "
            "or raise the limit",
            code=limit,
            retry_after_s=wait_s,
            model=self._name,
        )

    def _wake_head(self) -> None:
        if self._queue:
            self._queue[0].woken.set()


def _meter(per_minute: int | None) -> Meter | None:
    return Meter(per_minute) if per_minute is not None else None
