"""The faults of production over real sockets, for each of the ways to have somebody healthy behind.

Whatever the first provider does, a client gets one whole answer, in the words of one model, or
an error of a class that says what it was, and before its deadline. Whatever it was, nothing is
left of it: no task, no socket but those that are kept, no call in the breaker or in the limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestra import errors
from orchestra.accounts import Usage
from orchestra.events import (
    TERMINAL,
    ArmCommitted,
    ArmFailed,
    ArmRestarted,
    Delta,
    Event,
    RunFailed,
    RunFinished,
)
from orchestra.policies.health.breaker import Closed, Open, Outcome, outcome
from orchestra.policies.routing import FALLBACK
from tests.faults.misbehaving import (
    FAULTS,
    HEALTHY,
    PRIMARY,
    SPENT,
    Fault,
    hurry_s,
    in_turn,
    once,
    refusal,
    speaks,
)
from tests.faults.stand import WAYS, Stand, standing
from tests.providers.upstream import run, sends

A, B = "".join(PRIMARY), "".join(HEALTHY)
BROKEN = sends(refusal("500 Internal Server Error"))


def heard(events: Sequence[Event]) -> str:
    """What a client has at the end: all pieces since it was told to discard what it had."""
    text = ""
    for event in events:
        if isinstance(event, ArmRestarted):
            text = ""
        elif isinstance(event, Delta):
            text += event.chunk
    return text


IN_ORDER = [name for name in WAYS if name != "hedged"]
"""The second is asked where the first has failed, and not because a machine is busy."""


def told(events: Sequence[Event]) -> list[tuple[type[Event], str]]:
    """What became of the arms, each with the name of its model."""
    return [
        (type(event), {"1:generate": "a", "2:generate": "b"}[event.arm])
        for event in events
        if isinstance(event, ArmCommitted | ArmFailed | ArmRestarted)
    ]


def is_journal(events: Sequence[Event]) -> None:
    """Numbered without a gap, with one end."""
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event for event in events if isinstance(event, TERMINAL)] == [events[-1]]


def answers(fault: Fault, way: str) -> str | None:
    """Whose answer a client gets; None where it gets an error."""
    if fault.error is None:
        return "a"
    if fault.midway:
        return "b" if way == "restarted" else None
    return "b" if way != "routed" or issubclass(fault.error, FALLBACK) else None


def arms(fault: Fault, way: str) -> list[tuple[type[Event], str]]:
    """What the journal has to say of them."""
    if way == "routed":
        return []
    first: list[tuple[type[Event], str]] = [(ArmCommitted, "a")]
    if fault.midway and way == "restarted":
        return [*first, (ArmFailed, "a"), (ArmCommitted, "b"), (ArmRestarted, "b")]
    if fault.midway or fault.error is None:
        return first
    return [(ArmFailed, "a"), (ArmCommitted, "b")]


def spent(fault: Fault, by: str | None) -> Usage | None:
    """What both have consumed, as far as they have told."""
    before = SPENT if fault.error is None else fault.spent
    if by != "b":
        return before
    return SPENT if before is None else before + SPENT


@pytest.mark.parametrize("way", IN_ORDER)
@pytest.mark.parametrize("name", FAULTS)
def test_a_client_gets_one_whole_answer_or_an_error_that_says_what_it_was(
    name: str, way: str, tmp_path: Path
) -> None:
    fault = FAULTS[name]
    by = answers(fault, way)

    async def main() -> list[Event]:
        async with standing(fault.handle, tmp_path, hurry_s(fault)) as stand:
            events = await stand.run(way)
            await stand.cleared()
            is_counted(stand, fault, by)
            return events

    events = run(main)
    is_journal(events)
    assert told(events) == arms(fault, way)
    last = events[-1]
    if by is None:
        assert isinstance(last, RunFailed)
        assert issubclass(getattr(errors, last.error), fault.error or ())
        assert heard(events) in (PRIMARY[0] if fault.midway else "", "")
    else:
        assert isinstance(last, RunFinished)
        assert last.result == heard(events) == {"a": A, "b": B}[by]
    assert last.usage == spent(fault, by)


def is_counted(stand: Stand, fault: Fault, by: str | None) -> None:
    """Each was asked as often as it had to be, and its breaker knows how it went."""
    assert (stand.asked("a"), stand.asked("b")) == (1, 1 if by == "b" else 0)
    states = stand.bindings.states()
    neutral = fault.error is not None and outcome(fault.error("")) is Outcome.NEUTRAL
    ended = not neutral or fault.midway  # a filter's word in the middle is the end of an answer
    failed = fault.error is not None and not neutral
    assert states["a"].breaker == Closed(int(ended), int(failed), 0)
    if by == "b":
        assert states["b"].breaker == Closed(1, 0, 0)


@pytest.mark.parametrize("name", FAULTS)
def test_a_hedge_gets_the_same_and_whoever_lost_is_closed(name: str, tmp_path: Path) -> None:
    """The second is asked soon, so that either may be the first to speak."""
    fault = FAULTS[name]

    async def main() -> list[Event]:
        async with standing(fault.handle, tmp_path, hurry_s(fault)) as stand:
            return await stand.run("hedged")

    events = run(main)
    is_journal(events)
    last, committed = events[-1], [arm for kind, arm in told(events) if kind is ArmCommitted]
    assert len(committed) == 1
    if isinstance(last, RunFailed):
        assert fault.midway
        assert committed == ["a"]
        assert issubclass(getattr(errors, last.error), fault.error or ())
        assert heard(events) == PRIMARY[0]
    else:
        assert isinstance(last, RunFinished)
        assert last.result == heard(events) == {"a": A, "b": B}[committed[0]]
        assert committed == ["b"] or fault.error is None


@pytest.mark.parametrize("way", IN_ORDER)
def test_one_500_costs_one_detour(way: str, tmp_path: Path) -> None:
    async def main() -> list[str]:
        async with standing(in_turn(BROKEN, speaks(PRIMARY)), tmp_path) as stand:
            answers = [heard(await stand.run(way)) for _ in range(3)]
            assert stand.bindings.states()["a"].breaker == Closed(3, 1, 0)
            assert stand.asked("a") == 2, "its connection is kept"
            return answers

    assert run(main) == [B, A, A]


@pytest.mark.parametrize("way", IN_ORDER)
def test_one_that_flaps_is_left_alone_and_every_answer_is_whole(way: str, tmp_path: Path) -> None:
    """Half of its calls fail: that opens its breaker, and it is not asked again."""
    flapping = in_turn(*[BROKEN, once(PRIMARY)] * 20)

    async def main() -> list[Event]:
        async with standing(flapping, tmp_path) as stand:
            journals = [await stand.run(way) for _ in range(12)]
            assert stand.asked("a") in (4, 5)
            assert isinstance(stand.bindings.states()["a"].breaker, Open)
            await stand.cleared()
        assert [heard(events) for events in journals[:4]] == [B, A, B, A]
        assert {heard(events) for events in journals[5:]} == {B}
        return [events[-1] for events in journals]

    for last in run(main):
        assert isinstance(last, RunFinished)
        assert last.usage == SPENT
