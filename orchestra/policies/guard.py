"""A model behind its breaker and its limits: a `Model` like any other.

The breaker stands outside: while it is open, nobody waits for a slot, and whoever waits when it
opens is refused at once. Rules of the file: what a call holds is given back in the same instant
in which the call ends, by success, failure, early leave or cancellation, without awaiting
anything; and a call is counted once.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

import attrs

from orchestra.accounts import Usage
from orchestra.answers import Completion
from orchestra.errors import BreakerOpenError, ModelError, OverloadedError, RateLimitError
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
from orchestra.policies.tokens import (
    Estimate,
    answer_bytes,
    consumed,
    of_chat,
    of_texts,
    said_bytes,
)
from orchestra.protocols import Model, ModelReply
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


@attrs.frozen
class GuardState:
    """How a guarded model is: its breaker, None without one, and its calls."""

    breaker: BreakerState | None
    load: Load


class GuardedModel(Model):
    """A model that is asked no more than its limits allow, and left alone while it fails.

    `name` is what errors call it. `texts_max` is how many texts it embeds in one request, where
    it splits them by itself: `embed` counts as that many requests. State is kept for as long as
    the object, from one `trio.run` to the next; it serves one of them at a time.
    """

    def __init__(
        self,
        model: Model,
        *,
        name: str,
        breaker: BreakerRule | None = None,
        limits: CallLimits | None = None,
        texts_max: int | None = None,
    ) -> None:
        self.model = model
        self.name = name
        self._gate = _Gate(name, breaker, limits or CallLimits())
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
            call.leave(error)
            raise
        call.usage, call.said_bytes, call.ended = answer.usage, answer_bytes(answer.parts), True
        call.leave(None)
        return answer

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
            call.leave(error)
            raise
        call.spoke()
        call.usage, call.ended = found.usage, True
        call.leave(None)
        return found


class _Gate:
    """Breaker and limits of one model, in their order."""

    def __init__(self, name: str, rule: BreakerRule | None, limits: CallLimits) -> None:
        self.clock = Clock()
        self.limiter = Limiter(limits, self.clock, name)
        self.breaker = Breaker(rule) if rule is not None else None
        self._name = name

    def state(self) -> GuardState:
        breaker = self.breaker.state(self.clock.seen_s()) if self.breaker else None
        return GuardState(breaker, self.limiter.load)

    async def enter(self, estimate: Estimate, requests: int = 1) -> _Call:
        """Wait for leave to call, and take it. Cancelled or refused, nothing is held."""
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

    def spoke(self) -> None:
        """Note the first sign of an answer."""
        if self.spoke_s is None:
            self.spoke_s = self.gate.clock.now_s()

    def heard(self, events: tuple[ModelEvent, ...]) -> None:
        """Note what came of the answer."""
        self.spoke()
        for event in events:
            match event:
                case TextDelta(text=text):  # nearly all of them are
                    self.said_bytes += len(text) if text.isascii() else said_bytes(event)
                case UsageReport(usage=usage):
                    self.usage = usage
                case Stopped():
                    self.ended = True
                case _:
                    self.said_bytes += said_bytes(event)

    def leave(self, error: BaseException | None) -> None:
        """Give back all that it holds; `error` is the model's own."""
        gate, now_s = self.gate, self.gate.clock.now_s()
        whole = self.ended and error is None
        tokens = consumed(self.estimate, self.usage, said_bytes=self.said_bytes, whole=whole)
        full = isinstance(error, RateLimitError | OverloadedError)
        room = False if full else (whole or None)
        gate.limiter.leave(self.admitted, tokens=tokens, room=room)
        if gate.breaker is not None and self.permit is not None:
            wait_s = error.retry_after_s if isinstance(error, ModelError) else None
            opened = gate.breaker.record(
                self.permit, self._outcome(gate.breaker, error), now_s, retry_after_s=wait_s
            )
            if opened:
                gate.limiter.wake_all()

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
            call.leave(error)
            raise
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
            self._call.leave(self._error)

    async def receive(self) -> tuple[ModelEvent, ...]:
        """What has arrived since the last call, waiting for something; empty at the end."""
        assert self._reply is not None, "entered"
        assert self._call is not None, "entered"
        try:
            events = await self._reply.receive()
        except Exception as error:
            self._error = error
            raise
        if events:
            self._call.heard(events)
        return events
