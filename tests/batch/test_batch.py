"""A batch can be stopped at any moment and begun again; each row is done once, and none is lost."""

from __future__ import annotations

import gc
import json
import os
import resource
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from errno import ENOLCK, ENOSPC
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from orchestra import Context, Limits, Retry, collect, injected, open_engine, pipeline, step
from orchestra.accounts import Usage
from orchestra.batch.batch import HELD_S, Batch, BatchRules, Progress
from orchestra.batch.ledger import Row
from orchestra.config.reading import read as read_file
from orchestra.engine.journal import Observer
from orchestra.engine.run import Run
from orchestra.errors import (
    ArmsFailedError,
    AuthenticationError,
    BatchError,
    BudgetHeldError,
    InputError,
    OverloadedError,
    RateLimitError,
)
from orchestra.events import RunStarted
from orchestra.groups import groupless_nursery
from orchestra.steps import generate
from orchestra.testing.deployed import deployed
from orchestra.testing.turns import ScriptedAnswers
from orchestra.testing.world import ScriptedModel, World

WAITED = Retry(attempts_max=3, delay_s=1.0, multiplier=1.0)


@attrs.define
class Book:
    """What steps were asked, and when."""

    began: list[tuple[int, float]] = attrs.field(factory=list)
    ended: Counter[int] = attrs.field(factory=Counter)
    running: int = 0
    peak: int = 0
    room: float = inf
    holds_s: float = inf
    last_s: float = 0.0
    fails: Callable[[int], Exception | None] = lambda _: None


BOOK = Book()


@step
async def worked(number: int, lasts_s: float) -> int:
    BOOK.began.append((number, trio.current_time()))
    if BOOK.running >= BOOK.room:
        error = BudgetHeldError("other calls hold the rest")
        error.retry_after_s = 1.0
        if number % 2:
            raise ArmsFailedError("every arm failed", {"a": error, "b": error})
        raise error
    BOOK.running += 1
    BOOK.peak = max(BOOK.peak, BOOK.running)
    try:
        await trio.sleep(min(lasts_s, BOOK.holds_s))
        if (failed := BOOK.fails(number)) is not None:
            raise failed
    finally:
        BOOK.running -= 1
        BOOK.last_s = trio.current_time()
    await trio.sleep(max(0.0, lasts_s - BOOK.holds_s))
    BOOK.ended[number] += 1
    return number * 2


@pipeline
def work(number: int, lasts_s: float = 1.0) -> int:
    return worked(number, lasts_s)


@step
async def paid(number: int, context: Context = injected) -> int:
    context.used(Usage(number, 1, cost_nanodollars=10 * number))
    if BOOK.fails(number):
        raise ValueError("no")
    return number


@pipeline
def paying(number: int) -> int:
    return paid(number)


def rows(lasting_s: Sequence[float]) -> list[Row]:
    return [
        Row(str(number), {"number": number, "lasts_s": lasts_s})
        for number, lasts_s in enumerate(lasting_s)
    ]


def begun(
    given: Sequence[Row],
    path: Path,
    *,
    cancelled_at_s: float | None = None,
    stopped_at_s: float | None = None,
    limits: Limits | None = None,
    **rules: Any,
) -> Progress:
    """A batch in virtual time, which may be cancelled or stopped in it."""

    async def main() -> Progress:
        async with open_engine(limits=limits) as engine:
            made = Batch(engine, work, given, path, rules=BatchRules(**rules), draw=lambda: 1.0)

            async def stop() -> None:
                await trio.sleep(stopped_at_s or 0)
                made.stop(within_s=0.5)

            async with groupless_nursery() as nursery:
                if stopped_at_s is not None:
                    nursery.start_soon(stop)
                with trio.move_on_after(inf if cancelled_at_s is None else cancelled_at_s):
                    await made.run()
                nursery.cancel_scope.cancel()
            return made.progress

    return trio.run(main, clock=MockClock(autojump_threshold=0))


def told(path: Path) -> dict[str, dict[str, Any]]:
    """The last line of each row."""
    return {each["id"]: each for line in path.read_bytes().splitlines() if (each := read(line))}


