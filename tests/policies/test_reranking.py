"""Reranking behind each policy: what it costs, who else is asked, and what is asked only once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import attrs
import numpy as np
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Caller, Certainty, Usage
from orchestra.errors import (
    BudgetExceededError,
    CapabilityError,
    LimitReachedError,
    MalformedStreamError,
    ModelError,
    OverloadedError,
    UnknownPriceError,
)
from orchestra.policies.account import NOBODY, PRESENT
from orchestra.policies.caching.cache import (
    CacheRule,
    decode_ranking,
    encode_ranking,
    encode_vector,
)
from orchestra.policies.caching.cached import CachedModel
from orchestra.policies.flights.coalesced import CoalescedModel
from orchestra.policies.guard import GuardedModel
from orchestra.policies.limits.allowance import CallerRules, OwnerLimits
from orchestra.policies.limits.callers import CallerLimits
from orchestra.policies.limits.limited import CallerLimitedModel
from orchestra.policies.money.budget import Budgets
from orchestra.policies.money.prices import Price, cost_of_searches, worst
from orchestra.policies.money.purse import Purse
from orchestra.policies.observed import CallEnded, Teller
from orchestra.policies.requests.tokens import CHUNK_TOKENS, SEARCH_CHUNKS, of_ranking
from orchestra.policies.routing import Candidate, Route
from orchestra.protocols import Model, ModelReply
from orchestra.providers.declared import DeclaredModel
from orchestra.providers.routing import RoutedModel
from orchestra.rankings import Ranked, Ranking, RerankRequest
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.virtual import virtual
from orchestra.values import Capabilities, ChatRequest, Vector
from tests.policies.waiters import Payer

ASKED = RerankRequest("When?", ("At nine.", "Outside."), 1)
RESULTS = (Ranked(1, 0.5),)
ANSWER = Ranking(RESULTS)
OFF, REFRESH = ({"orchestra": {"cache": mode}} for mode in ("off", "refresh"))


@attrs.define(eq=False)
class Ranker(Model):
    """Answers after a second."""

    answer: Ranking = ANSWER
    fault: Exception | None = None
    asked: int = 0

    def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
        raise NotImplementedError("it only reranks")

    async def rerank(self, request: RerankRequest) -> Ranking:
        self.asked += 1
        await trio.sleep(1)
        if self.fault is not None:
            raise self.fault
        return self.answer


def guarded(model: Model, price: Price | None, **more: Any) -> GuardedModel:
    return GuardedModel(model, name="m", price=price, **more)


async def paid(model: Model) -> Usage | None:
    """The usage of one call, in the account of its caller."""
    error: Exception | None = None
    async with trio.open_nursery() as nursery:
        payer = Payer(nursery, "r1", Caller("acme", "ada"), run_key=Ranker())  # kept weakly
        PRESENT.set(payer)
        try:
            await model.rerank(ASKED)
        except ModelError as raised:
            error = raised
    if error is not None:
        raise error
    return payer.usage


SEARCH, TOKENS = Price(input=0, search=2 * 10**9), Price(input=10**6)
BOTH = Price(input=10**6, search=2 * 10**9)


@pytest.mark.parametrize(
    ("price", "answer", "nanodollars"),
    [
        (SEARCH, Ranking(RESULTS, searches=3), 6_000_000),
        (SEARCH, Ranking(RESULTS), 2_000_000),  # as many as estimated
        (SEARCH, Ranking(RESULTS, Usage(40)), 2_000_000),
        (TOKENS, Ranking(RESULTS, Usage(40)), 40),
        (TOKENS, Ranking(RESULTS, Usage(40), searches=1), 40),
        (BOTH, Ranking(RESULTS, Usage(40), searches=1), 2_000_000),
        (TOKENS, Ranking(RESULTS, searches=1), None),  # not at the price of estimated tokens
        (None, Ranking(RESULTS, searches=1), None),
        (None, Ranking(RESULTS, Usage(40)), None),
    ],
)
def test_a_call_costs_its_searches_or_its_tokens_and_an_unknown_cost_is_never_nothing(
    price: Price | None, answer: Ranking, nanodollars: int | None
) -> None:
    usage = virtual(partial(paid, guarded(Ranker(answer), price)))
    assert usage is not None
    assert usage.cost_nanodollars == (nanodollars or 0)
    assert usage.unpriced_calls == (nanodollars is None)


@given(st.integers(1, 10**6), st.integers(0, 10**12))
def test_searches_are_rounded_up_to_whole_nanodollars(searches: int, price: int) -> None:
    found = cost_of_searches(Price(input=0, search=price), Usage(), searches)
    assert found is not None
    assert 0 <= found * 1_000 - searches * price < 1_000


@given(
    st.integers(0, 2 * CHUNK_TOKENS),
    st.lists(st.integers(0, 4 * CHUNK_TOKENS), min_size=1, max_size=250),
)
def test_a_search_is_estimated_for_each_hundred_chunks(query: int, sizes: list[int]) -> None:
    """Each chunk has the query, too, of which Cohere takes at most half a chunk."""
    found = of_ranking(RerankRequest("abc" * query, tuple("abc" * size for size in sizes)))
    assert found.input == sum(query + size for size in sizes)
    chunks = 0
    for size in sizes:
        left = size
        while True:
            chunks += 1
            left -= max(CHUNK_TOKENS - query, CHUNK_TOKENS // 2)
            if left <= 0:
                break
    assert (found.searches - 1) * SEARCH_CHUNKS < chunks <= found.searches * SEARCH_CHUNKS
    assert worst(SEARCH, found) == found.searches * 2_000_000
    assert worst(TOKENS, found) == found.input


def test_a_long_question_takes_more_searches() -> None:
    """It is in each of the chunks: 100 texts of 900 tokens are 400 chunks with it, not 300."""
    texts = ("abc" * 900,) * SEARCH_CHUNKS
    assert of_ranking(RerankRequest("abc" * 10, texts)).searches == 2
    assert of_ranking(RerankRequest("abc" * 240, texts)).searches == 4
    assert of_ranking(RerankRequest("abc" * 2_000, texts)).searches == 4


def test_budgets_hold_the_price_of_a_search_and_refuse_an_unknown_one() -> None:
    async def main() -> None:
        state = MemoryState(now_s=trio.current_time)
        strict = Purse(Budgets(unknown_price="refuse"), state)
        small = Purse(Budgets(request=1_999_999), state)
        for purse, price, kind in (
            (strict, None, UnknownPriceError),
            (small, SEARCH, BudgetExceededError),
        ):
            ranker = Ranker()
            with pytest.raises(kind):
                await paid(guarded(ranker, price, purse=purse))
            assert ranker.asked == 0
        assert await paid(guarded(Ranker(), SEARCH, purse=strict)) is not None

    virtual(main)


def test_a_failed_or_cancelled_call_is_charged_as_estimated_and_all_is_given_back() -> None:
    async def main() -> None:
        failing = guarded(Ranker(fault=OverloadedError("full")), SEARCH)
        async with trio.open_nursery() as nursery:
            refused, payer = (Payer(nursery, run, Caller("acme", "ada")) for run in ("r1", "r2"))
            PRESENT.set(refused)
            with pytest.raises(OverloadedError):
                await failing.rerank(ASKED)
            PRESENT.set(payer)
            leaving = guarded(Ranker(), SEARCH)
            with trio.move_on_after(0.5):
                await leaving.rerank(ASKED)
        assert refused.usage is None
        assert payer.usage is not None
        assert payer.usage.cost_nanodollars == 2_000_000
        assert payer.usage.certainty is Certainty.ESTIMATED
        assert failing.state().load.running == leaving.state().load.running == 0

    virtual(main)


def test_a_call_is_reported_as_reranking() -> None:
    told: list[CallEnded] = []
    teller = Teller(lambda: told.append, "cohere", "rerank-v3.5")
    virtual(partial(paid, guarded(Ranker(), None, teller=teller)))
    (ended,) = told
    assert (ended.operation, ended.error, ended.duration_s) == ("rerank", "", 1.0)


def test_equal_calls_are_made_once_and_others_each() -> None:
    async def main() -> None:
        ranker = Ranker()
        model = CachedModel(
            ranker, MemoryState(now_s=trio.current_time), CacheRule(), name="m", identity="m"
        )
        assert await model.rerank(ASKED) == Ranking(RESULTS)
        assert await model.rerank(ASKED) == Ranking(RESULTS, Usage())
        assert ranker.asked == 1
        for other in (
            attrs.evolve(ASKED, query="Where?"),
            attrs.evolve(ASKED, texts=ASKED.texts[::-1]),
            attrs.evolve(ASKED, top=2),
            attrs.evolve(ASKED, extras=OFF),
            attrs.evolve(ASKED, extras=REFRESH),
        ):
            before = ranker.asked
            await model.rerank(other)
            assert ranker.asked == before + 1

    virtual(main)


def test_tenants_share_no_cached_ranking() -> None:
    async def main() -> None:
        ranker, state = Ranker(), MemoryState(now_s=trio.current_time)
        model = CachedModel(ranker, state, CacheRule(), name="m", identity="m")
        async with trio.open_nursery() as nursery:
            for caller in (Caller("acme", "ada"), Caller("acme", "bob"), Caller("", "eve")):
                PRESENT.set(Payer(nursery, "r1", caller))
                await model.rerank(ASKED)
        assert ranker.asked == 2

    virtual(main)


@given(
    st.lists(st.builds(Ranked, st.integers(0, 2**31), st.floats(allow_nan=False)), max_size=5),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(max_size=5),
)
def test_a_cached_ranking_is_read_as_it_was_written(
    results: list[Ranked], model: str, junk: bytes
) -> None:
    data = encode_ranking("k", Ranking(tuple(results), Usage(3), model, 2))
    assert data is not None
    assert decode_ranking("k", data) == Ranking(tuple(results), Usage(), model)
    assert decode_ranking("other", data) is None
    assert decode_ranking("k", junk) is None
    vector = encode_vector("k", Vector.of([1.0]), model)
    assert vector is not None
    assert decode_ranking("k", vector) is None


def test_a_ranking_that_cannot_be_written_is_not_cached() -> None:
    async def main() -> None:
        ranker = Ranker(Ranking(RESULTS, model="\ud800"))
        state = MemoryState(now_s=trio.current_time)
        model = CachedModel(ranker, state, CacheRule(), name="m", identity="m")
        await model.rerank(ASKED)
        await model.rerank(ASKED)
        assert ranker.asked == 2

    virtual(main)


@pytest.mark.parametrize("score", [np.float64(0.5), np.float32(0.5), None, float("nan")])
def test_an_own_classs_ranking_is_cached_only_if_it_is_one(score: Any) -> None:
    async def main() -> None:
        ranker, state = Ranker(Ranking((Ranked(1, score),))), MemoryState(now_s=trio.current_time)
        model = CachedModel(guarded(ranker, None), state, CacheRule(), name="m", identity="m")
        for _ in range(2):
            if isinstance(score, np.floating):
                assert (await model.rerank(ASKED)).results == RESULTS
            else:
                with pytest.raises(MalformedStreamError, match="not a finite number"):
                    await model.rerank(ASKED)
        assert ranker.asked == (1 if isinstance(score, np.floating) else 2)

    virtual(main)


def test_equal_calls_at_the_same_time_share_one() -> None:
    async def main() -> None:
        ranker = Ranker()
        model = CoalescedModel(ranker, name="m")
        found: list[Ranking] = []

        async def ask(run: str, request: RerankRequest) -> None:
            PRESENT.set(Payer(engine, run, Caller("acme", "ada")))
            found.append(await model.rerank(request))

        async with trio.open_nursery() as engine, trio.open_nursery() as nursery:
            nursery.start_soon(ask, "r1", ASKED)
            nursery.start_soon(ask, "r2", ASKED)
            nursery.start_soon(ask, "r3", attrs.evolve(ASKED, query="Where?"))
        assert [each.results for each in found] == [RESULTS] * 3
        assert (ranker.asked, model.flights) == (2, 0)

    virtual(main)


def test_a_caller_over_its_limit_is_refused() -> None:
    async def main() -> None:
        ranker = Ranker()
        rules = CallerRules(user=OwnerLimits(requests_per_minute=1, wait_max_s=0.0))
        limits = CallerLimits(rules, MemoryState(now_s=trio.current_time))
        model = CallerLimitedModel(ranker, limits)
        await paid(model)
        with pytest.raises(LimitReachedError):
            await paid(model)
        PRESENT.set(NOBODY)  # who has no limit
        assert (await model.rerank(ASKED)).results == RESULTS
        assert ranker.asked == 2

    virtual(main)


def route(models: Mapping[str, Model], **able: bool) -> RoutedModel:
    candidates = tuple(
        Candidate(name=name, capabilities=Capabilities(reranking=able.get(name))) for name in models
    )
    return RoutedModel(Route(name="r", candidates=candidates), models)


def test_a_route_asks_those_that_rerank_in_turn() -> None:
    async def main() -> None:
        chat, broken, good = Ranker(), Ranker(fault=OverloadedError("full")), Ranker()
        models = {"chat": chat, "broken": broken, "good": good}
        assert (await route(models, chat=False).rerank(ASKED)).results == RESULTS
        assert (chat.asked, broken.asked, good.asked) == (0, 1, 1)
        with pytest.raises(CapabilityError, match="chat: it has no reranking"):
            await route({"chat": chat}, chat=False).rerank(ASKED)
        with pytest.raises(ModelError, match="full"):
            await route({"broken": broken}).rerank(ASKED)
        declared = DeclaredModel(good, Capabilities())
        assert (await declared.rerank(ASKED)).results == RESULTS

    virtual(main)
