"""A model whose callers have limits: a `Model` around a model, or around a route.

It is outside the breakers and the model's own limits, so that a caller over its limits takes no
place in a queue in which other callers wait. A call that ends without having been sent is
refunded completely. A caller without limits uses the model directly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

import attrs

from orchestra.answers import Completion
from orchestra.policies.account import PRESENT, Account, JointAccount
from orchestra.policies.answers.accounting import was_unsent
from orchestra.policies.answers.held import HeldAnswer, HeldCall, held_call_of
from orchestra.policies.limits.allowance import LEASE_S
from orchestra.policies.limits.callers import CallerLimits, Lease
from orchestra.policies.requests.tokens import (
    Estimate,
    of_chat,
    of_ranking,
    of_texts,
    tokens_taken,
)
from orchestra.protocols import Model, ModelReply
from orchestra.rankings import Ranking, RerankRequest
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
)


def lease_s(bounds: Iterable[tuple[float | None, float | None]]) -> float:
    """The longest duration of a call: the sum of the bounds on wait and call of all its models.

    A bound of None is endless. The result is at most `LEASE_S`.
    """
    each_s = [math.inf if None in pair else sum(filter(None, pair)) for pair in bounds]
    return min(sum(each_s), LEASE_S)


class CallerLimitedModel(Model):
    """A model that each caller can call only within the caller's limits.

    `lease_s` is the longest duration of a call; a call that takes longer no longer counts as
    concurrent. A call counts as one request, however many requests a route or an embedder makes
    of it.
    """

    def __init__(self, model: Model, limits: CallerLimits, *, lease_s: float = LEASE_S) -> None:
        self.model = model
        self._limits = limits
        self._lease_s = lease_s

    @property
    def capabilities(self) -> Capabilities:
        """The model's capabilities, as far as they are known."""
        return self.model.capabilities

    def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
        """Ask; entered when the caller's limits and the model have accepted the request.

        Raises:
            LimitReachedError: a limit of the caller is reached; the model was not called.
            ModelError: on entry or on receive.
        """
        account = PRESENT.get()
        if not self._limits.limited(account.caller):
            return _let_through(self.model, account).stream(request)
        return _LimitedAnswer(self, account, request)

    async def complete(self, request: ChatRequest) -> Completion:
        """Ask, and wait for the whole answer.

        Raises:
            ModelError: as for `stream`.
        """
        account = PRESENT.get()
        if not self._limits.limited(account.caller):
            return await _let_through(self.model, account).complete(request)
        async with await self.enter(account, of_chat(request)) as call:
            answer = await self.model.complete(request)
            call.answered(answer.usage, answer.parts)
        return answer

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector for each text, in order.

        Raises:
            ModelError: as for `stream`.
        """
        account = PRESENT.get()
        if not self._limits.limited(account.caller):
            return await _let_through(self.model, account).embed(request)
        async with await self.enter(account, of_texts(request)) as call:
            found = await self.model.embed(request)
            call.answered(found.usage)
        return found

    async def rerank(self, request: RerankRequest) -> Ranking:
        """The most relevant texts, best first.

        Raises:
            ModelError: as for `stream`.
        """
        account = PRESENT.get()
        if not self._limits.limited(account.caller):
            return await _let_through(self.model, account).rerank(request)
        async with await self.enter(account, of_ranking(request)) as call:
            found = await self.model.rerank(request)
            call.answered(found.usage)
        return found

    async def enter(self, account: Account, estimate: Estimate) -> LimitedCall:
        """Wait until the caller's limits admit a call; it must be ended with `end`, once."""
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
    """One running call: what it holds, and what is known about it so far."""

    limits: CallerLimits
    lease: Lease
    estimate: Estimate
    held_call: HeldCall | None = None
    """The inner policy's call, which observes the answer in place of this one."""

    async def end(self, error: BaseException | None) -> None:
        """Release everything that the call holds; `error` is the model's own error, or None."""
        if error is not None and was_unsent(error):
            await self.limits.leave(self.lease, tokens=0, sent=False)
            return
        call = self.held_call or self
        whole = call.ended and call.error is None and error is None
        tokens = tokens_taken(
            self.estimate, call.usage, output_bytes=call.output_bytes, whole=whole
        )
        await self.limits.leave(self.lease, tokens=tokens)


def _let_through(model: Model, account: Account) -> Model:
    """The model itself, for a caller without limits."""
    if isinstance(account, JointAccount):
        account.begin()
    return model


class _LimitedAnswer(HeldAnswer[LimitedCall]):
    __slots__ = ("_account", "_limited")

    def __init__(self, model: CallerLimitedModel, account: Account, request: ChatRequest) -> None:
        super().__init__(model.model, request)
        self._limited = model
        self._account = account

    async def __aenter__(self) -> ModelReply:
        await super().__aenter__()
        self._call.held_call = held_call_of(self._reply)
        return self if self._call.held_call is None else self._reply

    async def _begin(self) -> LimitedCall:
        return await self._limited.enter(self._account, of_chat(self._request))
