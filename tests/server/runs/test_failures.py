"""What the log says of runs that fail: in an outage, one short line for each."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.engine.engine import open_engine
from orchestra.engine.run import Run
from orchestra.errors import ModelsFailedError, OverloadedError, RateLimitError
from orchestra.graph.control.constructs import fallback
from orchestra.graph.pipelines import Pipeline, pipeline
from orchestra.graph.steps import step
from orchestra.server.runs.failures import CAUSES_MAX, DETAILS_EVERY_S, LINE_CHARS, Causes
from orchestra.server.runs.registries import open_runs
from orchestra.server.settings import Settings
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.virtual import virtual

MANY = 50
SPENT = "the provider says: " + "wait " * 100


def price(how: str) -> float:
    if how == "division":
        return 1 / 0
    return float(how)


@step
async def failing(how: str) -> str:
    if how == "route":
        errors = {"a": OverloadedError(SPENT), "b": RateLimitError(SPENT)}
        raise ModelsFailedError("all models of route 'smart' failed:", errors)
    if how == "short":
        raise OverloadedError("no room")
    return f"{price(how)}"


@pipeline
def answer(how: str) -> str:
    """Fail."""
    return failing(how)


@pipeline
def other(how: str) -> str:
    """Fail as well."""
    return failing(how)


@pipeline
def arms(how: str) -> str:
    """Fail in each arm."""
    return fallback(failing("route"), failing(how))


Fail = Callable[..., Awaitable[Run]]


def logged(
    caplog: pytest.LogCaptureFixture, main: Callable[[Fail], Awaitable[None]]
) -> list[logging.LogRecord]:
    """What the log has of runs that fail in `main`."""

    async def serve() -> None:
        async with (
            open_runs(MemoryState(), Settings(), shared=False) as registry,
            open_engine() as engine,
        ):

            async def fail(how: str, which: Pipeline[..., str] = answer) -> Run:
                run: Run = engine.start(which, {"how": how})
                registry.adopt(run)
                await run.wait_ended()
                return run

            await main(fail)

    virtual(serve)
    return [each for each in caplog.records if each.name == "orchestra.server"]


def test_of_many_runs_that_a_route_fails_one_has_the_details(
    caplog: pytest.LogCaptureFixture,
) -> None:
    runs: list[Run] = []

    async def main(fail: Fail) -> None:
        runs.extend([await fail("route") for _ in range(MANY)])

    first, *rest = logged(caplog, main)
    assert first.getMessage().count(SPENT.strip()) == 2
    assert len(rest) == MANY - 1
    for run, record in zip(runs[1:], rest, strict=True):
        line = record.getMessage()
        assert (record.levelname, record.exc_info) == ("WARNING", None)
        assert line.startswith(f"run {run.id} of pipeline 'answer' failed: ModelsFailedError: all ")
        assert line.endswith(f" (OverloadedError, RateLimitError), as run {runs[0].id} did")
        assert len(line) < LINE_CHARS + 120


def test_each_place_where_a_users_code_fails_has_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also where others fail at the same time; in another pipeline, it is another cause."""

    async def main(fail: Fail) -> None:
        for _ in range(MANY):
            for how in ("division", "x", "y"):
                await fail(how)
        await fail("division", other)

    records = logged(caplog, main)
    assert {each.levelname for each in records} == {"ERROR"}
    assert len(records) == 3 * MANY + 1
    detailed = [each for each in records if each.exc_info]
    assert [each.exc_info[0] for each in detailed if each.exc_info] == [
        ZeroDivisionError,
        ValueError,
        ZeroDivisionError,
    ]
    assert "'x'" in str(detailed[1].exc_info)
    assert "could not convert string to float: 'y', as run" in records[2].getMessage()


def test_a_users_exception_in_an_arm_has_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """The error of the run is ours then, and says of the arm only the exception's message."""

    async def main(fail: Fail) -> None:
        for _ in range(MANY):
            for how in ("division", "x"):
                await fail(how, arms)

    records = logged(caplog, main)
    detailed = [each for each in records if each.exc_info]
    assert detailed == records[:2]
    assert [each.exc_info[0] for each in detailed if each.exc_info] == [
        ZeroDivisionError,
        ValueError,
    ]
    assert len(records) == 2 * MANY


def test_the_details_come_again_after_a_minute_with_the_number_of_those_between(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ids: list[str] = []

    async def main(fail: Fail) -> None:
        ids.extend([(await fail("route")).id for _ in range(3)])
        await trio.sleep(DETAILS_EVERY_S)
        await fail("route")

    *_, last = logged(caplog, main)
    assert SPENT.strip() in last.getMessage()
    assert last.getMessage().endswith(f"(2 more runs have failed so since run {ids[0]})")


def test_a_short_error_of_a_model_is_told_each_time(caplog: pytest.LogCaptureFixture) -> None:
    async def main(fail: Fail) -> None:
        for _ in range(3):
            await fail("short")

    lines = [each.getMessage() for each in logged(caplog, main)]
    assert all(line.endswith("failed: OverloadedError: no room") for line in lines)
    assert len(lines) == 3


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, DETAILS_EVERY_S))))
def test_a_cause_has_its_details_once_a_period_and_no_failure_is_left_uncounted(
    failures: list[tuple[str, float]],
) -> None:
    causes, now_s = Causes(), 0.0
    detailed_s: dict[str, float] = {}
    uncounted = dict.fromkeys("abc", 0)
    for number, (cause, later_s) in enumerate(failures):
        now_s += later_s
        before, recent = causes.told(cause, str(number), now_s)
        assert recent == (cause in detailed_s and now_s < detailed_s[cause] + DETAILS_EVERY_S)
        if recent:
            uncounted[cause] += 1
        else:
            assert (0 if before is None else before.more) == uncounted[cause]
            detailed_s[cause], uncounted[cause] = now_s, 0


def test_the_causes_that_are_remembered_are_bounded() -> None:
    causes = Causes()
    for number in range(2 * CAUSES_MAX):
        assert causes.told(number, "r", 0.0) == (None, False)
    assert len(causes) == CAUSES_MAX
    assert causes.told(2 * CAUSES_MAX - 1, "r", 0.0)[1]
    assert not causes.told(0, "r", 0.0)[1], "the oldest was forgotten"
