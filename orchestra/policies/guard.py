"""A model behind its breaker and its limits: a `Model` like any other.

The breaker is the outer one: while it is open, no call waits for a slot, and waiting calls are
refused when it opens.

Rules of the file: a call releases what it holds at the moment it ends, whether it succeeds, fails,
is left early or is cancelled. The release awaits only the state of budgets and shared limits,
shielded and for at most `GIVE_BACK_S`. A call's usage is added once, to the account that was
current when the call began. The usage in its answer is `settled`: no other code has to report it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import attrs

from orchestra.answers import Completion
from orchestra.groups import in_order
from orchestra.policies.answers.accounting import note_begun
from orchestra.policies.answers.held import HeldAnswer
from orchestra.policies.batches import BatchSize, total_usage
from orchestra.policies.gate import Gate, GuardedCall, GuardState
from orchestra.policies.health.breaker import BreakerRule
from orchestra.policies.limits.limit import CallLimits
from orchestra.policies.limits.shared import SharedLimits
from orchestra.policies.money.call_costs import HOLD_S, CallCosts
from orchestra.policies.money.prices import Price
from orchestra.policies.money.purse import Purse
from orchestra.policies.observed import Teller
from orchestra.policies.requests.tokens import OUTPUT_TOKENS_MOST
from orchestra.protocols import Model, ModelReply
from orchestra.rankings import Ranking, RerankRequest, best
from orchestra.values import Capabilities, ChatRequest, Embeddings, EmbedRequest, ModelEvent

BATCHES_AT_ONCE = 4
"""The most concurrent requests of one `embed`: only a few, so that other calls get a turn."""


class GuardedModel(Model):
    """A model that is called within its limits, and not called while it is failing.

    `name` is the model's name in errors, and `price` its price, None if unknown. `batch_size` is
    the limit of one embedding request: more texts are sent as several requests, of which
    `BATCHES_AT_ONCE` run at a time, and each of which counts as a call for the limits and the
    breaker. `purse` pays for the calls; held money expires after `hold_s`, which is more than any
    call takes. `shared` are the limits that other processes share; `limits` then has the same
    numbers. `teller` reports each ended call. `draw` returns numbers from 0 to 1, which extend
    the breaker's pauses.

    The state lasts as long as the object, across several `trio.run`, but it is used in only one of
    them at a time.
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
        """The model's capabilities, as far as they are known."""
        return self.model.capabilities

    def state(self) -> GuardState:
        """The current state; outside `trio.run`, the state at the last time that was read."""
        return self._gate.state()

    def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
        """Ask the model; entered when the call is admitted and the model accepted the request.

        Raises:
            BreakerOpenError: the model has failed too often; it was not called.
            LimitReachedError: the call would wait too long; the model was not called.
            BudgetExceededError: a budget has no room for the call; the model was not called. On
                receive: a budget has no room for the rest of the answer, which has to be left.
            UnknownPriceError: the price is unknown, and the budgets refuse unknown prices.
            StateError: as for `Purse.hold`.
            ModelError: the model's own error, on entry or on receive.
        """
        return _GuardedAnswer(self._gate, self.model, request)

    async def complete(self, request: ChatRequest) -> Completion:
        """Ask the model, and wait for the whole answer.

        The duration does not count for the model's health. If a budget has no room for the longest
        possible answer, the answer is streamed, so that it can be stopped.

        Raises:
            ModelError: as for `stream`.
        """
        most = self.model.capabilities.output_tokens_max or OUTPUT_TOKENS_MOST
        call = await self._gate.enter(request, most=most)
        if call.capped:
            return await self._folded(call, request)
        async with call:  # also releases it if a project's own class returns no valid answer
            answer = await self.model.complete(request)
            call.answered(answer.usage, answer.parts)
            call.answer_id, call.answer_model = answer.id, answer.model
            call.stopped = answer.stopped
        return answer.with_usage(call.reported(answer.usage))

    async def _folded(self, call: GuardedCall, request: ChatRequest) -> Completion:
        """Stream the answer, and return it as a whole."""
        events: list[ModelEvent] = []
        async with _GuardedAnswer(self._gate, self.model, request, call) as reply:
            while batch := await reply.receive():
                events += batch
        return Completion.of(events)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector for each text, in order.

        Money for all requests is held before the first one is sent. When a request fails, or the
        caller is cancelled, no further requests are sent, and those already sent are paid for.

        Raises:
            ModelError: as for `stream`; if several requests fail, the first error.
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
        except BaseException as error:
            if any(each.sent for each in calls):
                note_begun(error)
            raise
        finally:
            if reservation is not None:
                cost = sum(
                    each.consumed.cost_nanodollars for each in calls if each.consumed is not None
                )
                await reservation.settle(cost)  # noqa: ASYNC102 - shielded and bounded
        vectors = tuple(vector for each in found for vector in each.vectors)
        return Embeddings(vectors, total_usage([each.usage for each in found]), found[0].model)

    async def rerank(self, request: RerankRequest) -> Ranking:
        """The most relevant texts, best first.

        Raises:
            ModelError: as for `stream`.
        """
        async with await self._gate.enter(request) as call:
            price = self._gate.costs.price
            if price is not None and price.search is not None:
                call.searches = call.estimate.searches
            found = await self.model.rerank(request)
            call.searches = found.searches or call.searches
            call.answered(found.usage)
            call.answer_model = found.model
            results = best(request, found.results)  # an own class's, before they are cached
            call.spoke()
        return attrs.evolve(found, results=results, usage=call.reported(found.usage))

    async def _embed(self, call: GuardedCall) -> Embeddings:
        """The vectors of an admitted call."""
        request = call.request
        assert isinstance(request, EmbedRequest), "as it was made"
        async with call:
            found = await self.model.embed(request)
            call.answered(found.usage)
            call.answer_model = found.model
            call.spoke()
        return Embeddings(found.vectors, call.reported(found.usage), found.model)


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
