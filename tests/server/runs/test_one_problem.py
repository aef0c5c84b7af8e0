"""A run that failed has one problem, however a client learns of it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import (
    BudgetExceededError,
    InputError,
    LimitReachedError,
    ModelsFailedError,
    OutputError,
    OverloadedError,
    RunLostError,
)
from orchestra.event_lines import encode, read_back
from orchestra.events import RunFailed
from orchestra.messages import class_name, message
from orchestra.runs.local import CONTINUE
from orchestra.runs.registry import open_registry
from orchestra.server.runs.fit_events import fit_for_clients
from orchestra.server.runs.problems import failed_run, problem_of
from orchestra.testing.virtual import virtual
from tests.runs.processes import Cable, memory, process
from tests.server.runs.test_problems import MODEL_ERRORS
from tests.server.runs.test_resources import STREAM, Served, serving
from tests.server.socketing import Stage, on_stage, open_socket
from tests.server.test_sse import dispatched
from tests.server.wire import Reply

LATEST_S = 30.0
"""Until then, all know that a run is lost."""
SECRET = "/srv/secret-\ud800"
WAITS = st.none() | st.floats(0, 1e6)
WAITING = [cls for cls in MODEL_ERRORS if not issubclass(cls, BudgetExceededError | OutputError)]
FULL = b'{"inputs": {"how": "full"}}'
START = "POST /v1/pipelines/broken/runs"

raised = st.one_of(
    st.builds(
        lambda cls, wait_s: cls("half \ud800", retry_after_s=wait_s),
        st.sampled_from(WAITING),
        WAITS,
    ),
    st.builds(
        lambda wait_s: ModelsFailedError(
            "all:", {"a": OverloadedError(SECRET, retry_after_s=wait_s)}
        ),
        WAITS,
    ),
    st.builds(lambda wait_s: LimitReachedError("x", code="runs", retry_after_s=wait_s), WAITS),
    st.sampled_from(
        [
            InputError("it is too short", field="question"),
            BudgetExceededError("x", budget="day", spent_nanodollars=2, limit_nanodollars=1),
            RunLostError("it is lost"),
            KeyError(SECRET),
        ]
    ),
)


def failing(error: BaseException) -> RunFailed:
    return RunFailed(9, 0.1, class_name(error), message(error), "cite", SECRET, cause=error)


def as_answered(reply: Reply) -> tuple[dict[str, Any], int | None]:
    """The problem of an answer, without the run's id, and how long to wait."""
    wait_s = reply.headers.get("retry-after")
    body = {name: value for name, value in reply.json.items() if name != "run_id"}
    return body, None if wait_s is None else int(wait_s)


def as_told(event: dict[str, Any]) -> tuple[dict[str, Any], int | None]:
    return event["problem"], event["retry_after_s"]


@given(raised, st.booleans())
def test_the_last_event_has_the_problem_that_the_answer_would_be(
    error: BaseException, debug: bool
) -> None:
    event = fit_for_clients(failing(error), debug=debug)
    told = read_back(encode(event))
    answered = failed_run("r", event, error)  # type: ignore[arg-type]
    body = read_back(answered.encode())
    assert body.pop("run_id") == "r"
    assert told["problem"] == body
    wait_s = dict(answered.headers).get("Retry-After")
    assert told["retry_after_s"] == (None if wait_s is None else int(wait_s))
    assert "cause" not in told
    assert debug or b"secret" not in encode(event)
    assert fit_for_clients(event) is event, "what is fit is not made fit again"


@given(raised)
def test_a_program_answers_with_the_problem_of_the_event(error: BaseException) -> None:
    event = fit_for_clients(RunFailed(9, 0.1, class_name(error), message(error), cause=error))
    assert isinstance(event, RunFailed)
    assert problem_of(error).body == event.problem


def test_answer_events_record_and_repetition_have_the_same_problem() -> None:
    """On another server than the run's, too, which knows only what was kept of it."""

    async def main(one: Served, other: Served) -> None:
        answered = await one.ask(f"{START}\nIdempotency-Key: k", FULL)
        assert (answered.status, answered.headers["retry-after"]) == (503, "7")
        assert answered.json["type"] == "urn:problem-type:orchestra:provider-overloaded"
        problem = as_answered(answered)
        run = f"/v1/runs/{answered.json['run_id']}"
        streamed = dispatched((await one.ask(f"{START}\n{STREAM}", FULL)).body)
        assert as_told(read_back(streamed[-1].data.encode())) == problem
        for server in (one, other):
            while (shown := (await server.ask(f"GET {run}")).json)["status"] == "running":
                pass  # its end is written in a moment
            assert as_told(shown) == problem
            followed = dispatched((await server.ask(f"GET {run}/events\n{STREAM}")).body)
            assert as_told(read_back(followed[-1].data.encode())) == problem
            again = await server.ask(f"{START}\nIdempotency-Key: k", FULL)
            assert (again.status, again.json) == (503, answered.json)
            assert as_answered(again) == problem

    serving(main)


@pytest.mark.parametrize("ended", [False, True])
def test_a_lost_run_has_a_problem_as_well(ended: bool) -> None:
    """For who followed it as it was lost, and for who comes later."""

    async def main() -> dict[str, Any]:
        state = memory()
        dying = Cable(state)
        async with (
            process(dying) as owner,
            open_registry(
                state, shared=True, fit=fit_for_clients, now_s=trio.current_time
            ) as registry,
        ):
            run = owner.start([(1000.0, "never said")])
            await owner.registry.adopt_durably(run, linger_s=CONTINUE, readers=0)
            dying.cut = True
            await trio.sleep(LATEST_S if ended else 0)
            following = await registry.follow(run.id)
            assert following is not None
            with following:
                last = await following.last()
            assert last is not None
            event: dict[str, Any] = read_back(last.data)
            return event

    event = virtual(main)
    assert event["error"] == "RunLostError"
    assert (event["problem"]["status"], event["problem"]["title"]) == (500, "The run failed.")


def test_a_socket_has_it_too() -> None:
    async def test(stage: Stage) -> dict[str, Any]:
        socket = await open_socket(stage.house, "/v1/pipelines/broken/ws")
        await socket.start("a", how="full")
        while (frame := await socket.receive())["event"]["type"] != "run.failed":
            pass
        found: dict[str, Any] = frame["event"]
        return found

    event = on_stage(test)
    assert event["problem"]["status"] == 503
    assert event["retry_after_s"] == 7
