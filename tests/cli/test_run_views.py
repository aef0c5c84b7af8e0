"""A run as it is shown: what is written where, for any events in any batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Usage
from orchestra.cli.run_views import Lines, Result, Words, duration, joined, progress, whole
from orchestra.cli.terminal import CONTROLS, ERR, OUT, visible
from orchestra.engine.journal import Journal
from orchestra.engine.lanes.output import Output
from orchestra.errors import OverloadedError
from orchestra.events import (
    ArmCommitted,
    ArmFailed,
    ArmRestarted,
    BudgetReached,
    Delta,
    Event,
    ItemFailed,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    Snapshot,
    StepCached,
    StepCoalesced,
    StepCut,
    StepFinished,
    StepRetried,
    StepRouted,
    StepStarted,
    StepTold,
    ToolFailed,
    ToolFinished,
)
from orchestra.graph.rules.policy import Limits
from orchestra.values import Label

SPOKEN = st.text(st.characters(codec="utf-8"), max_size=5)
CHUNKS: dict[object, st.SearchStrategy[Any]] = {
    str: SPOKEN,
    bytes: st.binary(max_size=5),
    object: SPOKEN | st.integers() | st.none() | st.lists(SPOKEN, max_size=2),
}
STEP = "a step"


def journal(kind: object, limits: Limits) -> Journal:
    return Journal(limits, Output(kind, limits), 0.0)


ENDS: list[tuple[Callable[..., Any], tuple[object, ...]]] = [
    (RunFinished, ("?", {})),
    (RunFailed, ("E", "m")),
    (RunCancelled, ("r",)),
]


@given(st.data(), st.sampled_from([str, bytes, object]), st.sampled_from([1, 3, 4096]))
def test_all_that_is_said_is_written_once_and_in_order(
    data: st.DataObject, kind: type, kept: int
) -> None:
    """Whenever the reader looks, and also if the journal has forgotten what it did not read."""
    in_trio(partial(shown_as_it_is_said, data, kind, kept))


def in_trio(claim: Callable[[], None]) -> None:
    """A journal belongs to a run, and so to Trio."""

    async def main() -> None:
        claim()

    trio.run(main)


def shown_as_it_is_said(data: st.DataObject, kind: type, kept: int) -> None:
    chunks = data.draw(st.lists(CHUNKS[kind] | st.just(STEP), max_size=12))
    record, view = journal(kind, Limits(journal_events=kept)), Words(streams=True)
    record.append(RunStarted, "id", "p")
    said = [chunk for chunk in chunks if chunk is not STEP]
    writes = []
    seq = 0
    for chunk in chunks:
        if chunk is STEP:
            record.append(StepFinished, "s", 0.5, 3)
        else:
            record.delta_soon(chunk)
        if data.draw(st.booleans()):
            batch = record.newer(seq)
            seq = batch[-1].seq if batch else seq
            writes += view.feed(batch)
    last, fields = data.draw(st.sampled_from(ENDS))
    record.append(last, *fields)
    writes += view.feed(record.newer(seq))

    written = b"".join(data for descriptor, data in writes if descriptor == OUT)
    expected = b"".join(map(bare, said))
    ends = [chunk for chunk in said if isinstance(chunk, str) and chunk]
    if ends and not ends[-1].endswith("\n"):
        expected += b"\n"
    assert written == expected
    spoken = [index for index, (descriptor, _) in enumerate(writes) if descriptor == OUT]
    told = [index for index, (descriptor, _) in enumerate(writes) if descriptor == ERR]
    assert not any(spoken[0] < index < spoken[-1] for index in told if spoken)


@given(st.lists(SPOKEN | st.none(), max_size=12), st.sampled_from([1, 3, 4096]), st.data())
def test_what_was_said_since_the_last_restart_stands_whole_on_a_line_of_its_own(
    chunks: list[str | None], kept: int, data: st.DataObject
) -> None:
    """None is a restart; the reader looks when it likes, and may miss some of it."""

    def claim() -> None:
        record, view = journal(str, Limits(journal_events=kept)), Words(streams=True, quiet=True)
        writes, seq = [], 0
        for chunk in chunks:
            if chunk is None:
                record.restart("fallback", "2:b")
            else:
                record.delta_soon(chunk)
            if data.draw(st.booleans()):
                writes += view.feed(record.newer(seq))
                seq = record.seq
        record.append(RunCancelled, "r")
        writes += view.feed(record.newer(seq))
        written = b"".join(data for descriptor, data in writes if descriptor == OUT).decode()
        last = max((n for n, chunk in enumerate(chunks) if chunk is None), default=-1)
        since = "".join(filter(None, chunks[last + 1 :]))
        since += "\n" if since and not since.endswith("\n") else ""
        assert written.endswith(since)
        before = written.removesuffix(since)
        assert not before or before.endswith("\n")
        assert last >= 0 or not before

    in_trio(claim)


def bare(chunk: object) -> bytes:
    if isinstance(chunk, bytes):
        return chunk
    if isinstance(chunk, str):
        return chunk.encode()
    return json.dumps(chunk, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def run(*events: Callable[..., Event]) -> list[Event]:
    return [event(seq=seq, at_s=float(seq)) for seq, event in enumerate(events, 1)]


STARTED = partial(RunStarted, run_id="id", pipeline="p")
FINISHED = partial(StepFinished, step="s", duration_s=0.5)
DONE = partial(RunFinished, result={"a": Label("x", 0.5)}, timings_s={"s": 0.5}, usage=Usage(1, 2))


def test_a_value_is_written_when_the_run_has_finished() -> None:
    writes = Words(streams=False).feed(run(STARTED, FINISHED, DONE))
    assert writes[0] == (ERR, b"  2.000 s  s took 500.0 ms\n")
    assert writes[1][0] == OUT
    assert json.loads(writes[1][1])["a"]["name"] == "x"
    assert writes[2] == (ERR, b"  3.000 s  done\n")


def test_quiet_tells_nothing_about_progress() -> None:
    writes = Words(streams=False, quiet=True).feed(run(STARTED, FINISHED, DONE))
    assert {descriptor for descriptor, _ in writes} == {OUT}


def test_an_empty_stream_writes_nothing() -> None:
    """Its result, `""`, is not a value that was waited for."""
    assert Words(streams=True, quiet=True).feed(run(STARTED, partial(DONE, result=""))) == []


def test_a_terminal_is_not_steered_by_what_is_said() -> None:
    said = [partial(Delta, chunk="\x1b]0;gotcha\x07a\tb\n")]
    assert Words(streams=True, visible=visible).feed(run(*said)) == [
        (OUT, "\N{REPLACEMENT CHARACTER}]0;gotcha\N{REPLACEMENT CHARACTER}a\tb\n".encode())
    ]


def test_a_terminal_is_not_steered_by_what_is_said_in_json() -> None:
    """JSON escapes the C0 controls, but not DEL and the C1 controls."""
    told = ["\x9b2J", "\x7f"]
    for_people = Words(streams=True, quiet=True, visible=visible)
    ((_, chunk),) = for_people.feed(run(partial(Delta, chunk=told)))
    for data in (chunk, whole(told, visible)):
        assert data.decode().translate(dict.fromkeys(CONTROLS)) == data.decode()
        assert "2J" in data.decode()
    assert json.loads(whole(told)) == told, "for programs, nothing changes"


def test_a_terminal_is_not_steered_by_an_error_that_quotes_a_provider() -> None:
    """Progress is for people, also where the output goes into a pipe."""
    error = partial(StepRetried, step="s", attempt=1, delay_s=1.0, error="E", message="\x1b[2J")
    ((_, data),) = Words(streams=True, dim=lambda line: f"<{line}>").feed(run(error))
    assert data.decode().endswith(": E: \N{REPLACEMENT CHARACTER}[2J>\n")


def test_half_a_character_does_not_stop_a_run() -> None:
    """A name of a file has one, where it is not of UTF-8: in what is said, and in an error."""
    said = [partial(Delta, chunk="\ud83d")]
    assert Words(streams=True).feed(run(*said)) == [(OUT, b"?")]
    half, result = {"a": "caf\udce9"}, partial(RunFinished, timings_s={}, usage=None)
    done = run(partial(result, result=half))
    chunks = run(partial(Delta, chunk=half))
    for view, events in (
        (Words(streams=False, quiet=True), done),
        (Words(streams=True), chunks),
        (Result(), done),
    ):
        ((descriptor, data),) = view.feed(events)
        assert descriptor == OUT
        assert half in (json.loads(data), json.loads(data).get("result"))
    failed = partial(StepRetried, step="s", attempt=1, delay_s=1.0, error="E", message="caf\udce9")
    ((descriptor, data),) = Words(streams=True).feed(run(failed))
    assert (descriptor, data[-10:]) == (ERR, b": E: caf?\n")


@given(st.lists(st.sampled_from([STARTED, FINISHED, DONE, partial(Snapshot, output="a\nb")])))
def test_every_event_is_a_line_of_json(events: list[Any]) -> None:
    made = run(*events)
    written = b"".join(data for _, data in Lines().feed(made))
    lines = [json.loads(line) for line in written.splitlines()]
    assert [(line["seq"], line["type"]) for line in lines] == [(e.seq, e.type) for e in made]


def test_the_end_of_a_run_that_failed_has_its_problem_as_of_a_server() -> None:
    error = OverloadedError("db.internal is full", retry_after_s=6.5)
    failure = partial(RunFailed, error="OverloadedError", message=str(error), cause=error)
    ((_, data),) = Lines().feed(run(failure))
    line = json.loads(data)
    assert line["problem"]["type"] == "urn:problem-type:orchestra:provider-overloaded"
    assert line["problem"]["detail"] == line["message"] == str(error), "here nothing is hidden"
    assert line["retry_after_s"] == 7


def test_the_result_is_one_object_at_the_end() -> None:
    view = Result()
    assert view.feed(run(STARTED, FINISHED)) == []
    ((descriptor, data),) = view.feed(run(DONE))
    assert descriptor == OUT
    assert data.endswith(b"\n")
    assert json.loads(data) == {
        "cut": False,
        "run_id": "id",
        "result": {"a": {"name": "x", "confidence": 0.5, "scores": {}}},
        "timings_s": {"s": 0.5},
        "usage": {
            "input_tokens": 1,
            "output_tokens": 2,
            "certainty": "exact",
            "cached_input_tokens": 0,
            "cache_write_input_tokens": 0,
            "reasoning_tokens": 0,
            "cost_nanodollars": 0,
            "unpriced_calls": 0,
        },
        "usage_by_model": {},
    }


def test_a_run_that_failed_has_no_result() -> None:
    assert Result().feed(run(STARTED, partial(RunFailed, error="E", message="m"))) == []


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (partial(StepFinished, step="s", duration_s=2.0), "s took 2.00 s"),
        (partial(StepFinished, step="s", duration_s=2e-5, chunks=3), "s took 20 µs, 3 chunks"),
        (partial(StepCached, step="s", model="m"), "s has its answer from the cache of m"),
        (
            partial(StepCoalesced, step="s", model="m"),
            "s shares a call of m that was under way",
        ),
        (
            partial(StepCut, step="s", model="m", output_tokens_max=9),
            "s: the answer of m was cut at output_tokens_max=9",
        ),
        (partial(DONE, cut=True), "done, from an answer that was cut"),
        (
            partial(StepRouted, step="s", route="r", model="m"),
            "s is answered by m, of route r",
        ),
        (
            partial(
                BudgetReached,
                step="s",
                budget="user ada, a day",
                percent=80,
                spent_nanodollars=8,
                limit_nanodollars=10,
            ),
            "80 % of the budget of user ada, a day is spent",
        ),
        (
            partial(ToolFailed, step="s", tool="look", error="E", message="no"),
            "s goes on, and its model is told that look failed: E: no",
        ),
        (
            partial(ToolFinished, step="s", tool="look", call="1", duration_s=0.25),
            "s has called look, which took 250.0 ms",
        ),
        (partial(StepTold, step="s", what="indexed"), "s tells: indexed"),
        (
            partial(StepTold, step="s", what="page", data=3, tool="look", call="1"),
            "s tells from look: page 3",
        ),
        (partial(StepTold, step="s", what="page", data="3\n"), 's tells: page "3\\n"'),
        (
            partial(StepTold, step="s", what="page", data=[7] * 99),
            f"s tells: page [{'7,' * 49}7…",
        ),
        (partial(ArmCommitted, step="race", arm="1:a"), "race goes on with 1:a"),
        (
            partial(StepRetried, step="s", attempt=1, delay_s=0.5, error="E", message="busy"),
            "s is tried again in 500.0 ms: E: busy",
        ),
        (
            partial(ArmFailed, step="race", arm="1:a", error="E", message="no"),
            "race goes on without 1:a: E: no",
        ),
        (
            partial(ItemFailed, step="each", index=3, error="E", message="no"),
            "each goes on without item 3: E: no",
        ),
        (
            partial(ArmRestarted, step="fallback", arm="2:b"),
            "fallback starts again with 2:b: the output before this is void",
        ),
        (DONE, "done"),
        (partial(StepStarted, step="s"), None),
    ],
)
def test_progress_is_told_of_what_was_done(event: Any, line: str | None) -> None:
    assert progress(event(seq=1, at_s=1.0)) == (line and f"  1.000 s  {line}")


@given(st.floats(0, 1e5))
def test_a_duration_has_the_unit_that_fits(seconds: float) -> None:
    number, unit = duration(seconds).split()
    scale = {"s": 1, "ms": 1e3, "µs": 1e6}[unit]
    assert float(number) == pytest.approx(seconds * scale, abs=0.51)


@pytest.mark.parametrize(
    ("result", "data"),
    [
        ("text", b"text\n"),
        ("line\n", b"line\n"),
        (b"\x00raw", b"\x00raw"),
        ([1, {"a": None}], b'[\n  1,\n  {\n    "a": null\n  }\n]\n'),
        (None, b"null\n"),
    ],
)
def test_a_result_is_written_for_a_person(result: object, data: bytes) -> None:
    assert whole(result) == data


@given(st.lists(st.tuples(st.sampled_from([OUT, ERR]), st.binary(max_size=2))))
def test_joining_writes_changes_nothing_but_their_number(writes: list[tuple[int, bytes]]) -> None:
    def flat(some: list[tuple[int, bytes]]) -> list[tuple[int, int]]:
        return [(descriptor, byte) for descriptor, data in some for byte in data]

    merged = joined(writes)
    assert flat(merged) == flat(writes)
    assert all(data for _, data in merged)
    assert all(one[0] != other[0] for one, other in pairwise(merged))
