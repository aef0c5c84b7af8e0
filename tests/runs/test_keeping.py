"""What is kept of a run has a bound, and what is not kept is never passed over in silence."""

from __future__ import annotations

import json

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.engine.journal import Journal
from orchestra.engine.lanes.output import Output
from orchestra.errors import RunLostError
from orchestra.events import ArmRestarted, Delta, Event, RunFailed, RunFinished, StepStarted
from orchestra.graph.rules.policy import Limits
from orchestra.runs.keeping import EVENT_BYTES, Final, final, packed, unpacked
from orchestra.runs.record import (
    LOST_SEQ,
    CancelledBy,
    EventLine,
    FailedWith,
    Finished,
    Record,
    ended,
    event_lines_of,
    last_of_lost,
    lost,
    newer,
)
from orchestra.testing.virtual import virtual

CREATED_S = 1e9
RECORD = Record(
    id="a" * 32,
    pipeline="p",
    process="1",
    created_s=CREATED_S,
    organisation="acme",
    request_id="r-1",
)

chunks = st.lists(st.sampled_from(["a", "bc", "ä" * 30, None, "restart"]), max_size=30)


def journal_of(parts: list[str | None], journal_events: int) -> Journal:
    """The journal of a run that has ended: chunks, None for other events, and restarts."""
    limits = Limits(journal_events=journal_events)

    async def main() -> Journal:
        journal = Journal(limits, Output(str, limits), trio.current_time())
        for part in parts:
            if part is None:
                journal.append(StepStarted, "step")
            elif part == "restart":
                journal.restart("step", "arm")
            else:
                journal.delta_soon(part)
        journal.append(RunFinished, journal.output.joined(), {})
        return journal

    return virtual(main)


def folded(events: tuple[EventLine, ...], after: int, so_far: str) -> str:
    """The output that one knows who knew this much of it and is given these events."""
    output, before = so_far, after
    for line in events:
        event = json.loads(line.data)
        if line.type == "snapshot":
            output = event["output"]
        else:
            assert line.seq == before + 1
            if line.type == ArmRestarted.type:
                output = ""
            elif line.type == Delta.type:
                output += event["chunk"]
        before = line.seq
    return output


@given(chunks, st.sampled_from([2, 5, 100]), st.integers(100, 6_000))
def test_whatever_is_kept_is_within_its_bound_and_tells_the_whole_output(
    parts: list[str | None], journal_events: int, limit_bytes: int
) -> None:
    """From any event on: what was heard before and what is kept make the output, or it is said."""
    journal = journal_of(parts, journal_events)
    whole = journal_of(parts, 1_000)
    made = final(RECORD, journal, lambda event: event, limit_bytes, CREATED_S + 1)
    assert made.size_bytes <= limit_bytes
    assert made.size_bytes == sum(len(event.data) + EVENT_BYTES for event in made.events)
    assert unpacked(packed(made.events)) == made.events
    said = tuple(lines_of(whole))
    for line in made.events[:1]:
        if line.type == "snapshot":
            restarts = [each for each in said[: line.seq] if each.type == ArmRestarted.type]
            assert json.loads(line.data).get("restarts", 0) == len(restarts)
    for after in range(len(said)):
        before = folded(said[:after], 0, "")
        try:
            events = newer(made.events, after, made.record)
        except RunLostError:
            assert not made.events or made.events[0].type != "snapshot"
            continue
        assert folded(events, after, before) == folded(said, 0, "")
        assert events[-1].type == RunFinished.type
    assert newer(made.events, len(said), made.record) == ()


def lines_of(journal: Journal) -> list[EventLine]:
    """All that its run has told."""
    return list(event_lines_of(journal.kept, RECORD.request_id))


def test_what_has_room_is_kept_whole_and_what_has_not_as_its_output() -> None:
    journal = journal_of(["word "] * 50, 1_000)

    def kept(limit_bytes: int) -> list[str]:
        made: Final = final(RECORD, journal, lambda event: event, limit_bytes, 0.0)
        return [event.type for event in made.events]

    assert kept(100_000) == ["delta"] * 50 + ["run.finished"]
    assert kept(1_000) == ["snapshot", "run.finished"]
    assert kept(400) == ["run.finished"]
    assert kept(100) == []


def test_what_nobody_may_see_is_not_kept() -> None:
    limits = Limits()

    async def main() -> Final:
        journal = Journal(limits, Output(str, limits), trio.current_time())
        journal.append(RunFailed, "KeyError", "sk-123")

        def fit(event: Event) -> Event:
            assert isinstance(event, RunFailed)
            return RunFailed(event.seq, event.at_s, event.error, "hidden")

        return final(RECORD, journal, fit, 1_000, CREATED_S)

    made = virtual(main)
    assert made.record.outcome == FailedWith("KeyError", "hidden")
    assert b"sk-123" not in packed(made.events)


def test_a_record_says_how_its_run_ended() -> None:
    from orchestra.events import RunCancelled

    end_s = CREATED_S + 5
    finished = ended(RECORD, RunFinished(3, 0.1, "x", {}), end_s)
    assert (finished.status, finished.outcome, finished.ended_s) == ("finished", Finished(), end_s)
    cancelled = ended(RECORD, RunCancelled(3, 0.1, "why"), 5.0)
    assert (cancelled.status, cancelled.outcome) == ("cancelled", CancelledBy("why"))
    assert (RECORD.status, RECORD.ended) == ("running", False)
    assert RECORD.starter.tenant == "organisation:acme"
    with pytest.raises(ValueError, match="pass the last event of the run"):
        ended(RECORD, StepStarted(1, 0.0, "step"), 5.0)


def test_a_run_of_a_host_whose_clock_is_set_does_not_end_before_it_began() -> None:
    assert lost(RECORD, CREATED_S - 3600).ended_s == CREATED_S
    assert ended(RECORD, RunFinished(3, 0.1, "x", {}), CREATED_S - 3600).ended_s == CREATED_S


def test_the_last_event_of_a_lost_run_is_the_same_for_all_and_ends_it_for_all() -> None:
    record = lost(RECORD, CREATED_S + 7)
    (event,) = events = last_of_lost(record)
    assert json.loads(event.data)["at_s"] == 7.0
    assert last_of_lost(record) == events
    for after in (0, 1, 5_000):
        assert newer(events, after, record) == events
    assert newer(events, LOST_SEQ, record) == ()
