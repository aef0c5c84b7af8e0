"""Limits of calls: concurrency, requests and tokens per minute, and the queue for them.

There is one queue for all limits: the call at its head waits for whatever is missing, and no call
overtakes it. So a large request is not starved by small ones. Callers take turns in the queue, and
the calls of one caller stay in order. So no caller waits for all calls of another.

Rules of the file: there is no background task. The head of the queue sleeps until its time, and a
call that leaves the queue (admitted, refused or cancelled) wakes the next one. Nothing is awaited
between the decision to admit a call and its effect, so a call is always either waiting or admitted,
also when it is cancelled.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import trio

from orchestra.errors import LimitReachedError
from orchestra.policies.account import left_s
from orchestra.policies.clock import Clock
from orchestra.policies.limits.adaptive import Adaptive
from orchestra.policies.limits.gcra import BURST_SHARE, Meter, Taken
from orchestra.policies.limits.turns import Turns
from orchestra.protocols import WhenStateFails


@attrs.frozen(kw_only=True)
class CallLimits:
    """The limits of a provider, or our own; None is no limit.

    No window of 60 seconds sees more requests or tokens than the limit.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Input and output tokens: estimated before a call, and corrected after it."""
    burst_share: float = BURST_SHARE
    """The share of a limit per minute that may come at once; the rest comes at a steady rate."""
    concurrency: int | None = None
    """Concurrent calls; a streamed answer counts until it is left."""
    adaptive: bool = False
    """Whether `concurrency` is a maximum: a refusal for lack of capacity halves it for a while."""
    wait_max_s: float | None = 30.0
    """How long a call may wait, unless its deadline is earlier; None means until its deadline."""
    waiting_max: int = 1_000
    """Waiting calls; further ones are refused at once. As many as the transport allows. If others
    have more calls in the queue than the caller, the last one of these is refused instead."""
    shared: bool = False
    """Whether all processes with the same state share the limits."""
    when_state_fails: WhenStateFails = "open"
    """Whether calls are unlimited ("open") or refused ("closed") while the state of shared limits
    cannot be reached."""

    def of_process(self) -> CallLimits:
        """The limits that this process keeps: of shared limits, only an adaptive concurrency."""
        if not self.shared:
            return self
        concurrency = self.concurrency if self.adaptive else None
        return attrs.evolve(
            self, requests_per_minute=None, tokens_per_minute=None, concurrency=concurrency
        )


@attrs.frozen
class Load:
    """The running and waiting calls; `at_once` is the current bound of adaptive concurrency."""

    running: int
    waiting: int
    at_once: int | None = None


@attrs.define(eq=False)
class Admitted:
    """A running call. End it with `leave`, once."""

    taken: Taken | None
    """The tokens taken."""
    began_s: float
    asked: Taken | None = None
    """The request taken."""


@attrs.define(eq=False)
class _Waiter:
    line: str
    """The name of the caller's line in the queue."""
    tokens: int
    woken: trio.Event = attrs.field(factory=trio.Event)
    displaced: bool = False
    """Whether the call has lost its place in the full queue to that of another caller."""


