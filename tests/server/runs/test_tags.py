"""Tags of a run: from any API of the server into its record, events, log, usage log and trace."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from orchestra.accounts import Usage
from orchestra.cli.serving.log import with_ids
from orchestra.errors import AuthenticationError
from orchestra.observe.exposition import exposed
from orchestra.observe.metrics import Metrics
from orchestra.observe.names import RELEASED
from orchestra.observe.observers import together
from orchestra.observe.traces import Trace, Traces
from orchestra.server.settings import Settings
from orchestra.testing.world import ScriptedModel
from orchestra.values import Stopped, StopReason, TextDelta, UsageReport
from tests.server.asking import ASK, BODIES, CHAT, Asked, Failing, open_asked
from tests.server.socketing import Stage, on_stage, open_socket
from tests.server.wire import Reply

TAGS = "X-Orchestra-Tags: team=search, ticket=A%2C1"
TAGGED = {"team": "search", "ticket": "A,1"}
MESSAGES = "POST /v1/messages HTTP/1.1"
RESPONSES = "POST /v1/responses HTTP/1.1"
ANSWERING = ScriptedModel(
    (
        (0.0, TextDelta("Very well.")),
        (0.0, UsageReport(Usage(120, 30))),
        (0.0, Stopped(StopReason.END)),
    )
)


def with_server(act: Callable[[Asked], Awaitable[Any]], **options: Any) -> Any:
    async def main() -> Any:
        async with open_asked(options.pop("model", ANSWERING), **options) as asked:
            return await act(asked)

    return trio.run(main)


async def record_of(asked: Asked, run_id: object) -> Any:
    return (await asked.ask(f"GET /v1/runs/{run_id} HTTP/1.1")).json


def test_the_tags_of_a_request_are_in_its_events_and_its_record() -> None:
    async def act(asked: Asked) -> list[Any]:
        streamed = await asked.ask(ASK, "Accept: text/event-stream", TAGS)
        started = json.loads(streamed.body.split(b"data: ")[1].partition(b"\n")[0])
        untagged = await asked.ask(ASK)
        return [
            started["tags"],
            (await record_of(asked, started["run_id"]))["tags"],
            (await record_of(asked, untagged.json["run_id"]))["tags"],
        ]

    assert with_server(act) == [TAGGED, TAGGED, {}]


def test_the_list_has_the_runs_with_all_tags_that_are_asked_for() -> None:
    async def act(asked: Asked) -> list[list[int]]:
        for n, team in enumerate(("search", "search", "billing")):
            key = f"Idempotency-Key: {n}"
            await asked.ask(ASK, key, f"X-Orchestra-Tags: team={team},n={n}")
        found = []
        for query in ("tag=team=search", "tag=team%3Dsearch&tag=n=1", "tag=team=x", "tag=n=2"):
            listed: Any = (await asked.ask(f"GET /v1/runs?{query} HTTP/1.1")).json
            found.append([int(each["tags"]["n"]) for each in listed["runs"]])
        return found

    assert with_server(act) == [[1, 0], [1], [], [2]]


def test_metadata_of_openai_are_tags_and_the_header_adds_to_them() -> None:
    async def act(asked: Asked) -> list[Any]:
        found = []
        for head, body in ((CHAT, {}), (RESPONSES, {"input": "How do you do?", "store": False})):
            for stream in (False, True):
                given = {"metadata": {"team": "ads", "feature": "x"}, "stream": stream, **body}
                reply = await asked.ask(head, "X-Orchestra-Tags: team=search", **given)
                run = await record_of(asked, reply.headers["x-orchestra-run-id"])
                found.append(run["tags"])
        return found

    assert with_server(act) == [{"team": "search", "feature": "x"}] * 4


def test_anthropics_clients_send_the_header() -> None:
    async def act(asked: Asked) -> Any:
        reply = await asked.ask(MESSAGES, TAGS)
        return (await record_of(asked, reply.headers["x-orchestra-run-id"]))["tags"]

    assert with_server(act) == TAGGED


BODIES_BESIDE = {
    RESPONSES: {"model": "smart", "input": "How do you do?"},
    MESSAGES: {**BODIES[CHAT], "max_tokens": 9},
}


@pytest.fixture(autouse=True)
def _more_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.server.asking.BODIES", {**BODIES, **BODIES_BESIDE})


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (ASK, b"urn:problem-type:orchestra:bad-tags"),
        (CHAT, b'"param":"X-Orchestra-Tags"'),
        (MESSAGES, b"invalid_request_error"),
    ],
)
def test_other_tags_are_refused_and_nothing_starts(head: str, code: bytes) -> None:
    async def act(asked: Asked) -> Reply:
        reply = await asked.ask(head, "X-Orchestra-Tags: team")
        assert not asked.engine.runs
        return reply

    reply = with_server(act)
    assert reply.status == 400
    assert b"`X-Orchestra-Tags`: 'team' is not a tag; write name=value" in reply.body
    assert code in reply.body


def test_requests_that_start_no_run_may_have_any_tags() -> None:
    """As those of a proxy that adds the header to all; nobody learns from it before their key is known."""

    async def act(asked: Asked) -> list[int]:
        bad = "X-Orchestra-Tags: team"
        found = [
            await asked.ask(f"GET {path} HTTP/1.1", bad) for path in ("/v1/runs", "/v1/pipelines")
        ]
        return [each.status for each in found]

    assert with_server(act) == [200, 200]


def test_metadata_over_openais_bounds_are_refused_with_their_field() -> None:
    metadata = {f"n{n}": "" for n in range(17)}

    async def act(asked: Asked) -> Reply:
        return await asked.ask(CHAT, metadata=metadata)

    reply = with_server(act)
    error: Any = reply.json["error"]
    assert (reply.status, error["param"]) == (400, "metadata")
    assert "there are 17 tags, and a run may have 16" in error["message"]


def test_together_they_have_the_same_bounds() -> None:
    async def act(asked: Asked) -> Reply:
        metadata = {f"n{n}": "" for n in range(15)}
        return await asked.ask(CHAT, TAGS, metadata=metadata)

    reply = with_server(act)
    error: Any = reply.json["error"]
    assert (reply.status, error["param"]) == (400, "X-Orchestra-Tags")
    assert error["message"].startswith("`X-Orchestra-Tags`, and the tags beside it: there are 17")


def test_they_are_in_the_log_lines_of_the_run_and_in_the_usage_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    caplog.handler.addFilter(with_ids)

    async def act(asked: Asked) -> None:
        await asked.ask(ASK, TAGS)

    refused = Failing(AuthenticationError("no such key"))
    try:
        with_server(act, model=refused, settings=Settings(usage_log=True))
    finally:
        caplog.handler.removeFilter(with_ids)
    (usage,) = [each for each in caplog.records if each.name == "orchestra.usage"]
    (failed,) = [each for each in caplog.records if each.name == "orchestra.server"]
    assert json.loads(usage.message)["tags"] == TAGGED
    ids: Any = vars(failed)["ids"]
    assert ids["tags"] == TAGGED
    assert vars(failed)["request"].endswith(" team=search ticket=A,1]")


def test_they_are_attributes_of_the_runs_span_and_in_no_metric() -> None:
    found: list[Trace] = []
    metrics = Metrics()
    observers = together(Traces(found.append, RELEASED), metrics)
    assert observers is not None

    async def act(asked: Asked) -> None:
        await asked.ask(ASK, TAGS)

    with_server(act, observe=observers.observe)
    (trace,) = found
    tagged = [each for each in trace.spans if "orchestra.tag.team" in each.attributes]
    assert tagged == [trace.spans[0]]
    assert tagged[0].attributes["orchestra.tag.ticket"] == "A,1"
    shown, _ = exposed(metrics.tally)
    assert b"orchestra_run_duration_seconds" in shown
    assert b"search" not in shown


def test_a_start_over_a_websocket_has_its_own_and_those_of_the_handshake() -> None:
    async def test(stage: Stage) -> list[Any]:
        name, _, value = TAGS.partition(": ")
        socket = await open_socket(stage.house, headers=[(name, value)])
        await socket.say(type="start", id="a", inputs={"count": 1}, tags={"n": "1"})
        (started, *_) = await socket.events("a")
        await socket.say(type="start", id="b", inputs={"count": 1}, tags={"n": 1})
        number = (await socket.receive())["problem"]
        many = {f"n{n}": "" for n in range(15)}
        await socket.say(type="start", id="c", inputs={"count": 1}, tags=many)
        return [started["tags"], number, (await socket.receive())["problem"]]

    tags, number, many = on_stage(test)
    assert tags == {**TAGGED, "n": "1"}
    assert number["type"].endswith("bad-tags")
    assert "the value of 'n' is 1, and not a text; write '1'" in number["detail"]
    assert many["type"].endswith("bad-tags")
    assert "there are 17 tags" in many["detail"]
