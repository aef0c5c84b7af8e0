"""The gate that admits calls to a model, and an admitted call with everything it holds.

Rules of the file: a call releases what it holds at the moment it ends. The release awaits only
the state of budgets and of shared limits, shielded and for at most `GIVE_BACK_S`. Tokens are
estimated, and the time is read, only if a rule of this model needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import attrs
import trio

from orchestra.accounts import Certainty, Usage
from orchestra.errors import (
    BreakerOpenError,
    BudgetExceededError,
    ModelError,
    OverloadedError,
    RateLimitError,
)
from orchestra.policies.account import NOBODY, PRESENT, Account
from orchestra.policies.answers.accounting import consumption, note_begun, note_unsent, was_unsent
from orchestra.policies.answers.held import HeldCall
from orchestra.policies.clock import Clock
from orchestra.policies.health.breaker import (
    Breaker,
    BreakerRule,
    BreakerState,
    Closed,
    Open,
    Outcome,
    Permit,
    outcome,
)
from orchestra.policies.health.failure_log import REFUSALS, FailureLog
from orchestra.policies.limits.callers import Lease
from orchestra.policies.limits.limit import Admitted, CallLimits, Limiter, Load
from orchestra.policies.limits.shared import SharedLimits
from orchestra.policies.money.call_costs import CallCosts
from orchestra.policies.money.prices import priced
from orchestra.policies.money.purse import Reservation
from orchestra.policies.observed import OPERATIONS, CallEnded, Teller, error_of, settings_of
from orchestra.policies.requests.tokens import Estimate, covered_bytes, estimated, tokens_taken
from orchestra.rankings import AnyRequest
from orchestra.values import ChatRequest, EmbedRequest, ModelEvent, UsageReport

_FULL = (RateLimitError, OverloadedError)
"""Errors that mean that the model lacks capacity."""


@attrs.frozen
class GuardState:
    """The state of a guarded model: its breaker (None without one), and its load."""

    breaker: BreakerState | None
    load: Load


class Gate:
    """The breaker, the limits and the budgets of the model `name`, passed in this order."""

    def __init__(
        self,
        name: str,
        rule: BreakerRule | None,
        limits: CallLimits,
        costs: CallCosts,
        draw: Callable[[], float],
        *,
        shared: SharedLimits | None = None,
        teller: Teller | None = None,
    ) -> None:
        self.costs = costs
        self.clock = Clock()
        self.limiter = Limiter(limits, self.clock, name)
        self.shared = shared
        self.breaker = Breaker(rule, draw) if rule is not None else None
        self.teller = teller
        self.name = name
        self.failure_log = FailureLog(name)

    def state(self) -> GuardState:
        """The current state; outside `trio.run`, the state at the last time that was read."""
        seen_s = self.clock.seen_s()
        breaker = self.breaker.state(seen_s) if self.breaker else None
        load = self.limiter.load
        if self.shared is not None:
            waiting = self.shared.waiting
            load = Load(load.running - waiting, load.waiting + waiting, load.at_once)
        return GuardState(breaker, load)

    async def enter(self, request: AnyRequest, *, most: int = 0, paid: bool = False) -> GuardedCall:
        """Wait until a call is admitted, and return it. If cancelled or refused, nothing is held.

        With `paid`, its money is held already: see `hold`. If the request does not bound the
        answer, money is held for `most` tokens; if the budgets have no room for that, it is held
        for fewer, and the call has to `grow`.

        Raises:
            BreakerOpenError: the model has failed too often.
            LimitReachedError: as for `Limiter.enter`.
            BudgetExceededError: a budget has no room for the call.
            UnknownPriceError: the price is unknown, and the budgets refuse unknown prices.
            StateError: as for `Purse.hold`.
        """
        call, costs = GuardedCall(self, request), self.costs
        counts = not paid and costs.counts(call.account)
        if counts:
            costs.check(call.estimate)
        tokens = call.estimate.total if self.limiter.counts_tokens else 0
        now_s = self.clock.now_s()
        if self.breaker is not None:
            call.permit = self.breaker.admit(now_s)
            if call.permit is None:
                raise self._open_error(self.breaker)
        at_once = self.limiter.begin(now_s, tokens)
        call.admitted = at_once or await self._wait(call, tokens)
        try:
            if self.shared is not None:
                await self._share(call, self.shared)
            if counts:
                await self._hold(call, most)
            # The state completes its change even if the caller was cancelled meanwhile; such a
            # caller must not call the model.
            await trio.lowlevel.checkpoint_if_cancelled()
        except BaseException as error:
            note_unsent(error)
            await call.withdraw()  # noqa: ASYNC102 - shielded and bounded
            raise
        return call

    async def hold(self, request: EmbedRequest, requests: int) -> Reservation | None:
        """Hold money for all calls of one request, which then `enter` as `paid`.

        Raises:
            BudgetExceededError: a budget has no room for all of them.
            UnknownPriceError, StateError: as for `enter`.
        """
        account = PRESENT.get()
        if not self.costs.counts(account):
            return None
        estimate = estimated(request)
        self.costs.check(estimate)
        return await self.costs.hold(account, estimate, requests)

    def at_once(self, most: int) -> int:
        """How many calls may enter at once: `most`, or 1 while the breaker is not closed."""
        breaker = self.breaker
        closed = breaker is None or isinstance(breaker.state(self.clock.now_s()), Closed)
        return most if closed else 1

    async def _hold(self, call: GuardedCall, most: int) -> None:
        """Hold money; if there is no room for `most` tokens, an unbounded answer is capped.

        A stream with a bound is capped far beyond it, for providers that ignore the bound.
        """
        hold, estimate = self.costs.hold, call.estimate
        unbounded = isinstance(call.request, ChatRequest) and not call.request.output_tokens_max
        if unbounded and most:
            with suppress(BudgetExceededError):
                longest = Estimate(estimate.input, most)
                call.reservation = await hold(call.account, longest, tentative=True)
                return
        call.reservation = await hold(call.account, estimate)
        if call.reservation is not None and (unbounded or not most):
            call.cap_bytes = covered_bytes(estimate.output, bounded=not unbounded)

    async def _share(self, call: GuardedCall, shared: SharedLimits) -> None:
        """Wait for the limits that processes share, unless the breaker opens meanwhile."""
        tokens = call.estimate.total if shared.counts_tokens else 0
        call.lease = await shared.enter(call.account.caller, tokens=tokens)
        if call.lease is None and self.breaker is not None:
            raise self._open_error(self.breaker)
        call.admitted.began_s = self.clock.now_s()

    async def _wait(self, call: GuardedCall, tokens: int) -> Admitted:
        """Wait for the limits of this process, unless the breaker opens meanwhile."""
        breaker, permit, caller = self.breaker, call.permit, call.account.caller.full_user

        def check() -> None:
            if breaker is not None and permit is not None and breaker.outdated(permit):
                raise self._open_error(breaker)

        try:
            return await self.limiter.enter(caller, tokens=tokens, check=check)
        except BaseException as error:
            note_unsent(error)
            self.take_back(permit)
            raise

    def tell(self, call: GuardedCall, error: BaseException | None) -> None:
        """Report an ended call, if somebody observes them."""
        teller = self.teller
        if teller is None or (on_call := teller.observer()) is None:
            return
        began_s, spoke_s = call.admitted.began_s, call.spoke_s
        on_call(
            CallEnded(
                run_id=call.account.run_id,
                step=call.account.step,
                model=self.name,
                provider=teller.provider,
                request_model=teller.request_model,
                operation=OPERATIONS[type(call.request)],
                streams=call.streams,
                duration_s=self.clock.now_s() - began_s,
                first_chunk_s=spoke_s - began_s if spoke_s is not None and call.streams else None,
                error=error_of(error, whole=call.ended),
                usage=call.consumed,
                settings=settings_of(call.request),
                answer_id=call.answer_id,
                answer_model=call.answer_model,
                finish_reason=call.finish_reason,
                address=teller.address,
                port=teller.port,
            )
        )

    def take_back(self, permit: Permit | None) -> None:
        """Take back the permit of a call that was not made."""
        if self.breaker is not None and permit is not None:
            self.breaker.record(permit, Outcome.NEUTRAL, self.clock.now_s())

    def record(self, call: GuardedCall, error: BaseException | None) -> None:
        """Report a call's outcome to the breaker; if that opens it, refuse all waiting calls."""
        breaker, permit = self.breaker, call.permit
        if breaker is None or permit is None:
            return
        wait_s = error.retry_after_s if isinstance(error, ModelError) else None
        ended, now_s, before = call.outcome(breaker, error), self.clock.now_s(), breaker.tripped
        if breaker.record(permit, ended, now_s, retry_after_s=wait_s):
            self.limiter.wake_all()
            if self.shared is not None:
                self.shared.refuse_waiting()
        if breaker.tripped is before:
            return
        state = breaker.state(now_s)
        if isinstance(state, Open):
            self.failure_log.breaker_opened(state.wait_s, error)
        else:
            self.failure_log.recovered()

    def _open_error(self, breaker: Breaker) -> BreakerOpenError:
        state = breaker.state(self.clock.now_s())
        wait_s = state.wait_s if isinstance(state, Open) else 0.0
        return BreakerOpenError(
            "the model's breaker is open after too many failures, so nothing was sent; retry in "
            f"{wait_s:.3g} s, or ask another model until then",
            retry_after_s=wait_s,
            code="breaker",
            model=self.name,
        )


