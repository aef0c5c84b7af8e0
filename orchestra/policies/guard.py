"""A model behind its breaker and its limits: a `Model` like any other.

The breaker stands outside: while it is open, nobody waits for a slot, and whoever waits when it
opens is refused at once. Rules of the file: what a call holds is given back in the same instant
in which the call ends, by success, failure, early leave or cancellation, without awaiting
anything but, shielded and for `SETTLE_S`, the state of its budgets; and a call is counted once,
in the account that was the present one when it began. What it tells of its usage is `settled`:
nobody has to report it again.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

import attrs

from orchestra.accounts import Usage
from orchestra.answers import Completion
from orchestra.errors import (
    BreakerOpenError,
    ModelError,
    OverloadedError,
    RateLimitError,
)
from orchestra.policies.account import NOBODY, PRESENT
from orchestra.policies.accounting import spent
from orchestra.policies.breaker import (
    Breaker,
    BreakerRule,
    BreakerState,
    Open,
    Outcome,
    Permit,
    outcome,
)
from orchestra.policies.clock import Clock
from orchestra.policies.limit import Admitted, CallLimits, Limiter, Load
from orchestra.policies.prices import Price, priced
from orchestra.policies.purse import Held, Purse
from orchestra.policies.till import HOLD_S, Till
from orchestra.policies.tokens import (
    BYTES_PER_TOKEN,
    Estimate,
    answer_bytes,
    consumed,
    of_chat,
    of_texts,
    said_bytes,
)
from orchestra.protocols import Account, Model, ModelReply
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    ModelEvent,
    Stopped,
    TextDelta,
    UsageReport,
)

_WITHOUT_END = 2**63


@attrs.frozen
class GuardState:
    """How a guarded model is: its breaker, None without one, and its calls."""

    breaker: BreakerState | None
    load: Load


class GuardedModel(Model):
    """A model that is asked no more than its limits allow, and left alone while it fails.

    `name` is what errors call it. `price` is what it costs, None where nobody knows. `texts_max`
    is how many texts it embeds in one request, where it splits them by itself: `embed` counts as
    that many requests. `purse` has the budgets that its calls have to fit into; what they hold
    expires after `hold_s`, which is more than any of them takes. `draw` gives numbers from 0 to
    1, which the pauses of the breaker are drawn with. State is kept for as long as the object,
    from one `trio.run` to the next; it serves one of them at a time.
    """

    def __init__(
        self,
        model: Model,
        *,
        name: str,
        breaker: BreakerRule | None = None,
        limits: CallLimits | None = None,
        texts_max: int | None = None,
        price: Price | None = None,
        purse: Purse | None = None,
        hold_s: float = HOLD_S,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.model = model
        self.name = name
        till = Till(name, price, purse, hold_s)
        self._gate = _Gate(name, breaker, limits or CallLimits(), till, draw)
        self._texts_max = texts_max

    @property
    def capabilities(self) -> Capabilities:
        """What it can do, as far as is known."""
        return self.model.capabilities

    def state(self) -> GuardState:
        """How it is now; in the words of the last moment where no `trio.run` is under way."""
        return self._gate.state()

    def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
        """Ask; entered when its turn has come and the model has accepted.

        Raises:
            BreakerOpenError: it has failed too often; it was not asked.
            LimitReachedError: it would wait too long; it was not asked.
            BudgetExceededError: a budget has no room for it; it was not asked. On receive: it
                has said more than a budget has room for, and is to be left.
            UnknownPriceError: nobody knows what it costs, and that is refused.
            StateError: as of `Purse.hold`.
            ModelError: on entry or on receive.
        """
        return _GuardedAnswer(self._gate, self.model, request)

    async def complete(self, request: ChatRequest) -> Completion:
        """Ask, and wait for the whole answer, whose length says nothing of the model's health.

        Raises:
            ModelError: as of `stream`.
        """
        call = await self._gate.enter(of_chat(request))
        try:
            answer = await self.model.complete(request)
        except BaseException as error:
            await call.end(error)  # noqa: ASYNC102 - shielded and bounded, by Purse.settle
            raise
        call.usage, call.said_bytes, call.ended = answer.usage, answer_bytes(answer.parts), True
        await call.end(None)
        return attrs.evolve(answer, usage=call.told(answer.usage))

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector for each text, in order, as the model gives them.

        Raises:
            ModelError: as of `stream`.
        """
        most = self._texts_max or max(len(request.texts), 1)
        requests = -(-len(request.texts) // most)
        call = await self._gate.enter(of_texts(request), requests)
        try:
            found = await self.model.embed(request)
        except BaseException as error:
            await call.end(error)  # noqa: ASYNC102 - shielded and bounded, by Purse.settle
            raise
        call.spoke()
        call.usage, call.ended = found.usage, True
        await call.end(None)
        return attrs.evolve(found, usage=call.told(found.usage))


class _Gate:
    """Breaker and limits of one model, in their order."""

    def __init__(
        self,
        name: str,
        rule: BreakerRule | None,
        limits: CallLimits,
        till: Till,
        draw: Callable[[], float],
    ) -> None:
        self.till = till
        self.clock = Clock()
        self.limiter = Limiter(limits, self.clock, name)
        self.breaker = Breaker(rule, draw) if rule is not None else None
        self._name = name

    def state(self) -> GuardState:
        breaker = self.breaker.state(self.clock.seen_s()) if self.breaker else None
        return GuardState(breaker, self.limiter.load)

    async def enter(self, estimate: Estimate, requests: int = 1) -> _Call:
        """Wait for leave to call, and take it. Cancelled or refused, nothing is held."""
        self.till.check(estimate)
        call = await self._admit(estimate, requests)
        if self.till.purse is not None:
            try:
                call.held = await self.till.hold(call.account, estimate, requests)
            except BaseException:
                call.withdraw()
                raise
        return call

    async def _admit(self, estimate: Estimate, requests: int) -> _Call:
        breaker = self.breaker
        if breaker is None:
            admitted = await self.limiter.enter(requests=requests, tokens=estimate.total)
            return _Call(self, None, admitted, estimate, self.clock.now_s())
        permit = breaker.admit(self.clock.now_s())
        if permit is None:
            raise self._left_alone(breaker)

        def check() -> None:
            if breaker.outdated(permit):
                raise self._left_alone(breaker)

        try:
            admitted = await self.limiter.enter(
                requests=requests, tokens=estimate.total, check=check
            )
        except BaseException:
            breaker.record(permit, Outcome.NEUTRAL, self.clock.now_s())
            raise
        return _Call(self, permit, admitted, estimate, self.clock.now_s())

    def _left_alone(self, breaker: Breaker) -> BreakerOpenError:
        state = breaker.state(self.clock.now_s())
        wait_s = state.wait_s if isinstance(state, Open) else 0.0
        return BreakerOpenError(
            f"it failed too often, and is left alone; it was not asked, and is tried again in "
            f"{wait_s:.3g} s: ask another model until then",
            retry_after_s=wait_s,
            code="breaker",
            model=self._name,
        )


@attrs.define(eq=False)
class _Call:
    """One call that is under way: what it holds, and what is known of it so far."""

    gate: _Gate
    permit: Permit | None
    admitted: Admitted
    estimate: Estimate
    began_s: float
    spoke_s: float | None = None
    ended: bool = False
    """Whether its answer is whole."""
    usage: Usage | None = None
    said_bytes: int = 0
    account: Account = attrs.field(factory=PRESENT.get)
    held: Held | None = None
    cap_bytes: int = _WITHOUT_END
    """Of its answer; from there on it has to hold more."""
    cost: int = 0

    def spoke(self) -> None:
        """Note the first sign of an answer."""
        if self.spoke_s is None:
            self.spoke_s = self.gate.clock.now_s()

    def heard(self, events: tuple[ModelEvent, ...]) -> tuple[ModelEvent, ...]:
        """Note what came of the answer; the same, with what it costs."""
        self.spoke()
        reports = False
        for event in events:
            match event:
                case TextDelta(text=text):  # nearly all of them are
                    self.said_bytes += len(text) if text.isascii() else said_bytes(event)
                case UsageReport(usage=usage):
                    self.usage, reports = usage, True
                case Stopped():
                    self.ended = True
                case _:
                    self.said_bytes += said_bytes(event)
        return tuple(map(self._with_cost, events)) if reports else events

    def told(self, usage: Usage | None) -> Usage | None:
        """Its usage with its cost, as the caller is told of it."""
        if usage is None:
            return None
        return priced(self.gate.till.price, usage, settled=self.account is not NOBODY)

    def _with_cost(self, event: ModelEvent) -> ModelEvent:
        if not isinstance(event, UsageReport):
            return event
        usage = priced(self.gate.till.price, event.usage, settled=self.account is not NOBODY)
        return UsageReport(usage, event.raw)

    def leave(self, error: BaseException | None) -> None:
        """Give back all that it holds; `error` is the model's own."""
        gate, now_s = self.gate, self.gate.clock.now_s()
        whole = self.ended and error is None
        tokens = consumed(self.estimate, self.usage, said_bytes=self.said_bytes, whole=whole)
        full = isinstance(error, RateLimitError | OverloadedError)
        room = False if full else (whole or None)
        gate.limiter.leave(self.admitted, tokens=tokens, room=room)
        self._settle(whole, error)
        if gate.breaker is not None and self.permit is not None:
            wait_s = error.retry_after_s if isinstance(error, ModelError) else None
            opened = gate.breaker.record(
                self.permit, self._outcome(gate.breaker, error), now_s, retry_after_s=wait_s
            )
            if opened:
                gate.limiter.wake_all()

    def withdraw(self) -> None:
        """Give back all that it holds, before anybody was asked."""
        self.gate.limiter.leave(self.admitted, tokens=0)
        if self.gate.breaker is not None and self.permit is not None:
            self.gate.breaker.record(self.permit, Outcome.NEUTRAL, self.gate.clock.now_s())

    async def end(self, error: BaseException | None) -> None:
        """`leave`, and the money too: no checkpoint where it holds none."""
        self.leave(error)
        if self.held is not None:
            await self.held.settle(self.cost)

    async def grow(self) -> None:
        """Hold more, since its answer is longer than was thought. Raises as of `Till.grow`."""
        assert self.held is not None, "only then there is a cap"
        self.cap_bytes = await self.gate.till.grow(self.held, self.estimate, self.said_bytes)

    def _settle(self, whole: bool, error: BaseException | None) -> None:
        consumed = spent(
            self.estimate, self.usage, said_bytes=self.said_bytes, whole=whole, error=error
        )
        if consumed is not None:
            usage = priced(self.gate.till.price, consumed, settled=False)
            self.cost = usage.cost_nanodollars
            self.account.used(usage)

    def _outcome(self, breaker: Breaker, error: BaseException | None) -> Outcome:
        if error is not None:
            return outcome(error)
        if not self.ended:
            return Outcome.NEUTRAL
        slow_s = breaker.rule.slow_s
        if slow_s is None or self.spoke_s is None or self.spoke_s - self.began_s < slow_s:
            return Outcome.SUCCESS
        return Outcome.SLOW


class _GuardedAnswer:
    """A streamed answer: a context, and in it the reply."""

    def __init__(self, gate: _Gate, model: Model, request: ChatRequest) -> None:
        self._gate = gate
        self._model = model
        self._request = request
        self._call: _Call | None = None
        self._error: Exception | None = None
        self._inner: AbstractAsyncContextManager[ModelReply] | None = None
        self._reply: ModelReply | None = None

    async def __aenter__(self) -> Self:
        call = await self._gate.enter(of_chat(self._request))
        try:
            self._inner = self._model.stream(self._request)
            self._reply = await self._inner.__aenter__()
        except BaseException as error:
            await call.end(error)  # noqa: ASYNC102 - shielded and bounded, by Purse.settle
            raise
        if call.held is not None and self._request.output_tokens_max is None:
            call.cap_bytes = call.estimate.output * BYTES_PER_TOKEN
        self._call = call
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        assert self._inner is not None, "entered"
        assert self._call is not None, "entered"
        try:
            return await self._inner.__aexit__(kind, error, traceback)  # noqa: ASYNC102 - as the model does it
        finally:
            await self._call.end(self._error)  # noqa: ASYNC102 - as above

    async def receive(self) -> tuple[ModelEvent, ...]:
        """What has arrived since the last call, waiting for something; empty at the end."""
        assert self._reply is not None, "entered"
        assert self._call is not None, "entered"
        try:
            events = await self._reply.receive()
        except Exception as error:
            self._error = error
            raise
        if not events:
            return events
        told = self._call.heard(events)
        if self._call.said_bytes > self._call.cap_bytes:
            await self._call.grow()
        return told
