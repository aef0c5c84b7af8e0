"""What a run asks again is answered anew: its samples are its own, also behind a cache."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra import collect, pipeline, quorum
from orchestra.engine.engine import open_engine
from orchestra.errors import NoQuorumError
from orchestra.policies.account import NOBODY, PRESENT, Account
from orchestra.policies.caching.cache import CacheRule, SemanticRule
from orchestra.policies.caching.cached import CachedModel
from orchestra.policies.caching.requested_keys import KEYS_MAX, RequestedKeys
from orchestra.policies.caching.similar import Similar
from orchestra.policies.flights.coalesced import CoalescedModel
from orchestra.protocols import Model, ModelReply
from orchestra.steps.generate import generate
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import Capabilities, ChatRequest, Message
from tests.policies.caching.test_cached import Notes, cached, in_mode, memory
from tests.policies.caching.test_similar import Points
from tests.policies.waiters import Payer, ask


@attrs.define(eq=False)
class Sampled(Model):
    """Never says the same twice."""

    capabilities: Capabilities = Capabilities()
    asked: int = 0

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        self.asked += 1
        yield ScriptedModel.saying(f"{self.asked}", every_s=1).reply()


class Run:
    """What the accounts of one run have in common."""


async def said(model: Model, account: Account, request: ChatRequest) -> str:
    PRESENT.set(account)
    return (await model.complete(request)).text


def cached_twice(model: Model) -> CachedModel:
    """As in a route with a cache, over a model with a cache."""
    return CachedModel(cached(model), memory(), CacheRule(), name="route", identity="route")


@given(
    st.sampled_from([cached, cached_twice]),
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab")), max_size=12),
)
@example(cached_twice, [(0, "a"), (1, "a"), (1, "a")])
def test_a_run_is_given_what_is_kept_once(
    behind: Callable[[Model], CachedModel], calls: list[tuple[int, str]]
) -> None:
    """It never hears the same twice; and whoever asks first in their run hears what is kept."""

    async def main() -> None:
        model, runs = behind(Sampled()), [Run() for _ in range(3)]
        heard: dict[tuple[int, str], list[str]] = {}
        kept: dict[str, str] = {}
        for run, question in calls:
            answer = await said(model, Notes(run_id=f"{run}", run_key=runs[run]), ask(question))
            before = heard.setdefault((run, question), [])
            assert answer not in before
            if not before and question in kept:
                assert answer == kept[question]
            before.append(answer)
            kept[question] = answer

    virtual(main)


@pytest.mark.parametrize("behind", [cached, cached_twice])
def test_a_call_may_say_otherwise_and_so_may_who_is_in_no_run(
    behind: Callable[[Model], CachedModel],
) -> None:
    async def main() -> None:
        model = behind(Sampled())
        run = Notes(run_id="r", run_key=Run())
        asked = in_mode("use")
        assert [await said(model, run, asked) for _ in range(3)] == ["1"] * 3
        assert [await said(model, NOBODY, asked) for _ in range(3)] == ["1"] * 3
        assert await said(model, run, in_mode("refresh")) == "2"
        assert await said(model, run, in_mode("once")) == "3"
        assert await said(model, run, in_mode("off")) == "4"

    virtual(main)


@given(schedules(), st.integers(2, 4), st.sampled_from([0.0, 1.0, 5.0]))
def test_a_quorum_does_not_agree_with_the_cache(schedule: int, arms: int, stagger_s: float) -> None:
    """However its arms follow each other, and also when another run was answered before."""

    @pipeline
    def agreed(question: str) -> str:
        answers = [collect(generate(question, model="m")) for _ in range(arms)]
        return quorum(2, *answers, stagger_s=stagger_s)

    async def main() -> None:
        model = Sampled()
        async with open_engine(World(models={"m": cached(model)})) as engine:
            for _ in range(2):
                run = engine.start(agreed, {"question": "?"})
                with pytest.raises(NoQuorumError):
                    await run.result()
        assert model.asked == 2 * arms - 1

    virtual(main)


def test_who_waits_for_a_kept_answer_is_not_given_it_again() -> None:
    """A shared call is each of its runs', also of those that join it."""

    async def main() -> None:
        kept = cached(Sampled())
        shared = CoalescedModel(kept, name="m")
        async with trio.open_nursery() as engine:
            runs = [Payer(engine, f"r{at}", run_key=Run()) for at in range(2)]
            heard: list[str] = []

            async def late(account: Account) -> None:
                await trio.sleep(0.5)
                heard.append(await said(shared, account, ChatRequest((Message("user", "?"),))))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(late, runs[1])
                heard.append(await said(shared, runs[0], ask("?")))
            assert heard == ["1", "1"]
            assert await said(shared, runs[1], ask("?")) == "2"
            assert await said(shared, runs[0], ask("?")) == "3"

    virtual(main)


def test_what_runs_have_asked_is_bounded_and_goes_with_them() -> None:
    requested, account = RequestedKeys(), Notes(run_id="r", run_key=Run())
    assert all(requested.first(account, f"{at}") for at in range(KEYS_MAX + 1))
    assert not requested.first(account, f"{KEYS_MAX}")
    assert requested.first(account, "0")  # the oldest was forgotten


def test_another_wording_is_not_another_sample() -> None:
    """What a run was given or has written, it is not given for a question that asks the same."""

    async def main() -> None:
        similar = Similar(SemanticRule(paraphrases=True), Points, "points")
        model = CachedModel(
            Sampled(), memory(), CacheRule(), name="m", identity="m", similar=similar
        )
        writer, reader = (Notes(run_id=f"r{at}", run_key=Run()) for at in range(2))
        assert await said(model, writer, ask("open")) == "1"
        assert await said(model, reader, ask("opened")) == "1"
        assert await said(model, writer, ask("opened")) == "2"
        assert await said(model, reader, ask("open")) == "3"

    virtual(main)