@attrs.define(eq=False)
class GuardedCall(HeldCall):
    """One admitted call: what it holds, and what is known about it so far."""

    gate: Gate
    request: AnyRequest
    account: Account = attrs.field(factory=PRESENT.get)
    permit: Permit | None = None
    admitted: Admitted = attrs.field(init=False, repr=False)
    lease: Lease | None = None
    reservation: Reservation | None = None
    spoke_s: float | None = None
    streams: bool = False
    consumed: Usage | None = None
    """The usage with its cost, once the call has ended."""
    sent: bool = True
    """Whether the call was sent, as far as is known; if not, limits refund it completely."""
    searches: int = 0
    """The search units that the call is billed as; 0 if it is billed by tokens."""
    _estimate: Estimate | None = None
    _last_usage: Usage | None = None
    _last_priced: Usage | None = None

    @property
    def estimate(self) -> Estimate:
        """The estimated tokens of the call; computed on first use."""
        if self._estimate is None:
            self._estimate = estimated(self.request)
        return self._estimate

    def spoke(self) -> None:
        """Note the first output, and its time if somebody needs it."""
        self.silent = False
        gate, breaker = self.gate, self.gate.breaker
        if gate.teller or (breaker is not None and breaker.rule.slow_s is not None):
            self.spoke_s = self.gate.clock.now_s()

    def with_costs(self, events: tuple[ModelEvent, ...]) -> tuple[ModelEvent, ...]:
        """The events, with costs added to their usage."""
        return tuple(map(self._with_cost, events))

    def reported(self, usage: Usage | None) -> Usage | None:
        """The usage to report to the caller: with its cost, and settled if there is an account."""
        if usage is None:
            return None
        found = self._priced(usage)
        return found if self.account is NOBODY else found.as_settled()

    def _with_cost(self, event: ModelEvent) -> ModelEvent:
        if not isinstance(event, UsageReport):
            return event
        return UsageReport(self.reported(event.usage) or event.usage, event.raw)

    def _priced(self, usage: Usage) -> Usage:
        """The usage with its cost; the last result is cached."""
        if usage is not self._last_usage or self._last_priced is None:
            self._last_usage = usage
            self._last_priced = priced(self.gate.costs.price, usage, self.searches)
        return self._last_priced

    def leave(self, error: BaseException | None) -> None:
        """Release everything but money and shared limits; `error` is the model's own error."""
        whole = self.ended and error is None
        room = False if isinstance(error, _FULL) else (whole or not self.silent or None)
        self.sent = error is None or not was_unsent(error)
        tokens = 0 if self.admitted.taken is None else self._tokens_taken(whole=whole)
        self.gate.limiter.leave(self.admitted, tokens=tokens, sent=self.sent, room=room)
        self._report(whole, error)
        if isinstance(error, REFUSALS):
            self.gate.failure_log.refused(error, self.gate.clock.now_s())
        elif whole:
            self.gate.failure_log.answered()
        self.gate.record(self, error)
        self.gate.tell(self, error)
        if isinstance(error, ModelError):
            error.name = error.name or self.gate.name

    async def withdraw(self) -> None:
        """Release everything that the call holds, if the model was not called."""
        self.gate.limiter.leave(self.admitted, tokens=0, sent=False)
        self.gate.take_back(self.permit)
        if self.gate.shared is not None and self.lease is not None:
            await self.gate.shared.leave(self.lease, tokens=0, sent=False)
        if self.reservation is not None:
            await self.reservation.settle(0)

    async def end(self, error: BaseException | None) -> None:
        """`leave`, and release money and shared limits; no checkpoint if the call holds neither."""
        self.leave(error)
        if self.gate.shared is not None and self.lease is not None:
            tokens = self._tokens_taken(whole=self.ended and error is None)
            await self.gate.shared.leave(self.lease, tokens=tokens, sent=self.sent)
        if self.reservation is not None:
            cost = 0 if self.consumed is None else self.consumed.cost_nanodollars
            await self.reservation.settle(cost)

    async def grow(self) -> None:
        """Hold more money, since the answer is longer than expected.

        Raises:
            BudgetExceededError, StateError: as for `CallCosts.grow`.
        """
        assert self.reservation is not None, "only a call with a reservation has a cap"
        try:
            self.cap_bytes = await self.gate.costs.grow(
                self.reservation, self.estimate, self.output_bytes
            )
        except BudgetExceededError as error:
            note_begun(error)
            raise

    def _tokens_taken(self, *, whole: bool) -> int:
        if not self.sent:
            return 0
        return tokens_taken(self.estimate, self.usage, output_bytes=self.output_bytes, whole=whole)

    def _report(self, whole: bool, error: BaseException | None) -> None:
        found = self.usage
        if not whole or found is None or found.certainty is not Certainty.EXACT:
            size = self.output_bytes
            found = consumption(self.estimate, found, output_bytes=size, whole=whole, error=error)
        if found is not None:
            self.consumed = self._priced(found)
            self.account.used(self.consumed, self.gate.name)

    def outcome(self, breaker: Breaker, error: BaseException | None) -> Outcome:
        """The outcome of the call for the breaker.

        A caller that leaves says nothing about the model's health, except that it got no output
        in the time that it waited.
        """
        found = Outcome.NEUTRAL if not self.ended else Outcome.SUCCESS
        if error is not None:
            found = outcome(error)
        cut = found is Outcome.NEUTRAL and self.streams and not isinstance(error, Exception)
        first_s = self.gate.clock.now_s() if cut and self.silent else self.spoke_s
        slow_s = breaker.rule.slow_s
        if slow_s is None or first_s is None:
            return found
        if found is Outcome.SUCCESS or (cut and self.silent):
            return Outcome.SLOW if first_s - self.admitted.began_s >= slow_s else found
        return found
