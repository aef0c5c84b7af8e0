"""A model whose callers have limits: a `Model` around a model, or around a route.

It is outside the breakers and the model's own limits, so that a caller over its limits takes no
place in a queue in which other callers wait. A call that ends without having been sent is
refunded completely. A caller without limits uses the model directly.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import attrs

from orchestra.answers import Completion
from orchestra.policies.account import PRESENT, Account, JointAccount
from orchestra.policies.answers.accounting import was_unsent
from orchestra.policies.answers.held import HeldAnswer, HeldCall, held_call_of
from orchestra.policies.limits.allowance import LEASE_S
from orchestra.policies.limits.callers import CallerLimits, Lease
from orchestra.policies.requests.tokens import Estimate, estimated, tokens_taken
from orchestra.protocols import Model, ModelReply
from orchestra.rankings import AnyRequest, Ranking, RerankRequest
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
)

Asked = TypeVar("Asked", bound=AnyRequest)
Result = TypeVar("Result", bound=Completion | Embeddings | Ranking)


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
            _begin(account)
            return self.model.stream(request)
        return _LimitedAnswer(self, account, request)

    async def complete(self, request: ChatRequest) -> Completion:
        """Ask, and wait for the whole answer.

        Raises:
            ModelError: as for `stream`.
        """
        return await self._whole(request, self.model.complete)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector for each text, in order.

        Raises:
            ModelError: as for `stream`.
        """
        return await self._whole(request, self.model.embed)

    async def rerank(self, request: RerankRequest) -> Ranking:
        """The most relevant texts, best first.

        Raises:
            ModelError: as for `stream`.
        """
        return await self._whole(request, self.model.rerank)

    async def _whole(self, request: Asked, ask: Callable[[Asked], Awaitable[Result]]) -> Result:
        """The result of a call that is not streamed."""
        account = PRESENT.get()
        if not self._limits.limited(account.caller):
            _begin(account)
            return await ask(request)
        async with await self.enter(account, request) as call:
            result = await ask(request)
            call.answered(result.usage, result.parts if isinstance(result, Completion) else ())
        return result

    async def enter(self, account: Account, request: AnyRequest) -> LimitedCall:
        """Wait until the caller's limits admit a call; it must be ended with `end`, once."""
        estimate = estimated(request)
        lease = await self._limits.enter(
            account.caller,
            tokens=estimate.total,
            lease_s=self._lease_s,
            queued=account.queue if isinstance(account, JointAccount) else None,
        )
        _begin(account)
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


def _begin(account: Account) -> None:
    """Tell a shared call that its caller's limits have admitted it, or that there are none."""
    if isinstance(account, JointAccount):
        account.begin()


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
        return await self._limited.enter(self._account, self._request)
