"""A model whose callers have limits: a `Model` around a model, or around a route.

It stands outside of breakers and of the model's own limits, so that a caller who has used up what
is theirs takes no place in a queue that others wait in. A call that was refused there, without
having been sent, is given back whole. Who has no limits gets the model itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

import attrs

from orchestra.accounts import Caller, Certainty, Usage
from orchestra.answers import Completion
from orchestra.errors import BreakerOpenError, LimitReachedError, ModelsFailedError
from orchestra.policies.account import PRESENT
from orchestra.policies.allowance import LEASE_S
from orchestra.policies.callers import CallerLimits, Held
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


def lease_s(bounds: Iterable[tuple[float | None, float | None]]) -> float:
    """How long a call may last: of all models that it may ask, each after its wait; None is ever.

    No longer than the longest lease.
    """
    each_s = [math.inf if None in pair else sum(filter(None, pair)) for pair in bounds]
    return min(sum(each_s), LEASE_S)


class CallerLimitedModel(Model):
    """A model that each caller may ask no more than their limits allow.

    `lease_s` is how long a call of it may last; what is longer counts no more as one of those at
    once. One call is one request, whatever a route or an embedder makes of it.
    """

    def __init__(self, model: Model, limits: CallerLimits, *, lease_s: float = LEASE_S) -> None:
        self.model = model
        self._limits = limits
        self._lease_s = lease_s

    @property
    def capabilities(self) -> Capabilities:
        """What it can do, as far as is known."""
        return self.model.capabilities

    def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
        """Ask; entered when the caller may ask, and the model has accepted.

        Raises:
            LimitReachedError: the caller has used up what they may; nobody was asked.
            ModelError: on entry or on receive.
        """
        caller = PRESENT.get().caller
        if not self._limits.limited(caller):
            return self.model.stream(request)
        return _LimitedAnswer(self, caller, request)

    async def complete(self, request: ChatRequest) -> Completion:
        """Ask, and wait for the whole answer.

        Raises:
            ModelError: as of `stream`.
        """
        caller = PRESENT.get().caller
        if not self._limits.limited(caller):
            return await self.model.complete(request)
        call = await self.enter(caller, of_chat(request))
        error: BaseException | None = None
        try:
            answer = await self.model.complete(request)
            call.answered(answer)
        except BaseException as raised:
            error = raised
            raise
        finally:
            await call.leave(error)  # noqa: ASYNC102 - it is shielded, and bounded
        return answer

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector for each text, in order, as the model gives them.

        Raises:
            ModelError: as of `stream`.
        """
        caller = PRESENT.get().caller
        if not self._limits.limited(caller):
            return await self.model.embed(request)
        call = await self.enter(caller, of_texts(request))
        error: BaseException | None = None
        try:
            found = await self.model.embed(request)
            call.usage, call.ended = found.usage, True
        except BaseException as raised:
            error = raised
            raise
        finally:
            await call.leave(error)  # noqa: ASYNC102 - it is shielded, and bounded
        return found

    async def enter(self, caller: Caller, estimate: Estimate) -> LimitedCall:
        """Wait until the caller may ask; give the call back with its `leave`, once."""
        held = await self._limits.enter(caller, tokens=estimate.total, lease_s=self._lease_s)
        return LimitedCall(self._limits, held, estimate)


@attrs.define(eq=False)
class LimitedCall:
    """One call that is under way: what it holds, and what is known of it so far."""

    limits: CallerLimits
    held: Held
    estimate: Estimate
    usage: Usage | None = None
    said_bytes: int = 0
    ended: bool = False
    """Whether its answer is whole."""

    def answered(self, answer: Completion) -> None:
        """Note the whole answer; its bytes only where its tokens have not been counted."""
        usage = self.usage = answer.usage
        self.ended = True
        if usage is None or usage.certainty is not Certainty.EXACT:
            self.said_bytes = answer_bytes(answer.parts)

    def heard(self, events: Sequence[ModelEvent]) -> None:
        """Note what came of the answer."""
        for event in events:
            if isinstance(event, TextDelta):  # nearly all of them are
                text = event.text
                self.said_bytes += len(text) if text.isascii() else said_bytes(event)
            elif isinstance(event, UsageReport):
                self.usage = event.usage
            elif isinstance(event, Stopped):
                self.ended = True
            else:
                self.said_bytes += said_bytes(event)

    async def leave(self, error: BaseException | None) -> None:
        """Give back all that it holds, whatever happens; `error` is the model's own."""
        if error is not None and _was_not_sent(error):
            await self.limits.leave(self.held, tokens=0, requests=0)
            return
        whole = self.ended and error is None
        tokens = consumed(self.estimate, self.usage, said_bytes=self.said_bytes, whole=whole)
        await self.limits.leave(self.held, tokens=tokens)


def _was_not_sent(error: BaseException) -> bool:
    """Whether an error says that nobody was asked."""
    if isinstance(error, ModelsFailedError):
        return bool(error.errors) and all(map(_was_not_sent, error.errors.values()))
    return isinstance(error, BreakerOpenError | LimitReachedError)


class _LimitedAnswer:
    """A streamed answer: a context, and in it the reply."""

    def __init__(self, model: CallerLimitedModel, caller: Caller, request: ChatRequest) -> None:
        self._model = model
        self._caller = caller
        self._request = request
        self._call: LimitedCall | None = None
        self._error: Exception | None = None
        self._inner: AbstractAsyncContextManager[ModelReply] | None = None
        self._reply: ModelReply | None = None

    async def __aenter__(self) -> Self:
        call = await self._model.enter(self._caller, of_chat(self._request))
        try:
            self._inner = self._model.model.stream(self._request)
            self._reply = await self._inner.__aenter__()
        except BaseException as error:
            await call.leave(error)  # noqa: ASYNC102 - it is shielded, and bounded
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
            await self._call.leave(self._error)  # noqa: ASYNC102 - it is shielded, and bounded

    async def receive(self) -> tuple[ModelEvent, ...]:
        """What has arrived since the last call, waiting for something; empty at the end."""
        assert self._reply is not None, "entered"
        assert self._call is not None, "entered"
        try:
            events = await self._reply.receive()
        except Exception as error:
            self._error = error
            raise
        self._call.heard(events)
        return events
