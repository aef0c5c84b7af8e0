"""What one caller's limits make a shared call wait for, no other caller waits for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Caller
from orchestra.answers import Completion
from orchestra.errors import LimitReachedError
from orchestra.events import StepCoalesced
from orchestra.policies.account import PRESENT
from orchestra.policies.flights.coalesce import CoalesceRule
from orchestra.policies.flights.coalesced import CoalescedModel
from orchestra.policies.guard import GuardedModel
from orchestra.policies.limits.allowance import CallerRules, OwnerLimits
from orchestra.policies.limits.callers import CallerLimits
from orchestra.policies.limits.limited import CallerLimitedModel
from orchestra.protocols import Model, State
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from orchestra.values import EmbedRequest, ModelEvent
from tests.policies.limits.test_callers import SlowState
from tests.policies.test_refused_flights import POOR, USED_UP, Refusing
from tests.policies.waiters import ASKED, Fake, Payer, ask, read, saying

USERS = ("ada", "bob", "eve")
LASTS_S = float(len(saying(3)) + 1)
"""What a call takes: the end is told a second after the last event."""
TEXTS = EmbedRequest(("a",))
PATIENT = OwnerLimits(wait_max_s=1e4)


@attrs.frozen
class Asking:
    """One who asks the question at a time, for a stream or a whole answer."""

    user: str
    at_s: float
    whole: bool = False
    leaves_s: float = 1e5


@attrs.frozen
class Busy:
    """Another call, which takes so long, and of which there are some when the question is asked."""

    user: str
    lasts_s: int


@attrs.define(eq=False)
class World:
    """Two models within the limits of their callers: one is asked the question, one keeps busy."""

    rules: CallerRules
    coalesces: bool
    takes_s: float = 0.0
    """What the state takes to answer, in most cases."""
    inner: Model | None = None
    model: Fake = attrs.field(factory=Fake)
    payers: list[Payer] = attrs.field(factory=list)

    async def first_words(
        self, busy: Sequence[Busy], askers: Sequence[Asking]
    ) -> list[float | None]:
        """When each has had the first word, or the whole answer; None for who has left, or was refused."""
        state: State = MemoryState(now_s=trio.current_time)
        if self.takes_s:
            state = SlowState(slow_s=self.takes_s)
        limits = CallerLimits(self.rules, state)
        guarded = GuardedModel(self.inner or self.model, name="m")
        asked: Model = CallerLimitedModel(guarded, limits)
        if self.coalesces:
            asked = CoalescedModel(asked, name="m")
        found: list[float | None] = [None] * len(askers)
        async with trio.open_nursery() as engine:
            self.payers = [
                Payer(engine, f"r{at}", Caller("acme", each.user)) for at, each in enumerate(askers)
            ]
            async with trio.open_nursery() as nursery:
                for at, each in enumerate(busy):
                    account = Payer(engine, f"b{at}", Caller("acme", each.user))
                    nursery.start_soon(self._busy, limits, account, each, at)
                for at, one in enumerate(askers):
                    nursery.start_soon(self._asks, asked, one, found, at)
            await trio.testing.wait_all_tasks_blocked()
            assert not engine.child_tasks, "a flight outlives its waiters"
        assert limits.waiting == 0
        assert self.model.running == 0
        if isinstance(asked, CoalescedModel):
            assert asked.flights == 0
        return found

    async def _busy(self, limits: CallerLimits, account: Payer, busy: Busy, at: int) -> None:
        PRESENT.set(account)
        await trio.sleep(at / 100)
        events = saying(1)[:1] * busy.lasts_s + saying(0)
        model = CallerLimitedModel(GuardedModel(Fake(events), name="b"), limits)
        await read(model, ask(f"something else {at}"))

    async def _asks(self, model: Model, asking: Asking, found: list[float | None], at: int) -> None:
        PRESENT.set(self.payers[at])
        await trio.sleep(asking.at_s)
        with trio.move_on_after(asking.leaves_s), suppress(LimitReachedError):
            if asking.whole:
                answer = await model.complete(ASKED)
                found[at] = trio.current_time()
                assert answer.text == Completion.of(self.model.events).text
                return
            said: list[ModelEvent] = []
            async with model.stream(ASKED) as reply:
                while batch := await reply.receive():
                    said += batch
                    found[at] = found[at] or trio.current_time()
            assert Completion.of(said).text == Completion.of(self.model.events).text


def told(payers: Sequence[Payer]) -> list[bool]:
    """Which journals say that a call was shared."""
    return [any(note[0] is StepCoalesced for note in each.notes) for each in payers]


def some(
    requests: Sequence[int | None], concurrency: Sequence[int | None]
) -> st.SearchStrategy[OwnerLimits]:
    return st.builds(
        lambda per_minute, at_once: attrs.evolve(
            PATIENT, requests_per_minute=per_minute, concurrency=at_once
        ),
        st.sampled_from(requests),
        st.sampled_from(concurrency),
    )


rules = st.builds(
    lambda user, organisation, users: CallerRules(
        user=user, organisation=organisation, users=users
    ),
    some([None, None, 10], [None, 1, 2]),
    some([None, None, 20], [None, 1, 3]),
    st.dictionaries(st.sampled_from(USERS), some([None, 10, 30], [None, 1]), max_size=2),
)
busy = st.lists(st.builds(Busy, st.sampled_from(USERS), st.integers(1, 60)), max_size=4)
times = st.lists(st.tuples(st.sampled_from(USERS), st.integers(0, 40)), min_size=1, max_size=6).map(
    # no two at one instant: who of them is first is a matter of chance, alone too
    lambda drawn: [Asking(user, 1 + at_s + at / 100) for at, (user, at_s) in enumerate(drawn)]
)


def of_all_kinds(askers: Sequence[Asking]) -> st.SearchStrategy[list[Asking]]:
    """The same, some of whom want a whole answer, or leave early."""
    more = st.tuples(st.booleans(), st.sampled_from([1e5, 1e5, 0.5, 3.0, 20.0]))
    return st.lists(more, min_size=len(askers), max_size=len(askers)).map(
        lambda drawn: [
            attrs.evolve(each, whole=whole, leaves_s=leaves_s)
            for each, (whole, leaves_s) in zip(askers, drawn, strict=True)
        ]
    )


@given(schedules(), rules, busy, times)
def test_nobody_has_the_first_word_later_than_without_sharing(
    schedule: int, rules: CallerRules, busy: list[Busy], askers: list[Asking]
) -> None:
    """Whoever's limits are in the way of whom, and however long."""
    shared, alone = World(rules, coalesces=True), World(rules, coalesces=False)
    found = virtual(lambda: shared.first_words(busy, askers), schedule=schedule)
    expected = virtual(lambda: alone.first_words(busy, askers), schedule=schedule)
    for mine, own in zip(found, expected, strict=True):
        assert mine is not None
        assert own is not None
        assert mine <= own + 1e-6
    assert shared.model.asked <= alone.model.asked
    assert shared.model.asked >= len(askers) - sum(told(shared.payers))


