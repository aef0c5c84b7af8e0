"""A model whose callers have limits: a `Model` around a model, or around a route.

It stands outside of breakers and of the model's own limits, so that a caller who has used up what
is theirs takes no place in a queue that others wait in. A call that was refused there, without
having been sent, is given back whole. Who has no limits gets the model itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

import attrs

from orchestra.answers import Completion
from orchestra.errors import (
    BreakerOpenError,
    BudgetExceededError,
    LimitReachedError,
    ModelsFailedError,
    UnknownPriceError,
)
from orchestra.policies.account import PRESENT, Account, JointAccount
from orchestra.policies.held_answer import HeldAnswer, HeldCall, heard_in
from orchestra.policies.limits.allowance import LEASE_S
from orchestra.policies.limits.callers import CallerLimits, Lease
from orchestra.policies.tokens import (
    Estimate,
    of_chat,
    of_texts,
    tokens_taken,
)
from orchestra.protocols import Model, ModelReply
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
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
        account = PRESENT.get()
        if not self._limits.limited(account.caller):
            return _let_through(self.model, account).stream(request)
        return _LimitedAnswer(self, account, request)

    async def complete(self, request: ChatRequest) -> Completion:
        """Ask, and wait for the whole answer.

        Raises:
            ModelError: as of `stream`.
        """
        account = PRESENT.get()
        if not self._limits.limited(account.caller):
            return await _let_through(self.model, account).complete(request)
        call = await self.enter(account, of_chat(request))
        error: BaseException | None = None
        try:
            answer = await self.model.complete(request)
            call.answered(answer.usage, answer.parts)
        except BaseException as raised:
            error = raised
            raise
        finally:
            await call.end(error)  # noqa: ASYNC102 - it is shielded, and bounded
        return answer

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector for each text, in order, as the model gives them.

        Raises:
            ModelError: as of `stream`.
        """
        account = PRESENT.get()
        if not self._limits.limited(account.caller):
            return await _let_through(self.model, account).embed(request)
        call = await self.enter(account, of_texts(request))
        error: BaseException | None = None
        try:
            found = await self.model.embed(request)
            call.answered(found.usage)
        except BaseException as raised:
            error = raised
            raise
        finally:
            await call.end(error)  # noqa: ASYNC102 - it is shielded, and bounded
        return found

    async def enter(self, account: Account, estimate: Estimate) -> LimitedCall:
        """Wait until the caller may ask; give the call back with its `end`, once."""
        joint = account if isinstance(account, JointAccount) else None
        lease = await self._limits.enter(
            account.caller,
            tokens=estimate.total,
            lease_s=self._lease_s,
            queued=None if joint is None else joint.queue,
        )
        if joint is not None:
            joint.begin()
        return LimitedCall(self._limits, lease, estimate)


@attrs.define(eq=False)
class LimitedCall(HeldCall):
    """One call that is under way: what it holds, and what is known of it so far."""

    limits: CallerLimits
    lease: Lease
    estimate: Estimate
    heard: HeldCall | None = None
    """Who listens to the answer in its place."""

    async def end(self, error: BaseException | None) -> None:
        """Give back all that it holds, whatever happens; `error` is the model's own."""
        if error is not None and _was_not_sent(error):
            await self.limits.leave(self.lease, tokens=0, requests=0)
            return
        heard = self.heard or self
        whole = heard.ended and heard.error is None and error is None
        tokens = tokens_taken(self.estimate, heard.usage, said_bytes=heard.said_bytes, whole=whole)
        await self.limits.leave(self.lease, tokens=tokens)


def _let_through(model: Model, account: Account) -> Model:
    """The model itself, for a caller who has no limits."""
    if isinstance(account, JointAccount):
        account.begin()
    return model


def _was_not_sent(error: BaseException) -> bool:
    """Whether an error says that nobody was asked."""
    if isinstance(error, ModelsFailedError):
        return bool(error.errors) and all(map(_was_not_sent, error.errors.values()))
    if isinstance(error, BudgetExceededError):
        return not error.begun
    return isinstance(error, BreakerOpenError | LimitReachedError | UnknownPriceError)


class _LimitedAnswer(HeldAnswer[LimitedCall]):
    __slots__ = ("_account", "_limited")

    def __init__(self, model: CallerLimitedModel, account: Account, request: ChatRequest) -> None:
        super().__init__(model.model, request)
        self._limited = model
        self._account = account

    async def __aenter__(self) -> ModelReply:
        await super().__aenter__()
        assert self._call is not None, "entered"
        assert self._reply is not None, "entered"
        self._call.heard = heard_in(self._reply)
        return self if self._call.heard is None else self._reply

    async def _begin(self) -> LimitedCall:
        return await self._limited.enter(self._account, of_chat(self._request))
