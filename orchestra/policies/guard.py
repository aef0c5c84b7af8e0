"""A model behind its breaker and its limits: a `Model` like any other.

The breaker stands outside: while it is open, nobody waits for a slot, and whoever waits when it
opens is refused at once. Rules of the file: what a call holds is given back in the same instant
in which the call ends, by success, failure, early leave or cancellation, without awaiting
anything but, shielded and for `GIVE_BACK_S`, the state of its budgets; and a call is counted once,
in the account that was the present one when it began. What it tells of its usage is `settled`:
nobody has to report it again.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import attrs

from orchestra.answers import Completion
from orchestra.policies.batches import BatchSize, in_order
from orchestra.policies.breaker import BreakerRule
from orchestra.policies.gate import Gate, GuardedCall, GuardState
from orchestra.policies.held_answer import HeldAnswer
from orchestra.policies.limits.limit import CallLimits
from orchestra.policies.limits.shared import SharedLimits
from orchestra.policies.money.call_costs import HOLD_S, CallCosts
from orchestra.policies.money.prices import Price
from orchestra.policies.money.purse import Purse
from orchestra.policies.observed import Teller
from orchestra.policies.tokens import OUTPUT_TOKENS_MOST
from orchestra.protocols import Model, ModelReply
from orchestra.values import Capabilities, ChatRequest, Embeddings, EmbedRequest, ModelEvent

BATCHES_AT_ONCE = 4
"""Requests of one `embed`, at the most: a few, so that others have a turn, too."""


class GuardedModel(Model):
    """A model that is asked no more than its limits allow, and left alone while it fails.

    `name` is what errors call it. `price` is what it costs, None where nobody knows. `batch_size`
    is how much it embeds in one request: more texts are several, of which `BATCHES_AT_ONCE` go at
    once, and each is a call for its limits and its breaker. `purse` has the budgets that its calls
    have to fit into; what they hold expires after `hold_s`, which is more than any of them takes.
    `shared` are its limits where it keeps them together with other processes: `limits` say so,
    too. `teller` is told of each call that has ended. `draw` gives numbers from 0 to 1, which the
    pauses of the breaker are drawn with. State is kept for as long as the object, from one
    `trio.run` to the next; it serves one of them at a time.
    """

    def __init__(
        self,
        model: Model,
        *,
        name: str,
        breaker: BreakerRule | None = None,
        limits: CallLimits | None = None,
        batch_size: BatchSize | None = None,
        price: Price | None = None,
        purse: Purse | None = None,
        hold_s: float = HOLD_S,
        draw: Callable[[], float] = random.random,
        shared: SharedLimits | None = None,
        teller: Teller | None = None,
    ) -> None:
        self.model = model
        self.name = name
        costs = CallCosts(name, price, purse, hold_s)
        own = (limits or CallLimits()).of_process()
        self._gate = Gate(name, breaker, own, costs, draw, shared=shared, teller=teller)
        self._batch_size = batch_size

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

        Where a budget has no room for the longest answer, it is streamed: it can be stopped.

        Raises:
            ModelError: as of `stream`.
        """
        most = self.model.capabilities.output_tokens_max or OUTPUT_TOKENS_MOST
        call = await self._gate.enter(request, most=most)
        if call.capped:
            return await self._folded(call, request)
        try:
            answer = await self.model.complete(request)
        except BaseException as error:
            await call.end(error)  # noqa: ASYNC102 - shielded and bounded, by Purse.settle
            raise
        call.answered(answer.usage, answer.parts)
        call.answer_id, call.answer_model, call.stopped = answer.id, answer.model, answer.stopped
        await call.end(None)
        return answer.with_usage(call.told(answer.usage))

    async def _folded(self, call: GuardedCall, request: ChatRequest) -> Completion:
        """The whole of an answer that is streamed."""
        said: list[ModelEvent] = []
        async with _GuardedAnswer(self._gate, self.model, request, call) as reply:
            while batch := await reply.receive():
                said += batch
        return Completion.of(said)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector for each text, in order, as the model gives them.

        Of several requests, money for all is held before the first; when one fails, or all are
        cancelled, no more are made, and those that were are paid for.

        Raises:
            ModelError: as of `stream`; of several requests, the first that one of them has raised.
        """
        size, texts = self._batch_size, request.texts
        batches = size.batches(texts) if size is not None and len(texts) > 1 else ()
        if len(batches) <= 1:
            return await self._embed(await self._gate.enter(request))
        reservation = await self._gate.hold(request, len(batches))
        calls = list[GuardedCall]()

        async def embed(texts: tuple[str, ...]) -> Embeddings:
            one = attrs.evolve(request, texts=texts)
            call = await self._gate.enter(one, paid=True)
            calls.append(call)
            return await self._embed(call)

        try:
            found = await in_order(embed, batches, self._gate.at_once(BATCHES_AT_ONCE))
        finally:
            if reservation is not None:
                cost = sum(
                    each.consumed.cost_nanodollars for each in calls if each.consumed is not None
                )
                await reservation.purse.settle(reservation, cost)  # noqa: ASYNC102 - shielded and bounded
        usages = [each.usage for each in found if each.usage is not None]
        vectors = tuple(vector for each in found for vector in each.vectors)
        return Embeddings(vectors, sum(usages[1:], usages[0]) if usages else None, found[0].model)

    async def _embed(self, call: GuardedCall) -> Embeddings:
        """What a call that has entered asks for."""
        request = call.request
        assert isinstance(request, EmbedRequest), "as it was made"
        try:
            found = await self.model.embed(request)
        except BaseException as error:
            await call.end(error)  # noqa: ASYNC102 - shielded and bounded, by Purse.settle
            raise
        call.spoke()
        call.answered(found.usage)
        call.answer_model = found.model
        await call.end(None)
        return Embeddings(found.vectors, call.told(found.usage), found.model)


class _GuardedAnswer(HeldAnswer[GuardedCall]):
    __slots__ = ("_entered", "_gate")

    def __init__(
        self, gate: Gate, model: Model, request: ChatRequest, entered: GuardedCall | None = None
    ) -> None:
        super().__init__(model, request)
        self._gate = gate
        self._entered = entered

    async def _begin(self) -> GuardedCall:
        call = self._entered or await self._gate.enter(self._request)
        call.streams = True
        return call