def read(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return dict(found)


@pytest.fixture(autouse=True)
def book() -> Iterator[Book]:
    BOOK.__init__()  # type: ignore[misc]
    yield BOOK
    BOOK.__init__()  # type: ignore[misc]


def test_what_all_rows_have_consumed_is_told_also_of_those_that_failed(tmp_path: Path) -> None:
    BOOK.fails = lambda number: ValueError("no") if number == 2 else None

    async def main() -> Progress:
        async with open_engine() as engine:
            given = [Row(str(number), {"number": number}) for number in (1, 2, 3)]
            made = Batch(engine, paying, given, tmp_path / "r.jsonl")
            await made.run()
            return made.progress

    progress = trio.run(main)
    assert (progress.finished, progress.failed) == (2, 1)
    assert progress.usage == Usage(6, 3, cost_nanodollars=60)
    told = [json.loads(line) for line in (tmp_path / "r.jsonl").read_bytes().splitlines()]
    costs = {each["id"]: each["usage"]["cost_nanodollars"] for each in told if "usage" in each}
    assert costs == {"1": 10, "2": 20, "3": 30}


TWO_MODELS = """
[models.answerer]
provider = "openai"
model = "gpt-5.4-mini"
prices = { input = 0, output = 1_000 }

[models.judge]
provider = "openai"
model = "gpt-5.4"
prices = { input = 0, output = 3_000 }
"""


@pipeline
def judged(question: str) -> str:
    return collect(generate(collect(generate(question, model="answerer")), model="judge"))


def test_a_line_says_what_each_model_has_cost_in_all_attempts(tmp_path: Path) -> None:
    """So the cost of a model can be told from that of its judge."""
    verdicts = iter([ScriptedModel((), OverloadedError("full")), ScriptedModel.saying("nine")])
    scripts = {
        "answerer": ScriptedModel.saying("nine"),
        "judge": ScriptedAnswers(lambda _: next(verdicts)),
    }
    models = deployed(read_file(TWO_MODELS, Path("orchestra.toml")), scripts)

    async def main() -> Progress:
        async with open_engine(World(models=models)) as engine:
            given = [Row("1", {"question": "When?"})]
            rules = BatchRules(retry=WAITED)
            return await Batch(engine, judged, given, tmp_path / "r.jsonl", rules=rules).run()

    progress = trio.run(main, clock=MockClock(autojump_threshold=0))
    assert sum(progress.usage_by_model.values(), Usage()) == progress.usage
    line = json.loads((tmp_path / "r.jsonl").read_bytes())
    assert line["attempts"] == 2
    by_model = line["usage_by_model"]
    assert list(by_model) == ["answerer", "judge"]
    costs = [each["cost_nanodollars"] for each in by_model.values()]
    assert sum(costs) == line["usage"]["cost_nanodollars"]
    dearer = [by_model["answerer"]["output_tokens"], 3 * by_model["judge"]["output_tokens"]]
    assert costs == [1_000_000 * tokens for tokens in dearer]
    assert by_model["answerer"]["output_tokens"] == 2 * by_model["judge"]["output_tokens"]


LASTING = st.lists(st.sampled_from([0.0, 0.25, 1.0, 3.0]), max_size=8)
SPAN_EVENTS = st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.6, 1.1, 2.3, 4.1]), max_size=4)
"""None at which a row ends: what has ended in the instant of a cancellation is done again."""


@given(LASTING, st.integers(1, 4), SPAN_EVENTS, SPAN_EVENTS)
def test_however_often_it_is_stopped_each_row_has_its_result_once(
    lasting_s: list[float], at_once: int, cancelled: list[float], stopped: list[float]
) -> None:
    BOOK.__init__()  # type: ignore[misc]
    given = rows(lasting_s)
    with TemporaryDirectory() as folder:
        path = Path(folder, "results.jsonl")
        for moment in cancelled:
            begun(given, path, cancelled_at_s=moment, at_once=at_once)
        for moment in stopped:
            begun(given, path, stopped_at_s=moment, at_once=at_once)
        before = len(told(path)) if path.exists() else 0
        progress = begun(given, path, at_once=at_once)
        lines = path.read_bytes().splitlines()
        assert [
            each["result"] for each in sorted(told(path).values(), key=lambda e: int(e["id"]))
        ] == [number * 2 for number in range(len(given))]
    assert len(lines) == len(given)
    assert (progress.done_before, progress.finished) == (before, len(given) - before)
    assert BOOK.peak <= at_once
    assert all(count == 1 for count in BOOK.ended.values())


@given(st.integers(1, 5), st.data())
def test_after_a_crash_only_what_has_no_whole_line_is_done_again(
    count: int, data: st.DataObject
) -> None:
    given = rows([0.0] * count)
    with TemporaryDirectory() as folder:
        path = Path(folder, "results.jsonl")
        begun(given, path)
        whole = path.read_bytes()
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
        kept = {row_id for row_id, each in told(path).items() if each["status"] == "finished"}
        BOOK.__init__()  # type: ignore[misc]
        begun(given, path)
        assert set(told(path)) == {row.id for row in given}
    assert {str(number) for number in BOOK.ended} == {row.id for row in given} - kept


