"""Budgets: nobody spends more than they may, and what is held is given back, whatever happens."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import TypeVar

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.accounts import NO_ALLOWANCE, Caller, KeyAllowance, Usage
from orchestra.answers import Completion
from orchestra.errors import (
    BudgetExceededError,
    BudgetHeldError,
    OverloadedError,
    StateError,
    UnknownPriceError,
)
from orchestra.events import BudgetReached, Note
from orchestra.policies import outbox
from orchestra.policies.account import PRESENT, NoAccount
from orchestra.policies.batches import BatchSize
from orchestra.policies.guard import GuardedModel
from orchestra.policies.health.breaker import BreakerRule, HalfOpen
from orchestra.policies.limits.limit import CallLimits, Load
from orchestra.policies.money.budget import (
    NO_BUDGETS,
    Budget,
    Budgets,
    Payer,
    Period,
    SpendingLimits,
)
from orchestra.policies.money.ledger import (
    ENCODING,
    HOLD_KEY,
    Hold,
    Kept,
    Ledger,
    Reached,
    Refusal,
    Settlement,
    Wanted,
    hold,
    settle,
)
from orchestra.policies.money.prices import Price
from orchestra.policies.money.purse import Purse, Reservation
from orchestra.policies.requests.tokens import covered_bytes
from orchestra.protocols import Change, Model, ModelReply, State
from orchestra.records import Encoding, Revision
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    Message,
    ModelEvent,
    Stopped,
    StopReason,
    TextDelta,
    UsageReport,
    Vector,
)

T = TypeVar("T")
R = TypeVar("R")
D = TypeVar("D")
DAY, MONTH = 0, 1
PRICE = Price(input=1_000_000, output=1_000_000)
"""A nano-dollar a token."""
ASKED = ChatRequest((Message("user", "x" * 30),), output_tokens_max=86)
WORST = 100
"""What that costs at most: 14 tokens of input, as estimated, and 86 of output."""
COUNTED = Usage(10, 30)
NEW_YEAR_S = datetime(2027, 1, 1, tzinfo=UTC).timestamp()


class Run:
    """What the accounts of one run have in common."""


class Told(NoAccount):
    """The account of a caller, and all that was written down in it."""

    def __init__(
        self,
        organisation: str = "acme",
        user: str = "",
        run_id: str = "1",
        *,
        key: str = "",
        allowance: KeyAllowance = NO_ALLOWANCE,
        run_key: object = None,
    ) -> None:
        self.caller = Caller(organisation, user, key, allowance)
        self.run_id = run_id
        self.run_key = self if run_key is None else run_key
        self.usages: list[Usage] = []
        self.notes: list[tuple[object, ...]] = []

    def used(self, usage: Usage, model: str = "") -> None:
        if not usage.settled:
            self.usages.append(usage)

    def record(self, note: type[Note], *fields: object) -> None:
        assert note is BudgetReached
        self.notes.append(fields)

    @property
    def cost(self) -> int:
        return sum(each.cost_nanodollars for each in self.usages)


@attrs.define(eq=False)
class Fake(Model):
    """Says so many words, of a token each as they are, one a second, and counts what it is told to."""

    words: int = 3
    word: str = "abc"
    counts: Usage | None = COUNTED
    error: Exception | None = None
    can: Capabilities = Capabilities()
    asked: int = 0
    running: int = 0

    @property
    def capabilities(self) -> Capabilities:
        return self.can

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        self.asked += 1
        self.running += 1
        try:
            await trio.lowlevel.checkpoint()
            yield FakeReply(self, self.words)
        finally:
            self.running -= 1


@attrs.define(eq=False)
class FakeReply:
    model: Fake
    left: int

    async def receive(self) -> tuple[ModelEvent, ...]:
        await trio.sleep(1)
        self.left -= 1
        if self.left >= 0:
            return (TextDelta(self.model.word),)
        if self.left == -1:
            if self.model.error is not None:
                raise self.model.error
            counted = [UsageReport(self.model.counts)] if self.model.counts else []
            return (*counted, Stopped(StopReason.END))
        return ()


@attrs.define(eq=False)
class Watched(State):
    """A memory state that keeps a log of what was ever held and spent, and can be away."""

    inner: MemoryState
    away: Callable[[], bool] = lambda: False
    slow_s: float | None = None
    at_once: bool = False
    changes: int = 0
    most: int = 0

    async def change(
        self, keys: Sequence[str], decide: Callable[[Sequence[bytes | None], float], Change[T]]
    ) -> T:
        self.changes += 1
        if self.slow_s is not None:
            await trio.sleep(self.slow_s)
        if self.away():
            raise StateError("gone")
        result = await self.inner.change(keys, decide)
        kept = [key for key in keys if not key.startswith(HOLD_KEY)]
        for ledger in await self.ledgers(kept):
            self.most = max(self.most, ledger.spent[DAY] + ledger.held)
        return result

    async def recall(self, key: str) -> bytes | None:
        return await self.inner.recall(key)

    async def remember(self, key: str, data: bytes, *, ttl_s: float) -> None:
        await self.inner.remember(key, data, ttl_s=ttl_s)

    def holds(self) -> list[str]:
        return [key for key in self.inner._entries if key.startswith(HOLD_KEY)]

    async def ledgers(self, keys: Sequence[str]) -> list[Ledger]:
        def read(data: Sequence[bytes | None], now_s: float) -> Change[list[bytes]]:
            return Change([each for each in data if each])

        return [ledger_of(each) for each in await self.inner.change(keys, read)]


@attrs.define(eq=False)
class AtOnce(Watched):
    """The same, whose ledgers are records, as those of a memory state are."""

    at_once: bool = True

    async def revise(
        self,
        keys: Sequence[str],
        decide: Callable[[Sequence[D | None], float], Revision[T, D]],
        encoding: Encoding[D],
    ) -> T:
        self.changes += 1
        result = await self.inner.revise(keys, decide, encoding)
        for ledger in await self.ledgers(keys):
            self.most = max(self.most, ledger.spent[DAY] + ledger.held)
        return result


def ledger_of(data: bytes) -> Ledger:
    """What is kept of a payer, which is consistent."""
    ledger = ENCODING.read(data)
    assert isinstance(ledger, Ledger)
    assert ledger.held == sum(ledger.holds.values())
    assert all(ledger.first_s <= until_s <= ledger.last_s for until_s in ledger.holds)
    assert min(ledger.holds.values(), default=0) >= 0
    return ledger


def watched(kind: type[Watched] = Watched, **more: object) -> Watched:
    return kind(MemoryState(now_s=lambda: NEW_YEAR_S + trio.current_time()), **more)  # type: ignore[arg-type]


def acme(day: int | None = None, month: int | None = None, **more: object) -> Budgets:
    return Budgets(organisation=SpendingLimits(day=day, month=month), **more)  # type: ignore[arg-type]


def guarded(
    model: Model, budgets: Budgets, state: State, price: Price | None = PRICE, **more: object
) -> GuardedModel:
    purse = Purse(budgets, state)
    return GuardedModel(model, name="m", price=price, purse=purse, **more)  # type: ignore[arg-type]


async def ask(model: Model, account: Told, request: ChatRequest = ASKED, most: int = 1000) -> int:
    """How many batches came."""
    PRESENT.set(account)
    heard = 0
    async with model.stream(request) as reply:
        while heard < most and await reply.receive():
            heard += 1
    return heard


ACME = Budget("organisation", "acme", Period.DAY, 0).key


@pytest.mark.parametrize("whose", ["organisation", "run"])
@given(st.integers(1, 12), st.integers(0, 12), schedules())
def test_n_at_once_against_a_budget_for_k_admits_exactly_k(
    whose: str, n: int, k: int, schedule: int
) -> None:
    limit, resets_at_s = k * WORST + WORST - 1, NEW_YEAR_S + 86_400
    budgets = acme(day=limit) if whose == "organisation" else Budgets(request=limit)

    async def main() -> None:
        state, fake, run, refused = watched(), Fake(), Run(), list[BudgetExceededError]()
        model = guarded(fake, budgets, state)

        async def call() -> None:
            try:
                await ask(model, Told(run_key=run))
            except BudgetExceededError as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(n):
                nursery.start_soon(call)
        assert fake.asked == min(n, k)
        assert len(refused) == n - fake.asked
        for error in refused:
            assert isinstance(error, BudgetHeldError) == error.retryable == (k > 0)
            assert error.retry_after_s == (1.0 if k else None)
            assert error.held_nanodollars == k * WORST
            assert error.resets_at_s == (resets_at_s if whose == "organisation" else None)
        assert model.state().load == Load(0, 0)

    virtual(main, schedule=schedule)


@pytest.mark.parametrize("budgets", [acme(day=150), Budgets(request=150)])
def test_only_what_others_hold_may_be_tried_again(budgets: Budgets) -> None:
    """Of 150 a call of 40 holds 100: the next has to wait for it, and the fourth has no money."""

    async def main() -> list[object]:
        model, run, found = guarded(Fake(), budgets, watched()), Run(), list[object]()

        async def call() -> None:
            try:
                await ask(model, Told(run_key=run))
            except BudgetExceededError as error:
                raises = "have the limit in [budgets] raised" in error.message
                found.append((type(error), error.retryable, raises))
            else:
                found.append(None)

        for at_once in (2, 1, 1):
            async with trio.open_nursery() as nursery:
                for _ in range(at_once):
                    nursery.start_soon(call)
        return found

    held, spent = (BudgetHeldError, True, False), (BudgetExceededError, False, True)
    assert virtual(main) == [held, None, None, spent]


def test_an_answer_that_grows_into_what_others_hold_is_not_to_be_asked_again() -> None:
    """It is paid for already: nobody asks again by themselves."""

    async def main() -> BudgetExceededError:
        fake = Fake(words=30, word="x" * 300, counts=None)
        model = guarded(fake, acme(day=4_000), watched())
        PRESENT.set(Told())
        async with model.stream(attrs.evolve(ASKED, output_tokens_max=2_000)):
            with pytest.raises(BudgetExceededError) as caught:
                await ask(model, Told(), attrs.evolve(ASKED, output_tokens_max=None))
        return caught.value

    error = virtual(main)
    assert error.begun
    assert "this answer was stopped, as it may cost $0.00000" in error.message
    assert error.spent_nanodollars + error.held_nanodollars < 4_000
    assert not error.retryable
    assert not isinstance(error, BudgetHeldError)


def drawn_calls(seed: int) -> list[tuple[float, float, int]]:
    """A hundred calls: when each begins, after how long it is cancelled, how much it reads."""
    draw = Random(seed)
    return [
        (draw.randrange(40) / 4, draw.randrange(12) / 4, draw.randrange(2, 7)) for _ in range(100)
    ]


@pytest.mark.in_full
@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 30),
    st.booleans(),
    st.sampled_from([None, 0.01]),
    st.sampled_from([None, 1, 3, 8]),
    st.sampled_from([3, 400]),
    schedules(),
)
def test_ten_thousand_cancellations_leave_no_hold_and_no_overspend(  # noqa: PLR0917 - all are drawn
    seed: int,
    room: int,
    fails: bool,
    slow_s: float | None,
    of_run: int | None,
    size: int,
    schedule: int,
) -> None:
    """150 times a hundred calls, of which about four in five are cancelled at some moment.

    Words may be longer than an estimate assumes, so that an answer looks like more than its bound.
    """
    calls = drawn_calls(seed)
    runs = [Run() for _ in range(10)]
    accounts = [Told(run_key=run) for run in runs * 10]
    limit = room * WORST
    of_each = None if of_run is None else of_run * WORST

    async def main() -> None:
        state = watched(AtOnce if slow_s is None else Watched, slow_s=slow_s)
        error = OverloadedError("no room") if fails else None
        fake = Fake(word="x" * size, error=error)
        model = guarded(fake, acme(day=limit, month=10 * limit, request=of_each), state)

        async def call(account: Told, begins: float, lasts: float, most: int) -> None:
            await trio.sleep(begins)
            with trio.move_on_after(lasts):
                with suppress(BudgetExceededError, OverloadedError):
                    await ask(model, account, most=most)

        async with trio.open_nursery() as nursery:
            for account, (begins, lasts, most) in zip(accounts, calls, strict=True):
                nursery.start_soon(call, account, begins, lasts, most)
        spent = sum(account.cost for account in accounts)
        purse = purse_of(model)
        keys = [each.key for each in purse.budgets.of_caller(Caller("acme"))]
        for ledger in await state.ledgers(keys):
            assert not ledger.holds
            assert ledger.spent == [spent, spent]
        assert set(state.inner._entries) <= set(keys), "of runs the state knows nothing"
        for run, own in purse._of_runs.items():
            assert own.held == 0
            assert own.spent == sum(each.cost for each in accounts if each.run_key is run)
            assert own.spent <= own.budget.limit_nanodollars == of_each
        assert bool(purse._of_runs) == (of_each is not None)
        assert not state.holds()
        assert state.most <= limit
        assert fake.running == 0
        assert model.state().load == Load(0, 0)

    virtual(main, schedule=schedule)


def purse_of(model: GuardedModel) -> Purse:
    purse = model._gate.costs.purse
    assert purse is not None
    return purse


def test_what_a_run_has_spent_is_forgotten_with_the_run() -> None:
    async def main() -> None:
        state = watched()
        model = guarded(Fake(), Budgets(request=2 * WORST), state)
        runs = [Run(), Run()]

        async def call(at: int) -> None:
            await ask(model, Told(run_key=runs[at]))

        for at in (0, 1, 0):
            async with trio.open_nursery() as nursery:  # a task of its own, as steps have
                nursery.start_soon(call, at)
        for spent in ([80, 40], [40], []):
            gc.collect()
            assert [each.spent for each in purse_of(model)._of_runs.values()] == spent
            del runs[:1]
        assert state.changes == 0

    virtual(main)


def test_a_stream_that_grows_twice_holds_of_its_run_what_it_needs_and_no_more() -> None:
    """The budget of its run is just enough for it: what it held before is not held twice."""

    async def main() -> tuple[int, int, int]:
        fake = Fake(words=30, word="x" * 300, counts=None)
        model, account = guarded(fake, Budgets(request=3_014), watched()), Told()
        heard = await ask(model, account, attrs.evolve(ASKED, output_tokens_max=None))
        (own,) = purse_of(model)._of_runs.values()
        return heard, own.held, own.spent - account.cost

    assert virtual(main) == (31, 0, 0)


def test_a_threshold_of_a_run_is_told_once() -> None:
    async def main() -> None:
        model, account = guarded(Fake(), Budgets(request=300), watched()), Told()
        for _ in range(5):  # of which the fourth is beyond the half
            await ask(model, account)
        assert account.notes == [("request 1, a run", 50, 160, 300)]

    virtual(main)


@pytest.mark.parametrize("when", ["open", "closed"])
def test_a_run_keeps_to_its_budget_while_the_state_is_away(when: str) -> None:
    """And holds nothing of it for a call that the state has refused."""

    async def main() -> None:
        state = watched(away=lambda: True)
        budgets = Budgets(
            request=2 * WORST,
            organisation=SpendingLimits(day=10_000, when_state_fails=when),  # type: ignore[arg-type]
        )
        model, account = guarded(Fake(counts=Usage(14, 86)), budgets, state), Told()
        for _ in range(2):
            with nullcontext() if when == "open" else pytest.raises(StateError):
                await ask(model, account)
        (own,) = purse_of(model)._of_runs.values()
        assert (own.spent, own.held) == ((200, 0) if when == "open" else (0, 0))
        with pytest.raises(BudgetExceededError if when == "open" else StateError):
            await ask(model, account)

    virtual(main)


class Books:
    """What a state keeps of some budgets, and its clock. A call has a key, or knows what it holds."""

    def __init__(self, *payers: Payer, named: bool = True) -> None:
        self.now_s = NEW_YEAR_S
        self.kept: dict[str, bytes] = {}
        self.ttls: dict[str, float] = {}
        self.payers = payers
        self.there: dict[str, Hold | None] = {}
        self._named = named

    def decided(self, name: str, decide: Callable[..., Revision[R, Kept]]) -> Revision[R, Kept]:
        """What is decided, with all that is kept written and read again."""
        keys = [*(payer.key for payer in self.payers), *([name] if name else [])]
        kept = [ENCODING.read(self.kept[key]) if key in self.kept else None for key in keys]
        revision = decide(kept, self.now_s)
        for key, each in revision.records.items():
            self.kept.pop(key, None)
            if each is not None:
                self.kept[key], self.ttls[key] = ENCODING.write(each[0]), each[1]
        return revision

    def hold(self, name: str, nanodollars: int, for_s: float = 600.0) -> Refusal | None:
        key = name if self._named else ""
        wanted = Wanted(key, self.payers, nanodollars, for_s, self.there.get(name))
        revision = self.decided(key, partial(hold, wanted))
        if isinstance(revision.result, Refusal):
            assert not revision.records
            return revision.result
        self.there[name] = revision.result
        return None

    def settle(self, name: str, cost: int, *, again: bool = False) -> Sequence[Reached]:
        key = name if self._named else ""
        end = Settlement(key, self.payers, cost, self.there.get(name), again)
        if not self._named:
            self.there.pop(name, None)
        return self.decided(key, partial(settle, end)).result

    def ledger(self) -> Ledger:
        (payer,) = self.payers
        return ledger_of(self.kept[payer.key])


def ada(period: Period = Period.DAY, limit: int = 100) -> Payer:
    return ada_with(**{period.value: limit})


def ada_with(**limits: int) -> Payer:
    payer = Payer.of("user", "ada", SpendingLimits(**limits))  # type: ignore[arg-type]
    assert payer is not None
    return payer


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=40))
def test_thresholds_are_told_once_a_period(calls: list[tuple[int, int]]) -> None:
    books = Books(ada(limit=1000))
    told: list[tuple[float, int]] = []
    sums: dict[float, int] = {}
    for hours, cost in calls:
        books.now_s += hours * 3600
        reached = books.settle("h", cost)
        day = books.now_s // 86_400
        sums[day] = sums.get(day, 0) + cost
        told += [(day, each.percent) for each in reached]
        assert books.ledger().spent[DAY] == sums[day]
    wanted = {(day, at) for day, spent in sums.items() for at in (50, 80, 100) if spent >= at * 10}
    assert sorted(told) == sorted(wanted)


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(10, 1000)), max_size=20))
def test_thresholds_are_those_of_the_limit_that_there_is(
    calls: list[tuple[int, int]],
) -> None:
    """One that was raised is told of anew; of one that was lowered, with the next call."""
    books, spent, told = Books(ada()), 0, 0
    for cost, limit in calls:
        books.payers = (ada(limit=limit),)
        before = [at for at in (50, 80, 100) if spent * 100 >= at * limit]
        spent += cost
        reached = [at for at in (50, 80, 100) if spent * 100 >= at * limit]
        new = [at for at in reached if at > min(told, max(before, default=0))]
        assert [each.percent for each in books.settle("h", cost)] == new
        told = max(reached, default=told)


def test_what_was_spent_is_held_against_another_limit() -> None:
    books = Books(ada(limit=100))
    books.hold("h", 60)
    books.settle("h", 60)
    books.payers = (ada(limit=50),)
    assert books.hold("h", 1) is not None
    books.payers = (ada(limit=200),)
    assert books.hold("h", 140) is None
    assert books.hold("i", 1) is not None


@given(st.lists(st.tuples(st.integers(-20, 60), st.integers(1, 60)), max_size=40))
def test_a_day_and_a_month_are_counted_each_for_itself(calls: list[tuple[int, int]]) -> None:
    """From December on, also where the clock is set back; by a day, it is still tomorrow."""
    books = Books(ada_with(day=10_000, month=10_000))
    books.now_s -= 86_400
    before, before_day = (0, 0), 0
    sums = [0, 0]
    for days, cost in calls:
        books.now_s += days * 43_200
        day = int(books.now_s // 86_400)
        before_day = before_day if before_day == day + 1 else day
        today = datetime.fromtimestamp(before_day * 86_400, UTC)
        now = (today.toordinal(), today.year * 12 + today.month)
        sums = [sums[at] * (before[at] == now[at]) + cost for at in (DAY, MONTH)]
        before = now
        books.settle("h", cost)
        assert books.ledger().spent == sums


def test_a_period_ends_at_midnight_and_a_month_at_its_last() -> None:
    december = datetime(2026, 12, 31, 23, 59, tzinfo=UTC).timestamp()
    february = datetime(2027, 2, 3, tzinfo=UTC).timestamp()
    for period in (Period.DAY, Period.MONTH):
        books = Books(ada(period))
        books.now_s = december
        books.settle("g", 90)
        refusal = books.hold("h", 20)
        assert refusal is not None
        assert refusal.resets_at_s == NEW_YEAR_S
        books.now_s = NEW_YEAR_S
        assert books.hold("h", 20) is None
    books = Books(ada(Period.MONTH))
    books.now_s = february
    refusal = books.hold("h", 101)
    assert refusal is not None
    assert refusal.resets_at_s == datetime(2027, 3, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("period", [Period.DAY, Period.MONTH])
def test_a_clock_that_is_set_back_over_midnight_gives_no_budget_twice(period: Period) -> None:
    books = Books(ada(period))
    books.now_s = NEW_YEAR_S + 1
    books.settle("g", 90)
    books.now_s = NEW_YEAR_S - 5
    refusal = books.hold("h", 20)
    assert refusal is not None
    assert refusal.resets_at_s is not None
    assert refusal.resets_at_s > NEW_YEAR_S
    books.now_s = NEW_YEAR_S + 5
    assert books.hold("h", 20) is not None


def test_a_month_counts_what_was_spent_days_ago_also_of_who_has_a_budget_a_day() -> None:
    async def main() -> int:
        model, account = guarded(Fake(), acme(day=WORST, month=WORST + 39), watched()), Told()
        await ask(model, account)
        await trio.sleep(4 * 86_400)
        with pytest.raises(BudgetExceededError, match="organisation acme, a month") as caught:
            await ask(model, account)
        return caught.value.spent_nanodollars

    assert virtual(main) == 40


def test_a_call_over_midnight_is_held_in_both_days_and_paid_in_the_second() -> None:
    books = Books(ada())
    books.now_s = NEW_YEAR_S - 1
    books.hold("h", 60)
    assert list(books.ttls.values()) == [2 * 86_400, 600]
    books.now_s = NEW_YEAR_S + 1
    assert books.hold("i", 60) is not None
    books.settle("h", 50)
    assert "h" not in books.kept
    ledger = books.ledger()
    assert (ledger.spent[DAY], ledger.reported[DAY], ledger.holds) == (50, 50, {})


def test_the_hold_of_a_process_that_died_expires() -> None:
    for after_s, refused in ((599, True), (600, False)):
        books = Books(ada())
        books.hold("h", 60)
        books.now_s += after_s
        assert (books.hold("i", 60) is not None) == refused


def test_a_ledger_is_kept_as_long_as_its_longest_hold() -> None:
    books, long_s = Books(ada(limit=1000)), 10 * 86_400.0
    books.hold("h", 60, long_s)
    books.hold("i", 60, 60.0)
    assert books.ttls[books.payers[0].key] == long_s
    books.settle("i", 5)
    assert books.ttls[books.payers[0].key] == long_s


def test_a_settlement_that_is_tried_again_is_counted_once() -> None:
    for ends in ([False, True], [True, True], [True]):
        books = Books(ada())
        books.hold("h", 60)
        books.now_s += 1
        for again in ends:
            books.settle("h", 50, again=again)
        ledger = books.ledger()
        assert (ledger.spent[DAY], ledger.reported[DAY], ledger.holds) == (50, 50, {})


class Simple:
    """The theory of a budget, with no thought of how long it takes: all holds by their keys."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.spent = 0
        self.holds: dict[str, tuple[int, int]] = {}

    def there(self, now_s: float) -> dict[str, int]:
        return {key: amount for key, (amount, until_s) in self.holds.items() if until_s > now_s}

    def settle(self, key: str, cost: int, until_s: float, again: bool, now_s: float) -> None:
        if again and key not in self.there(now_s) and now_s < until_s:
            return
        self.holds.pop(key, None)
        self.spent += cost

    def fits(self, key: str, amount: int, now_s: float) -> bool:
        others = sum(held for each, held in self.there(now_s).items() if each != key)
        return self.spent + others + amount <= self.limit