@given(
    schedules(),
    rules,
    busy,
    times.flatmap(of_all_kinds),
    st.sampled_from([0.0, 0.02]),
)
def test_whoever_comes_and_goes_all_who_stay_are_answered_in_time(
    schedule: int,
    rules: CallerRules,
    busy: list[Busy],
    askers: list[Asking],
    takes_s: float,
) -> None:
    """A stream may wait for the end of a whole answer, and a state may be slow to tell."""
    shared = World(rules, coalesces=True, takes_s=takes_s)
    found = virtual(lambda: shared.first_words(busy, askers), schedule=schedule)
    for mine, each in zip(found, askers, strict=True):
        assert (mine is not None) or each.leaves_s < 1e5


def test_who_has_room_does_not_wait_for_the_limit_of_another() -> None:
    """And the other has the answer as soon, whose limit is still reached."""
    rules = CallerRules(users={"ada": attrs.evolve(PATIENT, concurrency=1)})
    world = World(rules, coalesces=True)
    askers = [Asking("ada", 1), Asking("bob", 2), Asking("ada", 2.5)]
    found = virtual(lambda: world.first_words([Busy("ada", 60)], askers))
    assert found == [3.0, 3.0, 3.0]
    assert world.model.asked == 1
    assert told(world.payers) == [True, False, True]
    paid = [each.usage for each in world.payers]
    assert all(paid), "each pays a share"


@pytest.mark.parametrize("whole", [False, True])
def test_who_joined_before_it_was_known_asks_anew(whole: bool) -> None:
    rules = CallerRules(users={"ada": attrs.evolve(PATIENT, concurrency=1)})
    world = World(rules, coalesces=True, takes_s=0.02)
    rest = [Asking(f"u{at}", 1.001 + at / 1000, whole) for at in range(9)]
    askers = [Asking("ada", 1, whole), *rest]
    found = virtual(lambda: world.first_words([Busy("ada", 60)], askers))
    assert all(each is not None and each < 2 + LASTS_S + whole for each in found)
    assert world.model.asked == 1, "they share again"


def test_who_has_room_is_turned_away_once_however_many_have_none() -> None:
    """They do not join one flight after the other of which nobody knows yet whether it waits."""
    at_once = attrs.evolve(PATIENT, concurrency=1)
    full = [f"u{at}" for at in range(9)]
    world = World(CallerRules(users=dict.fromkeys(full, at_once)), coalesces=True, takes_s=0.02)
    askers = [Asking(user, 1 + at / 1000) for at, user in enumerate([*full, "eve"])]
    found = virtual(lambda: world.first_words([Busy(user, 60) for user in full], askers))
    assert all(each == pytest.approx(2.04, abs=0.01) for each in found)
    assert world.model.asked == 1


