"""The semantic cache, in virtual time: alike within a scope, and never across two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Caller
from orchestra.errors import ModelConnectionError
from orchestra.events import StepCached
from orchestra.policies.account import PRESENT
from orchestra.policies.caching.cache import CacheRule, SemanticRule
from orchestra.policies.caching.cached import CachedModel
from orchestra.policies.caching.similar import EMBED_WAIT_S, Similar
from orchestra.protocols import Embedder
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.virtual import virtual
from orchestra.values import (
    ChatRequest,
    Message,
    Purpose,
    Stopped,
    StopReason,
    TextDelta,
    Tool,
    Vector,
)
from tests.policies.caching.test_cached import Notes, Says, heard

ANGLES: Mapping[str, tuple[float, float]] = {
    "open": (1.0, 0.0),
    "opened": (0.98, 0.199),
    "opening": (0.96, 0.28),
    "closed": (0.0, 1.0),
    "other": (-1.0, 0.0),
}
"""Where each question points; the second and third are near to the first."""


@attrs.define(eq=False)
class Points(Embedder):
    """Knows where a few words point; fails, or hangs, if it is to."""

    asked: list[str] = attrs.field(factory=list)
    error: Exception | None = None
    hangs: bool = False

    @property
    def dimensions(self) -> int:
        return 2

    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        assert purpose == "query"
        await trio.lowlevel.checkpoint()
        self.asked += texts
        if self.hangs:
            await trio.sleep_forever()
        if self.error is not None:
            raise self.error
        return [Vector.of(ANGLES[text]) for text in texts]


@attrs.define(eq=False)
class House:
    """One cache, and what is around it."""

    state: MemoryState = attrs.field(factory=lambda: MemoryState(now_s=trio.current_time))
    points: Points = attrs.field(factory=Points)
    notes: Notes = attrs.field(factory=Notes)
    rule: SemanticRule = attrs.field(factory=lambda: SemanticRule(paraphrases=True))
    fake: Says = attrs.field(factory=lambda: Says(()))

    async def ask(self, question: str, system: str = "s", word: str = "use", **more: object) -> str:
        """What is said to a question; where the model is asked, it is the question in capitals."""
        PRESENT.set(self.notes)
        self.fake.events = (TextDelta(question.upper()), Stopped(StopReason.END))
        similar = Similar(self.rule, lambda: self.points, "points")
        model = CachedModel(
            self.fake, self.state, CacheRule(ttl_s=100), name="m", identity="m", similar=similar
        )
        extras = {"orchestra": {"cache": word}}
        messages = (Message("system", system), Message("user", question))
        request = ChatRequest(messages, extras=extras, **more)  # type: ignore[arg-type]
        events = await heard(model, request)
        return "".join(event.text for event in events if isinstance(event, TextDelta))

    @property
    def similarities(self) -> list[float]:
        return [note[2] for note in self.notes.notes if note[0] is StepCached]  # type: ignore[misc]


def test_the_same_in_other_words_has_the_same_answer() -> None:
    async def main() -> None:
        house = House()
        assert await house.ask("open") == "OPEN"
        assert await house.ask("opened") == "OPEN"
        assert await house.ask("closed") == "CLOSED"
        assert house.points.asked == ["open", "opened", "closed"]
        assert await house.ask("open") == "OPEN"  # the same words are not embedded
        assert house.points.asked == ["open", "opened", "closed"]
        assert house.similarities == [pytest.approx(0.98, abs=1e-4), 1.0]
        assert len(house.fake.asked) == 2

    virtual(main)


SCOPES = st.tuples(
    st.sampled_from(["", "acme", "other"]),
    st.sampled_from(["s", "t"]),
    st.sampled_from([None, 0.5]),
    st.sampled_from([(), (Tool("f", "", {}),)]),
)


@given(SCOPES, SCOPES)
def test_two_scopes_never_meet(one: tuple[object, ...], other: tuple[object, ...]) -> None:
    """Tenant, system prompt, parameters or tools: where one differs, everything does."""

    async def ask(house: House, question: str, scope: tuple[object, ...]) -> str:
        tenant, system, temperature, tools = scope
        house.notes = Notes(Caller(organisation=str(tenant)))
        return await house.ask(question, str(system), temperature=temperature, tools=tools)

    async def main() -> None:
        house = House()
        assert await ask(house, "open", one) == "OPEN"
        assert await ask(house, "opened", other) == ("OPEN" if one == other else "OPENED")

    virtual(main)


def test_a_refresh_replaces_and_is_exact_from_then_on() -> None:
    async def main() -> None:
        house = House()
        await house.ask("open")
        assert await house.ask("opened") == "OPEN"
        assert await house.ask("opened", word="refresh") == "OPENED"
        assert await house.ask("opened") == "OPENED"
        assert await house.ask("open") == "OPEN"
        assert await house.ask("opening", word="off") == "OPENING"
        assert house.points.asked == ["open", "opened", "opened"]

    virtual(main)


def test_what_has_expired_is_asked_for_again() -> None:
    async def main() -> None:
        house = House()
        await house.ask("open")
        await trio.sleep(60)
        await house.ask("closed")  # the index lives on; the first answer does not
        await trio.sleep(60)
        assert await house.ask("opened") == "OPENED"

    virtual(main)


def test_the_questions_that_were_used_last_are_known() -> None:
    async def main() -> None:
        house = House(rule=SemanticRule(entries_max=2, paraphrases=True))
        await house.ask("open")
        await house.ask("closed")
        assert await house.ask("opened") == "OPEN"  # which makes it the last used
        house.points.asked.clear()
        await house.ask("other")
        assert await house.ask("opening") == "OPEN"

    virtual(main)


@pytest.mark.parametrize("hangs", [True, False])
@pytest.mark.parametrize("error", [ModelConnectionError("gone"), ValueError("a bug")])
def test_an_embedder_that_is_away_or_broken_is_a_miss(error: Exception, hangs: bool) -> None:
    async def main() -> None:
        house = House(points=Points(error=error, hangs=hangs))
        assert await house.ask("open") == "OPEN"
        assert trio.current_time() == pytest.approx(3 + (EMBED_WAIT_S if hangs else 0))
        assert await house.ask("opened") == "OPENED"
        assert await house.ask("open") == "OPEN"
        assert house.similarities == [1.0]

    virtual(main)


class Leaving(Points):
    """Hangs in a nursery; when cancelled, one of its tasks fails."""

    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._fail_late)
            await trio.sleep_forever()
        raise AssertionError("it waits for ever")

    async def _fail_late(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while it closes")


def test_an_embedder_that_fails_while_it_is_cancelled_is_a_miss() -> None:
    """A time limit leaves the other errors of a group."""

    async def main() -> None:
        assert await House(points=Leaving()).ask("open") == "OPEN"

    virtual(main)


@given(st.binary())
def test_any_bytes_for_an_index_are_a_miss(junk: bytes) -> None:
    async def main() -> None:
        house = House()
        await house.ask("open")
        for key in [*house.state._remembered]:
            await house.state.remember(key, junk, ttl_s=60)
        assert await house.ask("opened") == "OPENED"

    virtual(main)


def test_a_long_question_is_never_embedded() -> None:
    async def main() -> None:
        house = House()
        for _ in range(2):
            await house.ask("open " * 100)
        assert house.points.asked == []
        assert house.similarities == [1.0]

    virtual(main)