STEPS = st.tuples(
    st.floats(0, 20),
    st.sampled_from("abcd"),
    st.integers(0, 60),
    st.sampled_from(["hold", "settle", "again"]),
)


@settings(max_examples=300)
@given(st.lists(STEPS, max_size=40), st.booleans())
def test_sums_of_holds_are_what_each_of_them_is(
    steps: list[tuple[float, str, int, str]], named: bool
) -> None:
    """Held, grown, settled, settled again, expired: in every order, in both budgets alike."""
    books = Books(ada_with(day=150, month=400), named=named)
    simple = [Simple(150), Simple(400)]
    until: dict[str, float] = {}
    for passes_s, key, amount, what in steps:
        books.now_s += passes_s
        now_s = books.now_s
        if what == "hold":
            refusal = books.hold(key, amount, 30.0)
            assert (refusal is None) == all(each.fits(key, amount, now_s) for each in simple)
            if refusal is None:
                there = books.there[key]
                assert there is not None
                until[key] = there.until_s
                assert 30 <= until[key] - now_s <= 31
                for each in simple:
                    each.holds[key] = (amount, int(until[key]))
        else:
            again = what == "again" and named
            books.settle(key, amount, again=again)
            for each in simple:
                each.settle(key, amount, until.get(key, 0.0), again, now_s)
        (payer,) = books.payers
        ledger = ledger_of(books.kept[payer.key]) if payer.key in books.kept else Ledger.empty(0)
        for slot, each in zip((DAY, MONTH), simple, strict=True):
            assert ledger.spent[slot] == each.spent
            held = sum(held for second, held in ledger.holds.items() if second > now_s)
            assert held == sum(each.there(now_s).values())