def test_as_many_as_may_be_are_under_way_until_the_end(tmp_path: Path) -> None:
    begun(rows([1.0] * 10), tmp_path / "r", at_once=4)
    assert [at for _, at in BOOK.began] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]


def test_rows_are_read_as_they_are_needed(tmp_path: Path) -> None:
    taken: list[int] = []

    def numbered() -> Iterator[Row]:
        for number in range(100):
            taken.append(number)
            yield Row(str(number), {"number": number})

    begun(numbered(), tmp_path / "r", at_once=2, cancelled_at_s=1.5)  # type: ignore[arg-type]
    assert len(taken) == 4


def test_a_row_that_failed_is_told_and_done_again_the_next_time(tmp_path: Path) -> None:
    BOOK.fails = lambda number: ValueError("odd") if number % 2 else None
    progress = begun(rows([0.0] * 4), tmp_path / "r")
    assert (progress.finished, progress.failed) == (2, 2)
    assert progress.last_failure in {"'1': ValueError: odd", "'3': ValueError: odd"}
    assert told(tmp_path / "r")["1"]["message"] == "odd"
    BOOK.fails = lambda _: None
    progress = begun(rows([0.0] * 4), tmp_path / "r")
    assert (progress.done_before, progress.finished, progress.failed) == (2, 2, 0)
    assert {each["status"] for each in told(tmp_path / "r").values()} == {"finished"}


def test_too_many_failures_stop_it(tmp_path: Path) -> None:
    BOOK.fails = lambda _: ValueError("always")
    with pytest.raises(
        BatchError, match=r"3 rows have failed, and failures_max=2 .* '2'"
    ) as caught:
        begun(rows([0.0] * 50), tmp_path / "r", failures_max=2, at_once=1)
    assert isinstance(caught.value.__cause__, ValueError)
    assert len(told(tmp_path / "r")) == 3


def test_what_every_row_would_meet_stops_it_and_is_no_rows_failure(tmp_path: Path) -> None:
    BOOK.fails = lambda number: AuthenticationError("wrong key") if number == 1 else None
    with pytest.raises(
        BatchError, match="every row would fail with the error of this one: '1': Auth"
    ):
        begun(rows([2.0, 1.0, 1.0, 1.0]), tmp_path / "r", at_once=2)
    assert set(told(tmp_path / "r")) == {"0"}  # which was under way, and has ended
    assert {number for number, _ in BOOK.began} == {0, 1}


def test_a_row_is_tried_again_where_that_may_help(tmp_path: Path) -> None:
    BOOK.fails = lambda _: OverloadedError("full") if len(BOOK.began) < 3 else None
    begun(rows([0.0]), tmp_path / "r", retry=WAITED)
    assert [at for _, at in BOOK.began] == [0, 1, 2]
    line = told(tmp_path / "r")["0"]
    assert (line["status"], line["attempts"], line["duration_s"]) == ("finished", 3, 2.0)


def test_no_attempt_is_kept_that_is_over(tmp_path: Path) -> None:
    """An outage may last for hours, and each attempt has a journal."""
    kept: list[int] = []

    def fails(_: int) -> Exception:
        gc.collect()
        kept.append(sum(type(each) is Run for each in gc.get_objects()))
        return OverloadedError("full")

    BOOK.fails = fails
    patient = Retry(attempts_max=9, delay_s=1.0, multiplier=1.0)
    begun(rows([0.0]), tmp_path / "r", retry=patient)
    assert len(kept) == 9
    assert kept[-1] == kept[2]


def test_attempts_have_an_end(tmp_path: Path) -> None:
    BOOK.fails = lambda _: OverloadedError("full")
    assert begun(rows([0.0]), tmp_path / "r", retry=WAITED).failed == 1
    assert len(BOOK.began) == 3


def test_a_provider_that_asks_for_patience_gets_it_from_all_rows(tmp_path: Path) -> None:
    full = RateLimitError("too much", retry_after_s=30)
    BOOK.fails = lambda number: full if number == 0 and len(BOOK.began) < 3 else None
    begun(rows([0.0, 1.0, 0.0, 0.0]), tmp_path / "r", at_once=2, retry=WAITED)
    assert set(BOOK.began[:2]) == {(0, 0.0), (1, 0.0)}
    assert all(at >= 30 for _, at in BOOK.began[2:])


def test_a_row_without_another_attempt_makes_the_others_wait_as_well(tmp_path: Path) -> None:
    BOOK.fails = lambda number: RateLimitError("too much", retry_after_s=30) if not number else None
    once = Retry(attempts_max=1)
    assert begun(rows([0.0] * 3), tmp_path / "r", at_once=1, retry=once).failed == 1
    assert BOOK.began == [(0, 0.0), (1, 30.0), (2, 30.0)]