def test_an_organisation_that_is_let_through_makes_one_call() -> None:
    rules = CallerRules(organisation=attrs.evolve(PATIENT, concurrency=2))
    world = World(rules, coalesces=True)
    askers = [Asking(f"u{at % 50}", 1 + at / 100) for at in range(200)]
    found = virtual(lambda: world.first_words([Busy("x", 20), Busy("y", 22)], askers))
    assert found == [pytest.approx(23.0)] * 200
    assert world.model.asked == 1


def test_calls_of_one_caller_stand_in_line_as_one() -> None:
    """However many there are, they take one place of those that may wait."""
    rules = CallerRules(user=attrs.evolve(PATIENT, concurrency=1, waiting_max=1))
    world = World(rules, coalesces=True)
    askers = [Asking("ada", 1 + at) for at in range(5)]
    found = virtual(lambda: world.first_words([Busy("ada", 20)], askers))
    assert len(set(found)) == 1
    assert world.model.asked == 1


def test_one_run_that_asks_twice_has_two_answers_in_line_too() -> None:
    rules = CallerRules(users={"ada": attrs.evolve(PATIENT, concurrency=1)})
    model = Fake()

    async def main() -> None:
        limits = CallerLimits(rules, MemoryState(now_s=trio.current_time))
        shared = CoalescedModel(CallerLimitedModel(model, limits), name="m")
        held = await limits.enter(Caller("acme", "ada"))
        async with trio.open_nursery() as engine, trio.open_nursery() as nursery:

            async def asks(user: str, run_id: str) -> None:
                PRESENT.set(Payer(engine, run_id, Caller("acme", user)))
                await read(shared)

            for user, run_id in (("ada", "1"), ("ada", "1"), ("bob", "2")):
                nursery.start_soon(asks, user, run_id)
                await trio.sleep(0.1)
            await trio.sleep(2)
            assert (model.asked, shared.flights) == (1, 2), "the second waits on"
            await limits.leave(held, tokens=0)

    virtual(main)
    assert model.asked == 2


@pytest.mark.parametrize("kind", ["stream", "whole", "vectors"])
@pytest.mark.parametrize("crowded", [False, True])
def test_who_was_taken_over_is_not_refused_what_is_refused_to_another(
    kind: str,
    crowded: bool,
) -> None:
    """Also where it is who has opened the flight that they waited for first."""
    rules = CallerRules(users={"ada": attrs.evolve(PATIENT, concurrency=1)})
    model = Fake()

    async def main() -> None:
        limits = CallerLimits(rules, MemoryState(now_s=trio.current_time))
        inner = CallerLimitedModel(Refusing(model, USED_UP, 1.0), limits)
        rule = CoalesceRule(flights_max=2 if crowded else 10)
        shared = CoalescedModel(inner, name="m", rule=rule)
        held = await limits.enter(Caller("acme", "ada"))
        refused = []

        async def asks(engine: trio.Nursery, run_id: str, caller: Caller) -> None:
            PRESENT.set(Payer(engine, run_id, caller))
            try:
                if kind == "stream":
                    assert await read(shared)
                elif kind == "whole":
                    assert (await shared.complete(ASKED)).text
                else:
                    assert (await shared.embed(TEXTS)).vectors
            except type(USED_UP):
                refused.append(caller)

        async with trio.open_nursery() as engine, trio.open_nursery() as nursery:
            nursery.start_soon(asks, engine, "1", Caller("acme", "ada"))
            await trio.sleep(1)
            nursery.start_soon(asks, engine, "2", POOR)
            await trio.sleep(1.5)
            assert refused == [POOR]
            assert (shared.flights, limits.waiting) == (1, 1), "she stands in her own line again"
            if crowded:
                nursery.start_soon(asks, engine, "3", Caller("acme", "bob"))
                await trio.sleep(1)
            await limits.leave(held, tokens=0)
        assert shared.flights == 0

    virtual(main)
    assert model.asked == 1


def test_who_is_refused_in_their_own_line_is_refused_alone() -> None:
    """The call that another caller waits for goes on."""
    impatient = OwnerLimits(concurrency=1, wait_max_s=0)
    rules = CallerRules(users={"ada": attrs.evolve(PATIENT, concurrency=1), "bob": impatient})
    world = World(rules, coalesces=True)
    busy = [Busy("ada", 20), Busy("bob", 20)]
    found = virtual(lambda: world.first_words(busy, [Asking("ada", 1), Asking("bob", 2)]))
    assert found == [pytest.approx(23.0), None]