@given(st.integers(0, 60), schedules())
def test_a_stream_goes_on_while_there_is_room_and_stops_where_there_is_none(
    room: int, schedule: int
) -> None:
    """Nobody has bounded the answer: it holds more as it goes, and its upstream is closed."""
    account, fake = Told(), Fake(words=30, word="x" * 300, counts=None)
    unbounded = attrs.evolve(ASKED, output_tokens_max=None)
    limit = 1_014 + 40 * room
    too_much = 100  # one batch: who has heard it, has paid for it

    async def main() -> BudgetExceededError | None:
        state = watched()
        model = guarded(fake, acme(day=limit), state)
        error: BudgetExceededError | None = None
        try:
            await ask(model, account, unbounded)
        except BudgetExceededError as caught:
            error = caught
        assert fake.running == 0
        (ledger,) = await state.ledgers([ACME])
        assert not ledger.holds
        assert ledger.spent[DAY] == account.cost
        return error

    error = virtual(main, schedule=schedule)
    assert (error is None) == (limit >= 3_014)
    assert account.cost <= limit + too_much
    if error is not None:
        assert account.cost > limit
        assert error.limit_nanodollars == limit


@given(st.integers(1, 20), st.integers(0, 100), schedules())
def test_a_provider_that_ignores_the_bound_of_an_answer_is_stopped(
    bound: int, room: int, schedule: int
) -> None:
    """An answer in words of any language goes on; one that is many times too long does not."""
    account, fake = Told(), Fake(words=100, word="x" * 300, counts=None)
    bounded = attrs.evolve(ASKED, output_tokens_max=bound)
    limit = 14 + bound + 40 * room

    async def main() -> bool:
        state = watched()
        stopped = False
        try:
            await ask(guarded(fake, acme(day=limit), state), account, bounded)
        except BudgetExceededError:
            stopped = True
        assert fake.running == 0
        (ledger,) = await state.ledgers([ACME])
        assert not ledger.holds
        assert ledger.spent[DAY] == account.cost
        return stopped

    assert virtual(main, schedule=schedule)
    batch = 100
    assert account.cost <= max(limit, 14 + covered_bytes(bound, bounded=True) // 3 + 1) + batch


@pytest.mark.parametrize(("tokens", "token_bytes"), [(86, 10), (1, 128), (2, 100)])
def test_an_answer_within_its_bound_is_not_stopped_if_its_tokens_are_long(
    tokens: int, token_bytes: int
) -> None:
    """In Hindi, a token may have ten bytes; one of spaces has up to 128.

    The budget covers just this call. Nor does it cost more than its bound, if nobody has
    counted it.
    """
    account, fake = Told(), Fake(words=tokens, word=" " * token_bytes, counts=None)
    bounded = attrs.evolve(ASKED, output_tokens_max=tokens)

    async def main() -> None:
        await ask(guarded(fake, acme(day=14 + tokens), watched()), account, bounded)

    virtual(main)
    assert account.cost == 14 + tokens


@attrs.define(eq=False)
class InOnePiece(Fake):
    """Says all of its words and its end in one piece."""

    async def receive(self) -> tuple[ModelEvent, ...]:
        await trio.sleep(1)
        words, self.words = self.words, 0
        said = [TextDelta(self.word)] * words
        return (*said, Stopped(StopReason.END)) if said else ()

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        yield self


@pytest.mark.parametrize("whole", [True, False])
def test_an_answer_that_is_there_to_its_end_is_not_stopped_for_what_it_costs(whole: bool) -> None:
    """It has to be paid for, and nothing is saved by not giving it."""
    account = Told()
    unbounded = attrs.evolve(ASKED, output_tokens_max=None)

    async def main() -> int:
        PRESENT.set(account)
        model = guarded(InOnePiece(words=30, word="x" * 300), acme(day=1_100), watched())
        if whole:
            return len((await model.complete(unbounded)).text)
        return await ask(model, account, unbounded)

    assert virtual(main) == (9_000 if whole else 1)
    assert account.cost == 3_014


@given(st.integers(1, 8), st.integers(0, 300), st.sampled_from([None, 900, 3_000]), schedules())
def test_whole_answers_that_nobody_has_bounded_overspend_no_budget(
    n: int, room: int, longest: int | None, schedule: int
) -> None:
    """However many are asked for at once: each holds the longest, or is streamed and grows."""
    words = 9 if longest == 900 else 30
    can = Capabilities(output_tokens_max=longest)
    fake = Fake(words=words, word="x" * 300, counts=None, can=can)
    unbounded = attrs.evolve(ASKED, output_tokens_max=None)
    limit = 1_014 + 80 * room
    whole: list[str] = []

    async def one(model: Model) -> None:
        PRESENT.set(Told())
        with suppress(BudgetExceededError):
            answer = await model.complete(unbounded)
            whole.append(answer.text)

    async def main() -> Ledger:
        state = watched()
        model = guarded(fake, acme(day=limit), state)
        async with trio.open_nursery() as nursery:
            for _ in range(n):
                nursery.start_soon(one, model)
        (ledger,) = await state.ledgers([ACME])
        return ledger

    ledger = virtual(main, schedule=schedule)
    too_much = 100 * n  # a batch of each that was stopped
    assert ledger.spent[DAY] <= limit + too_much
    assert not ledger.holds
    assert set(whole) <= {fake.word * words}
    if longest is not None and limit >= n * (longest + 14):
        assert len(whole) == n


def test_a_whole_answer_that_is_streamed_within_a_budget_is_the_same_answer() -> None:
    async def main() -> Completion:
        PRESENT.set(Told())
        model = guarded(Fake(words=30, word="x" * 300), acme(day=4_000), watched())
        return await model.complete(attrs.evolve(ASKED, output_tokens_max=None))

    assert virtual(main).text == "x" * 9_000


def test_a_whole_answer_with_a_bound_is_requested_as_a_whole() -> None:
    """Only a stream can be stopped, but the bound is held, and a whole answer needs less."""

    class Whole(Fake):
        async def complete(self, request: ChatRequest) -> Completion:
            return Completion.of((TextDelta("as a whole"), Stopped(StopReason.END)))

    async def main() -> Completion:
        PRESENT.set(Told())
        return await guarded(Whole(), acme(day=WORST), watched()).complete(ASKED)

    assert virtual(main).text == "as a whole"


@pytest.mark.parametrize("fails", ["open", "closed"])
def test_while_the_state_is_away_a_budget_is_open_or_closed(fails: str) -> None:
    async def main() -> None:
        gone = True
        state, account = watched(away=lambda: gone), Told()
        allowed = SpendingLimits(day=1_000, when_state_fails=fails)  # type: ignore[arg-type]
        model = guarded(Fake(), Budgets(organisation=allowed), state)
        if fails == "closed":
            with pytest.raises(StateError, match='when_state_fails = "closed"'):
                await ask(model, account)
        else:
            await ask(model, account)
        gone = False
        await ask(model, account)
        (ledger,) = await state.ledgers([ACME])
        assert ledger.spent[DAY] == account.cost == (40 if fails == "closed" else 80)
        assert not ledger.holds

    virtual(main)


def test_what_is_held_unknown_to_a_call_that_is_cancelled_is_given_back() -> None:
    """The state has done what it was asked for, and its answer does not come."""

    @attrs.define(eq=False)
    class Mute(Watched):
        mute: bool = True

        async def change(
            self, keys: Sequence[str], decide: Callable[[Sequence[bytes | None], float], Change[T]]
        ) -> T:
            result = await super().change(keys, decide)
            if self.mute:
                self.mute = False
                await trio.sleep_forever()
            return result

    async def main() -> None:
        fake, state = Fake(), watched(Mute)
        with trio.move_on_after(1) as patience:
            await ask(guarded(fake, acme(day=WORST), state), Told())
        assert patience.cancelled_caught
        assert (fake.asked, state.most) == (0, WORST), "it was held"
        (ledger,) = await state.ledgers([ACME])
        assert (ledger.held, state.holds()) == (0, [])

    virtual(main)


class Embedding(Fake):
    """Embeds each text in a second, and reports three tokens."""

    async def embed(self, request: EmbedRequest) -> Embeddings:
        self.asked += 1
        await trio.sleep(1)
        return Embeddings((Vector.of([1.0]),), Usage(3, 0), "m")


@pytest.mark.parametrize("act", ["stream", "complete", "embed", "embed in several requests"])
def test_who_leaves_while_money_is_held_asks_nobody_and_pays_nothing(act: str) -> None:
    """A state ends what it has begun, so that the hold may succeed after they have left."""

    class Thorough(Watched):
        async def change(
            self, keys: Sequence[str], decide: Callable[[Sequence[bytes | None], float], Change[T]]
        ) -> T:
            with trio.CancelScope() as scope:
                scope.shield = True
                return await super().change(keys, decide)
            raise AssertionError("nobody cancels it")

    async def main() -> None:
        fake, account = Embedding(), Told()
        state = watched(Thorough, slow_s=outbox.GIVE_BACK_S / 2)
        size = BatchSize(1) if act == "embed in several requests" else None
        model = guarded(fake, acme(day=1_000_000), state, batch_size=size)
        PRESENT.set(account)
        with trio.move_on_after(outbox.GIVE_BACK_S / 4) as patience:
            if act == "stream":
                await ask(model, account)
            elif act == "complete":
                await model.complete(ASKED)
            else:
                await model.embed(EmbedRequest(("x" * 12,) * 10))
        assert patience.cancelled_caught
        assert (fake.asked, account.usages) == (0, [])
        (ledger,) = await state.ledgers([ACME])
        assert (ledger.spent[DAY], ledger.held, state.holds()) == (0, 0, [])
        assert state.most > 0, "it was held"

    virtual(main)


@pytest.mark.parametrize(("limit", "sent", "cost"), [(39, 0, 0), (40, 10, 30), (1_000, 10, 30)])
def test_money_for_all_requests_of_many_texts_is_held_before_the_first(
    limit: int, sent: int, cost: int
) -> None:
    """Each is paid for, and none is made in vain where there is not enough for the last."""

    async def main() -> None:
        state, account, fake = watched(), Told(), Embedding()
        model = guarded(fake, acme(day=limit), state, batch_size=BatchSize(1))
        PRESENT.set(account)
        advice = "Send shorter texts, or for a chat bound the answer by output_tokens_max"
        with nullcontext() if sent else pytest.raises(BudgetExceededError, match=advice):
            found = await model.embed(EmbedRequest(("x" * 12,) * 10))  # estimated as 4 each
            assert found.usage is not None
            assert found.usage.cost_nanodollars == cost
        assert (fake.asked, account.cost, state.most) == (sent, cost, 40 if sent else 0)
        for ledger in await state.ledgers([ACME]):
            assert (ledger.spent[DAY], ledger.held) == (cost, 0)

    virtual(main)


def test_of_requests_that_are_cancelled_those_that_were_made_are_paid_for() -> None:
    class Slow(Fake):
        async def embed(self, request: EmbedRequest) -> Embeddings:
            self.asked += 1
            await trio.sleep(self.asked)
            return Embeddings((Vector.of([1.0]),), Usage(3, 0), "m")

    async def main() -> None:
        state, account, fake = watched(), Told(), Slow()
        model = guarded(fake, acme(day=1_000), state, batch_size=BatchSize(1))
        PRESENT.set(account)
        with trio.move_on_after(1.5):
            await model.embed(EmbedRequest(("x" * 12,) * 10))
        (ledger,) = await state.ledgers([ACME])
        assert fake.asked == 5
        assert (ledger.spent[DAY], ledger.held) == (account.cost, 0)
        assert account.cost == 3 + 4 * 4, "as counted, and as estimated of those that were cut"

    virtual(main)


def test_a_probe_that_a_budget_refuses_leaves_its_place_to_the_next() -> None:
    async def main() -> None:
        fake = Fake(error=OverloadedError("no room"))
        budgets = Budgets(organisations={"poor": SpendingLimits(day=WORST - 1)})
        rule = BreakerRule(calls_min=1, probes=1)
        model = guarded(fake, budgets, watched(), breaker=rule)
        with pytest.raises(OverloadedError):
            await ask(model, Told())
        await trio.sleep(rule.open_s * 2)
        fake.error = None
        with pytest.raises(BudgetExceededError):
            await ask(model, Told("poor"))
        assert model.state().breaker == HalfOpen(1, 0)
        assert await ask(model, Told()) == 4

    virtual(main)


def test_a_state_that_never_answers_delays_the_end_by_50_ms() -> None:
    async def main() -> float:
        state, account = watched(), Told()
        model = guarded(Fake(), acme(day=1_000), state)
        PRESENT.set(account)
        async with model.stream(ASKED) as reply:
            await reply.receive()
            state.slow_s = 1_000.0
            before_s = trio.current_time()
        took_s = trio.current_time() - before_s
        state.slow_s = None
        await ask(model, account)
        (ledger,) = await state.ledgers([ACME])
        assert not ledger.holds
        assert ledger.spent[DAY] == account.cost
        return took_s

    assert virtual(main) == pytest.approx(0.05)


def test_whatever_is_wrong_with_the_state_an_answer_ends_well_and_is_paid_later() -> None:
    @attrs.define(eq=False)
    class Broken(Watched):
        broken: bool = False

        async def change(
            self, keys: Sequence[str], decide: Callable[[Sequence[bytes | None], float], Change[T]]
        ) -> T:
            if self.broken:
                raise RuntimeError("can't start new thread")
            return await super().change(keys, decide)

    async def main() -> None:
        account = Told()
        state = Broken(MemoryState(now_s=lambda: NEW_YEAR_S + trio.current_time()))
        model = guarded(Fake(), acme(day=1_000), state)
        PRESENT.set(account)
        async with model.stream(ASKED) as reply:
            while await reply.receive():
                state.broken = True
        state.broken = False
        await ask(model, account)
        (ledger,) = await state.ledgers([ACME])
        assert not ledger.holds
        assert ledger.spent[DAY] == account.cost

    virtual(main)


async def end_in_silence(model: GuardedModel, state: Watched, accounts: list[Told]) -> None:
    """A call of each account, all at once, at the end of which the state does not answer."""

    async def call(account: Told) -> None:
        PRESENT.set(account)
        async with model.stream(ASKED) as reply:
            await reply.receive()
            state.slow_s = 1_000.0

    async with trio.open_nursery() as nursery:
        for account in accounts:
            nursery.start_soon(call, account)


@given(st.integers(1, 20), st.sampled_from([0.0, 0.02, 0.5, 100.0]), schedules())
def test_what_is_late_is_settled_when_no_call_follows(n: int, away_s: float, schedule: int) -> None:
    """Within the time that there is for it."""

    async def main() -> None:
        state, accounts = watched(), [Told() for _ in range(n)]
        model = guarded(Fake(), acme(day=1_000_000), state)
        purse = purse_of(model)

        await end_in_silence(model, state, accounts)
        began_s = trio.current_time()
        state.slow_s, state.away = None, lambda: trio.current_time() < began_s + away_s
        assert await purse.outbox.flush(2.0) == (away_s < 2)
        assert trio.current_time() - began_s <= 2.0
        state.away = lambda: False
        (ledger,) = await state.ledgers([ACME])
        if away_s < 2:
            assert not ledger.holds
            assert ledger.spent[DAY] == sum(account.cost for account in accounts)

    virtual(main, schedule=schedule)


@given(st.integers(2, 12), schedules())
def test_calls_that_end_together_while_the_state_is_silent_are_settled_later_once_each(
    n: int, schedule: int
) -> None:
    async def main() -> None:
        state, accounts = watched(), [Told() for _ in range(n)]
        model = guarded(Fake(), acme(day=1_000_000), state)

        await end_in_silence(model, state, accounts)
        state.slow_s = None
        for _ in range(2):  # a few of those that are late go with each change
            accounts.append(Told())
            await ask(model, accounts[-1])
        (ledger,) = await state.ledgers([ACME])
        assert not ledger.holds
        assert ledger.spent[DAY] == sum(account.cost for account in accounts)

    virtual(main, schedule=schedule)


@pytest.mark.parametrize(
    "ends_s",
    [
        [0.0, 0.01, 0.02],
        [0.0, 0.01, 0.02, 0.03],
        [0.0, 0.001, 0.002, 0.03, 0.031, 0.032],  # the first are tried again, in vain
        [0.0, 0.001, 0.002, 0.03, 0.031, 0.032, 0.055],  # by the last of them
    ],
)
def test_of_what_is_late_for_too_long_the_oldest_is_lost_which_is_said_once_an_outage(
    ends_s: list[float], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox, "UNDELIVERED_MAX", 3)

    async def main() -> None:
        state = watched()
        purse = Purse(acme(day=10**9), state)

        async def end(reservation: Reservation, cost: int, at_s: float) -> None:
            await trio.sleep(at_s)
            await reservation.settle(cost)

        spent = 0
        for outage in (1, 2):
            calls = [await purse.hold(Told(), 1, for_s=600, model="m") for _ in ends_s]
            state.slow_s = 1_000.0
            async with trio.open_nursery() as nursery:
                for at, (reservation, end_s) in enumerate(zip(calls, ends_s, strict=True)):
                    assert reservation is not None
                    nursery.start_soon(end, reservation, 10**at, end_s)
                await trio.sleep(0.06)
                await purse.outbox.flush(0.04)  # in vain
            state.slow_s = None
            assert await purse.outbox.flush(2.0)
            (ledger,) = await state.ledgers([ACME])
            spent += sum(10**at for at in range(len(ends_s))[-3:])
            assert ledger.spent[DAY] == spent
            said = sum("from now on the oldest are lost" in each for each in caplog.messages)
            assert said == (outage if len(ends_s) > 3 else 0)

    virtual(main)


def test_who_has_no_budget_never_asks_the_state() -> None:
    async def main() -> int:
        state = watched()
        budgets = acme(day=1_000, request=1_000)
        await ask(guarded(Fake(), budgets, state), Told("", "", ""))
        await ask(guarded(Fake(), Budgets(), state), Told())
        await ask(guarded(Fake(), budgets, state, None), Told())
        await ask(guarded(Fake(), budgets, state, Price(input=0, output=0)), Told())
        assert await Purse(budgets, state).hold(Told(), 0, for_s=1.0, model="m") is None
        return state.changes

    assert virtual(main) == 0


def test_a_price_that_nobody_knows_is_flagged_or_refused() -> None:
    async def main() -> None:
        account = Told()
        await ask(guarded(Fake(), acme(), watched(), None), account)
        assert account.usages == [Usage(10, 30, unpriced_calls=1)]
        fake = Fake()
        model = guarded(fake, acme(unknown_price="refuse"), watched(), None)
        with pytest.raises(UnknownPriceError, match=r"add prices = .* to \[models.m\]"):
            await ask(model, account)
        assert fake.asked == 0

    virtual(main)


def test_each_caller_has_budgets_of_its_own_and_those_that_are_named_others() -> None:
    budgets = Budgets(
        request=5,
        user=SpendingLimits(day=1, month=2),
        organisation=SpendingLimits(month=3),
        users={"bob": SpendingLimits()},
        organisations={"acme": SpendingLimits(day=4)},
    )
    payers = budgets.of_caller(Caller("acme", "ada"))
    found = [each for payer in payers for each in payer.budgets]
    own = budgets.of_run("r")
    assert (str(own), own and own.limit_nanodollars) == ("request r, a run", 5)
    assert budgets.of_run("") is None
    assert [(str(each), each.limit_nanodollars) for each in found] == [
        ("user acme/ada, a day", 1),
        ("user acme/ada, a month", 2),
        ("organisation acme, a day", 4),
    ]
    assert [str(each) for each in budgets.of_caller(Caller("", "bob"))] == []
    (other,) = budgets.of_caller(Caller("a b"))
    assert other.key == "budget:organisation:a%20b"


def test_a_key_has_budgets_of_its_own_before_those_of_its_user() -> None:
    may = KeyAllowance(day_nanodollars=7, month_nanodollars=8)
    keyed = Caller("acme", "ada", "k1", may)
    payers = Budgets(user=SpendingLimits(day=9)).of_caller(keyed)
    found = [each for payer in payers for each in payer.budgets]
    assert [(str(each), each.limit_nanodollars, each.when_state_fails) for each in found] == [
        ("key k1, a day", 7, "closed"),
        ("key k1, a month", 8, "closed"),
        ("user acme/ada, a day", 9, "closed"),
    ]
    assert NO_BUDGETS.of_caller(Caller("acme", "ada", "k1")) == ()


def test_a_key_that_has_spent_its_budget_asks_no_more_and_others_do() -> None:
    async def main() -> str:
        state = watched()
        model = guarded(Fake(), Budgets(), state)
        keyed = Told(key="k1", allowance=KeyAllowance(day_nanodollars=WORST))
        await ask(model, keyed)
        with pytest.raises(BudgetExceededError) as caught:
            await ask(model, keyed)
        await ask(model, Told(key="k2", allowance=KeyAllowance(month_nanodollars=WORST)))
        before = state.changes
        await ask(model, Told(key="k3"))
        await ask(model, Told(key="k4", allowance=KeyAllowance(concurrency=1)))
        assert state.changes == before
        assert caught.value.budget == "key k1, a day"
        return str(caught.value)

    assert ", or ask for a key that may spend more" in virtual(main)


def test_the_budget_of_a_run_is_told_without_the_id_that_its_caller_may_not_know() -> None:
    async def main() -> str:
        model = guarded(Fake(), acme(request=WORST - 1), watched(), limits=CallLimits())
        with pytest.raises(BudgetExceededError) as caught:
            await ask(model, Told())
        return str(caught.value)

    said = virtual(main)
    assert "the budget of this run is $" in said
    assert "; the next run has a budget of its own. Send shorter texts" in said


def test_thresholds_and_the_spent_are_in_the_account_of_the_call() -> None:
    async def main() -> None:
        account = Told()
        model = guarded(Fake(), acme(day=180, request=200), watched(), limits=CallLimits())
        for _ in range(3):
            await ask(model, account)
        with pytest.raises(BudgetExceededError) as caught:
            await ask(model, account)
        assert account.cost == 120
        assert account.notes == [
            ("request 1, a run", 50, 120, 200),
            ("organisation acme, a day", 50, 120, 180),
        ]
        assert caught.value.budget == "request 1, a run" or caught.value.spent_nanodollars == 120
        assert "$0.00000012 is spent" in str(caught.value)

    virtual(main)
