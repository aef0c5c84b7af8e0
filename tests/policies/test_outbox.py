"""Ends of calls that a state did not take: each is taken once, soon, and none is lost unheard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import StateError
from orchestra.policies.account import PRESENT, NoAccount
from orchestra.policies.outbox import GIVE_BACK_S, RESENT_AT_ONCE, REST_MAX_S, Outbox
from orchestra.protocols import State
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual


@attrs.frozen
class End:
    number: int
    tried: bool = False

    def again(self) -> End:
        return End(self.number, tried=True)


@attrs.define(eq=False)
class Book:
    """What has taken ends, and how it has answered: in vain, too late, or with an error behind."""

    answers: list[str]
    taken: list[int] = attrs.field(factory=list)
    lost: list[int] = attrs.field(factory=list)
    asked: int = 0

    async def take(self, end: End) -> None:
        self.asked += 1
        answer = self.answers.pop(0) if self.answers else "taken"
        if answer == "silent":
            await trio.sleep_forever()
        if answer == "gone":
            raise StateError("the store is gone; start it")
        if answer == "broken":
            self.lost += [end.number] if end.tried else []
            raise ValueError("it is no number; write one")
        if not (end.tried and end.number in self.taken):
            self.taken.append(end.number)
        await trio.sleep(GIVE_BACK_S / 4 if answer == "taken" else 1.0)


@attrs.define(eq=False)
class InEngine(NoAccount):
    nursery: trio.Nursery

    def spawn(self, task: Callable[[], Awaitable[None]], name: str) -> None:
        self.nursery.start_soon(task, name=name)


ANSWERS = st.lists(st.sampled_from(["taken", "gone", "silent", "broken", "deaf"]), max_size=12)


@given(st.integers(1, 12), ANSWERS, st.booleans(), schedules())
def test_each_end_is_taken_once_however_the_state_has_answered(
    n: int, answers: list[str], in_engine: bool, schedule: int
) -> None:
    """With an engine nobody has to ask for it; without one, whoever ends all. What raises is lost."""

    async def main() -> None:
        book = Book(answers)
        outbox = Outbox(State, book.take, "")  # type: ignore[arg-type] # of it, one attribute is read
        async with trio.open_nursery() as nursery:
            if in_engine:
                PRESENT.set(InEngine(nursery))
            async with trio.open_nursery() as calls:
                for number in range(n):
                    calls.start_soon(outbox.send, End(number))
        if not in_engine:
            assert await outbox.flush(100.0)
        assert not outbox.undelivered
        assert len(book.taken) == len(set(book.taken))
        assert {*book.taken, *book.lost} == set(range(n))
        assert len(book.lost) == len(set(book.lost))

    virtual(main, schedule=schedule)


@given(st.integers(1, 30), st.floats(0.1, 100.0), schedules())
def test_what_is_late_is_told_soon_after_the_state_is_back_and_no_call_has_to_follow(
    n: int, away_s: float, schedule: int
) -> None:
    async def main() -> None:
        book = Book(["gone"] * 10_000)
        outbox = Outbox(State, book.take, "")  # type: ignore[arg-type]
        async with trio.open_nursery() as engine:
            PRESENT.set(InEngine(engine))
            for number in range(n):
                await outbox.send(End(number))
            asked = book.asked
            await trio.sleep(away_s)
            assert book.asked - asked <= 6 + away_s / REST_MAX_S  # one task asks, less and less
            book.answers.clear()
            await trio.sleep(REST_MAX_S + n * GIVE_BACK_S)
            assert book.taken == list(range(n))

    virtual(main, schedule=schedule)


def test_who_begins_tells_a_few_and_leaves_it_where_that_is_in_vain() -> None:
    async def main() -> None:
        book = Book(["gone"] * 21)
        outbox = Outbox(State, book.take, "")  # type: ignore[arg-type]
        for number in range(20):
            await outbox.send(End(number))
        assert not await outbox.resend()
        assert (book.asked, len(outbox.undelivered)) == (21, 20)
        assert await outbox.resend()
        assert book.taken == list(range(RESENT_AT_ONCE))
        assert await outbox.flush(10.0)
        assert book.taken == list(range(20))

    virtual(main)


@given(st.integers(1, 3), ANSWERS, st.floats(0.001, 1.0), schedules())
def test_none_is_late_any_more_only_where_all_are_taken(
    n: int, answers: list[str], flush_s: float, schedule: int
) -> None:
    """Also while a task has one in hand, which may be late again."""

    async def main() -> None:
        book = Book(answers)
        outbox = Outbox(State, book.take, "")  # type: ignore[arg-type]
        async with trio.open_nursery() as engine:
            PRESENT.set(InEngine(engine))
            for number in range(n):
                engine.start_soon(outbox.send, End(number))
            await trio.sleep(flush_s)
            if await outbox.flush(10.0):
                assert {*book.taken, *book.lost} == set(range(n))

    virtual(main, schedule=schedule)


def test_an_engine_that_is_closed_meanwhile_leaves_what_is_late_to_flush(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        book = Book(["gone"] * 3 + ["silent"] * 100)
        outbox = Outbox(State, book.take, "and so it is")  # type: ignore[arg-type]
        for engines in (1, 2):
            async with trio.open_nursery() as engine:
                PRESENT.set(InEngine(engine))
                await outbox.send(End(engines))
                await trio.sleep(0.12)
                engine.cancel_scope.cancel()
        assert not await outbox.flush(2.0)
        book.answers.clear()
        assert await outbox.flush(2.0)
        assert book.taken == [1, 2]

    virtual(main)
    assert caplog.messages == ["the ends of 2 calls could not be reported to a state: and so it is"]