class Limiter:
    """The limits of one model, and its queue. Used in one `trio.run` at a time."""

    def __init__(self, limits: CallLimits, clock: Clock, name: str = "the model") -> None:
        self.limits = limits
        self._clock = clock
        self._name = name
        self._running = 0
        self._queue: Turns[_Waiter] = Turns()
        adapts = limits.adaptive and limits.concurrency is not None
        self._adaptive = Adaptive(limits.concurrency or 1) if adapts else None
        self._requests = _meter(limits.requests_per_minute, limits.burst_share)
        self._tokens = _meter(limits.tokens_per_minute, limits.burst_share)
        self.counts_tokens = self._tokens is not None
        """Whether there is a limit on tokens."""

    @property
    def load(self) -> Load:
        """The numbers of running and waiting calls."""
        at_once = self._adaptive.bound if self._adaptive is not None else None
        return Load(self._running, len(self._queue), at_once)

    def begin(self, now_s: float, tokens: int = 0) -> Admitted | None:
        """Begin a call with so many tokens, without waiting; None if it would have to wait."""
        if self._queue or self._missing_s(now_s, tokens) > 0:
            return None
        return self._begun(now_s, tokens)

    async def enter(
        self, caller: str = "", *, tokens: int = 0, check: Callable[[], None] = lambda: None
    ) -> Admitted:
        """Wait until a call with so many tokens may begin; on return, it has begun.

        Callers, by name, take turns. While the call waits, `check` may raise to refuse it: it is
        called before the call begins, and whenever `wake_all` is called. If cancelled or refused,
        nothing is taken.

        Raises:
            LimitReachedError: too many calls wait; the call has waited for `wait_max_s`; or it
                would certainly wait longer than that, or past the caller's deadline.
        """
        at_once = self.begin(self._clock.now_s(), tokens)
        if at_once is not None:
            return at_once
        # Otherwise a cancelled caller would be refused, as it has no time left.
        await trio.lowlevel.checkpoint_if_cancelled()
        waiter = _Waiter(caller, tokens)
        self._refuse_too_long_wait(waiter)
        await self._wait(waiter, check)
        return self._begun(self._clock.now_s(), tokens)

    def leave(
        self, admitted: Admitted, *, tokens: int, sent: bool = True, room: bool | None = None
    ) -> None:
        """End a call: it really took these tokens and, if it was `sent`, its request.

        A call that took neither leaves no trace. `room` says whether the provider had capacity for
        the call; None if that is unknown.
        """
        self._running -= 1
        taken, asked = admitted.taken, admitted.asked
        if self._requests is not None and asked is not None:
            self._requests.state.settle(asked, int(sent))
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
        """Make every waiting call run its `check` again."""
        for waiter in self._queue:
            waiter.woken.set()

    async def _wait(self, waiter: _Waiter, check: Callable[[], None]) -> None:
        wait_max_s = self.limits.wait_max_s
        self._join(waiter)
        served = False
        try:
            with trio.move_on_after(math.inf if wait_max_s is None else wait_max_s) as patience:
                await self._wait_turn(waiter, check)
                served = True
        finally:
            if served:
                self._queue.serve()
            elif not waiter.displaced:
                self._queue.remove(waiter.line, waiter)
            self._wake_head()
        if patience.cancelled_caught:
            wait_s, _ = self._rates(waiter)
            raise self._refused("wait_max_s", "the call has waited so long", wait_s or None)

    async def _wait_turn(self, waiter: _Waiter, check: Callable[[], None]) -> None:
        while True:
            check()
            if waiter.displaced:
                raise self._refused("waiting_max", "callers with fewer calls come before this one")
            missing_s = math.inf
            if self._queue.head is waiter:
                missing_s = self._missing_s(self._clock.now_s(), waiter.tokens)
            if missing_s <= 0:
                return
            waiter.woken = trio.Event()
            with trio.move_on_after(missing_s):
                await waiter.woken.wait()

    def _begun(self, now_s: float, tokens: int) -> Admitted:
        """Begin a call for which `_missing_s` has just returned 0."""
        self._running += 1
        asked = self._requests.state.take(1) if self._requests is not None else None
        taken = None
        if self._tokens is not None:
            taken = self._tokens.state.take(self._tokens.rate.held(tokens))
        return Admitted(taken, now_s, asked)

    def _missing_s(self, now_s: float, tokens: int) -> float:
        """Seconds until the head of the queue may begin; infinite if it depends on other calls."""
        concurrency = self.limits.concurrency
        if self._adaptive is not None:
            concurrency = self._adaptive.bound
        if concurrency is not None and self._running >= concurrency:
            return math.inf
        missing_s = 0.0
        if self._requests is not None:
            missing_s = self._requests.wait_s(now_s, 1)
        if self._tokens is not None:
            wait_s = self._tokens.wait_s(now_s, tokens)
            missing_s = max(missing_s, wait_s)
        return missing_s

    def _rates(self, waiter: _Waiter) -> tuple[float, str]:
        """Seconds until the rates allow a call that now joins the queue, and the slowest rate."""
        now_s = self._clock.now_s()
        found = (0.0, "")
        ahead = self._queue.ahead(waiter.line)
        if self._requests is not None:
            wait_s = self._requests.wait_s(now_s, 1, len(ahead))
            found = max(found, (wait_s, "requests_per_minute"))
        if self._tokens is not None:
            tokens_ahead = sum(each.tokens for each in ahead)
            wait_s = self._tokens.wait_s(now_s, waiter.tokens, tokens_ahead)
            found = max(found, (wait_s, "tokens_per_minute"))
        return found

    def _refuse_too_long_wait(self, waiter: _Waiter) -> None:
        """Refuse a call that would certainly have to wait longer than it may."""
        limits = self.limits
        wait_s, rate = self._rates(waiter)
        if len(self._queue) >= limits.waiting_max and self._displaceable(waiter) is None:
            raise self._refused("waiting_max", "so many calls wait already", wait_s or None)
        begins = f"the call could begin only in {wait_s:.3g} s"
        allowed_s = math.inf if limits.wait_max_s is None else limits.wait_max_s
        if wait_s > allowed_s:
            raise self._refused(rate, f"{begins}, after wait_max_s = {allowed_s:g}", wait_s)
        if wait_s > (allowed_s := left_s()):
            raise self._refused(rate, f"{begins}, after its deadline in {allowed_s:.3g} s", wait_s)

    def _displaceable(self, waiter: _Waiter) -> str | None:
        """The line whose last call has to leave the full queue for this one; None without one.

        It is the longest, if it is still the longer one afterwards, or as long.
        """
        longest = self._queue.longest()
        fair = self._queue.count(longest) > self._queue.count(waiter.line) + 1
        return longest if fair else None

    def _join(self, waiter: _Waiter) -> None:
        """Add a call to the queue; if it is full, the last call of the longest line is refused."""
        if len(self._queue) >= self.limits.waiting_max:
            line = self._displaceable(waiter)
            assert line is not None, "otherwise the call was refused"
            last = self._queue.pop(line)
            last.displaced = True
            last.woken.set()
        self._queue.add(waiter.line, waiter)

    def _refused(self, limit: str, why: str, wait_s: float | None = None) -> LimitReachedError:
        return LimitReachedError(
            f"refused by our own limit {limit} = {getattr(self.limits, limit)}: {why}; ask for "
            "less at once, ask another model, or have the limit raised",
            code=limit,
            retry_after_s=wait_s,
            model=self._name,
        )

    def _wake_head(self) -> None:
        if (head := self._queue.head) is not None:
            head.woken.set()


def _meter(per_minute: int | None, burst_share: float) -> Meter | None:
    return Meter(per_minute, burst_share) if per_minute is not None else None