def test_it_waits_for_an_hour_where_a_run_would_fail_after_a_minute(tmp_path: Path) -> None:
    full = RateLimitError("too much", retry_after_s=3600)
    BOOK.fails = lambda _: full if len(BOOK.began) < 2 else None
    progress = begun(rows([0.0] * 3), tmp_path / "r", at_once=1)
    assert (progress.finished, progress.failed, progress.rests_until_s) == (3, 0, 3600)


def test_a_wait_that_is_too_long_stops_it_and_is_no_rows_failure(tmp_path: Path) -> None:
    BOOK.fails = lambda _: RateLimitError("too much", retry_after_s=3601)
    with pytest.raises(BatchError, match=r"every row would fail .* \(retry after 3601 s\)"):
        begun(rows([0.0] * 50), tmp_path / "r", at_once=2)
    assert told(tmp_path / "r") == {}


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), min_size=1, max_size=6))
def test_patience_that_is_asked_for_meanwhile_counts(given: list[tuple[int, int]]) -> None:
    """Whoever waits already, for patience or for another attempt, waits for that as well."""
    asked: dict[int, float] = {}

    def fails(number: int) -> Exception | None:
        if number in asked or not given[number][1]:
            return None
        asked[number] = trio.current_time()
        return RateLimitError("too much", retry_after_s=given[number][1])

    BOOK.began, BOOK.fails = [], fails
    with TemporaryDirectory() as folder:
        lasting_s = [float(lasts_s) for lasts_s, _ in given]
        assert begun(rows(lasting_s), Path(folder) / "r", retry=WAITED).failed == 0
    for number, since_s in asked.items():
        assert not [at for _, at in BOOK.began if since_s < at < since_s + given[number][1]]


@given(st.integers(1, 4), st.integers(1, 6), st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_rows_that_only_other_rows_keep_from_money_are_run_as_those_end(
    room: int, at_once: int, given: list[int]
) -> None:
    """However long those take: no row fails, and none that has room waits (Graham's bound)."""
    BOOK.__init__()  # type: ignore[misc]
    BOOK.room = room
    lasting_s = [each / 4 for each in given]
    with TemporaryDirectory() as folder:
        progress = begun(rows(lasting_s), Path(folder) / "r", at_once=at_once)
        assert progress.finished == len(given)
        assert progress.rests_until_s == -inf
        assert all(each["attempts"] == 1 for each in told(Path(folder) / "r").values())
    assert BOOK.peak <= room
    assert BOOK.last_s <= sum(lasting_s) / min(room, at_once) + max(lasting_s) + 1e-6


def test_a_row_need_not_wait_for_the_end_of_one_that_has_released_its_money(
    tmp_path: Path,
) -> None:
    """Its calls may have ended, and its other steps go on."""
    BOOK.room, BOOK.holds_s = 1, 2.0
    assert begun(rows([1000.0, 1000.0]), tmp_path / "r").finished == 2
    assert max(each["duration_s"] for each in told(tmp_path / "r").values()) <= 1000 + HELD_S


def test_a_row_that_others_than_its_batch_keep_from_money_is_tried_as_often_as_any(
    tmp_path: Path,
) -> None:
    BOOK.room = 0
    progress = begun(rows([1.0] * 6), tmp_path / "r", at_once=3, retry=WAITED)
    assert progress.failed == 6
    assert {each["attempts"] for each in told(tmp_path / "r").values()} == {3}


@step
async def paid_then_held(number: int, context: Context = injected) -> int:
    BOOK.began.append((number, trio.current_time()))
    if number == 0:
        await trio.sleep(600)
        return number
    context.used(Usage(1, 1, cost_nanodollars=10))
    raise BudgetHeldError("other calls hold the rest")


@pipeline
def paying_before(number: int) -> int:
    return paid_then_held(number)


def test_a_row_that_pays_before_others_keep_it_from_money_is_tried_as_often_as_any(
    tmp_path: Path,
) -> None:
    """Each attempt costs what comes before the refusal, however long the others take."""

    async def main() -> Progress:
        async with open_engine() as engine:
            given = [Row(str(number), {"number": number}) for number in range(2)]
            return await Batch(
                engine, paying_before, given, tmp_path / "r", rules=BatchRules(retry=WAITED)
            ).run()

    progress = trio.run(main, clock=MockClock(autojump_threshold=0))
    assert (progress.finished, progress.failed) == (1, 1)
    assert progress.usage.cost_nanodollars == 10 * WAITED.attempts_max
    assert told(tmp_path / "r")["1"]["attempts"] == WAITED.attempts_max
    assert [at for number, at in BOOK.began if number] == [0, HELD_S, 2 * HELD_S]


def test_it_stops_at_once_while_rows_wait_for_the_money_of_others(tmp_path: Path) -> None:
    BOOK.room = 1
    progress = begun(rows([60.0] * 4), tmp_path / "r", stopped_at_s=5.0)
    assert progress.ended == 0
    assert BOOK.last_s == 5.5


def test_it_stops_at_once_while_it_waits(tmp_path: Path) -> None:
    BOOK.fails = lambda _: RateLimitError("too much", retry_after_s=30)
    progress = begun(rows([0.0] * 4), tmp_path / "r", stopped_at_s=5.0, retry=WAITED)
    assert progress.ended == 0
    assert told(tmp_path / "r") == {}


def test_inputs_that_have_changed_are_done_again(tmp_path: Path) -> None:
    begun([Row("a", {"number": 1}), Row("b", {"number": 2})], tmp_path / "r")
    progress = begun([Row("a", {"number": 1}), Row("b", {"number": 3})], tmp_path / "r")
    assert (progress.done_before, progress.finished) == (1, 1)
    assert told(tmp_path / "r")["b"]["result"] == 6


def test_inputs_that_do_not_fit_are_the_rows_own_failure(tmp_path: Path) -> None:
    progress = begun([Row("a", {"number": "x"}), Row("b", {"number": 2})], tmp_path / "r")
    assert (progress.finished, progress.failed) == (1, 1)
    assert "takes int" in told(tmp_path / "r")["a"]["message"]


def test_one_batch_at_a_time_writes_a_file(tmp_path: Path) -> None:
    path = tmp_path / "r"

    async def main() -> None:
        async with open_engine() as engine, trio.open_nursery() as nursery:
            nursery.start_soon(Batch(engine, work, rows([5.0]), path).run)
            await trio.sleep(1)
            with pytest.raises(BatchError, match="another batch is writing this file"):
                await Batch(engine, work, rows([5.0]), path).run()

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_file_that_cannot_be_locked_is_not_said_to_be_anothers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network file system whose server keeps no locks."""

    def without_locks(file: object, how: int) -> None:
        raise OSError(ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", without_locks)
    with pytest.raises(BatchError, match="it cannot be locked: No locks available; name a file on"):
        begun(rows([0.0]), tmp_path / "r")


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match="cannot be written to this file: Is a directory"):
        begun(rows([0.0]), tmp_path)


@pytest.mark.parametrize("name", ["pipe", "/dev/null"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    """What is there is read first: of some devices for ever, until there is no memory left."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(
        BatchError, match="cannot be written to this file: this is not a regular file"
    ):
        begun(rows([0.0]), tmp_path / name)


def test_a_file_that_does_not_come_to_the_disk_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BatchError, match="cannot be written to this file: No space left on device"):
        begun(rows([0.0]), tmp_path / "r")


@pytest.mark.parametrize("at_once", [1, 8])
def test_a_disk_that_is_full_is_told_with_the_file_and_the_next_batch_goes_on(
    tmp_path: Path, at_once: int
) -> None:
    """Also in the middle of a line, which is then none; a bound on files' sizes is such a disk."""
    results, eight = tmp_path / "r", rows([0.0] * 8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(
            BatchError, match="/r: results cannot be written to this file: File too large"
        ):
            begun(eight, results, at_once=at_once)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not results.read_bytes().endswith(b"\n")
    assert begun(eight, results).done_before == 2
    assert begun(eight, results).done_before == 8


def test_more_at_once_than_an_engine_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"at_once=3 is more than Limits\(runs=2\)"):
        begun(rows([0.0]), tmp_path / "r", at_once=3, limits=Limits(runs=2))


def test_each_run_of_a_batch_has_its_tags(tmp_path: Path) -> None:
    async def main() -> list[object]:
        found: list[object] = []

        def seen(_: str) -> Observer:
            return lambda event: found.append(event.tags) if isinstance(event, RunStarted) else None

        async with open_engine(observe=seen) as engine:
            tags = {"team": "search"}
            await Batch(engine, work, rows([1.0, 2.0]), tmp_path / "out", tags=tags).run()
            with pytest.raises(InputError, match=r"Batch\(..., tags=...\): the name has 0"):
                Batch(engine, work, [], tmp_path / "other", tags={"": ""})
        return found

    assert trio.run(main, clock=MockClock(autojump_threshold=0)) == [{"team": "search"}] * 2
