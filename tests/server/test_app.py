"""The application: what it says of itself, and problem JSON for all that is wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec
import pytest
import trio
import trio.testing
from hypercorn.typing import (
    ASGIReceiveCallable,
    ASGISendCallable,
    ASGISendEvent,
    ConnectionState,
    HTTPScope,
    Scope,
)

from orchestra.engine.engine import open_engine
from orchestra.errors import CheckError, ServeError
from orchestra.graph.control.constructs import race
from orchestra.graph.pipelines import pipeline
from orchestra.graph.steps import step
from orchestra.server.app import create_app
from orchestra.server.connections.hardening import mend_hypercorn
from orchestra.server.runs.outlines import outline
from orchestra.server.runs.relay import relay
from orchestra.server.settings import Settings
from tests.patience import PATIENCE_S
from tests.server.runs.test_pipelines import asking, posting, served
from tests.server.served import PIPELINES
from tests.server.wire import Reply, _unmended, open_house  # noqa: F401 - a fixture

OPENING = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
)


@step
def shown(each: object) -> str:
    return repr(each)


@step
async def short(text: str) -> int:
    return len(text)


@pipeline
def clashing(question: str) -> str:
    return shown(short(short(question)))  # type: ignore[arg-type]


@pipeline
def unservable(each: Callable[[], str]) -> str:
    return shown(each)


def test_what_is_served_is_listed() -> None:
    reply = asking("GET /v1/pipelines HTTP/1.1")
    assert reply.headers["content-type"] == "application/json"
    assert reply.json == {
        "pipelines": [
            {"name": "count", "summary": "Count up from nought."},
            {"name": "told", "summary": "What a line on the server's standard input answers."},
            {
                "name": "gate",
                "summary": "What the first line on the server's standard input says, to all who wait for it.",
            },
            {"name": "endless", "summary": "As much as you can take, a kilobyte at a time."},
            {"name": "broken", "summary": "Fail in the way that is asked for."},
            {"name": "twice", "summary": "Twice a number."},
        ]
    }


def test_a_pipeline_tells_its_inputs_and_its_graph() -> None:
    told: dict[str, Any] = asking("GET /v1/pipelines/count HTTP/1.1").json
    assert told["name"] == "count"
    assert told["doc"].startswith("Count up from nought.\n\nWith `hold`")
    assert told["inputs"]["properties"]["count"] == {"type": "integer", "default": 10}
    assert [(node["name"], node["kind"]) for node in told["graph"]["nodes"]] == [
        ("count", "input"),
        ("hold", "input"),
        ("numbers", "step"),
    ]


@step
def filled(template: str, question: str) -> str:
    return template + question


@pipeline
def private(question: str) -> str:
    return race(filled("a secret", question), "another secret")


def test_a_prompt_and_a_source_line_are_told_at_a_desk_only() -> None:
    told = msgspec.json.encode(outline(private, debug=False))
    assert b"secret" not in told
    assert b".py" not in told
    shown_ = msgspec.json.encode(outline(private, debug=True))
    assert b"a secret" in shown_
    assert b"another secret" in shown_
    assert b"test_app.py:" in shown_


def test_a_pipeline_with_problems_is_not_served() -> None:
    async def main() -> None:
        async with open_engine() as engine:
            create_app(engine, {"clashing": clashing})

    with pytest.raises(CheckError, match="pipeline 'clashing' has 1 problem"):
        trio.run(main)


# --- what is wrong -----------------------------------------------------------------------------


def problem(reply: Reply, status: int, code: str) -> dict[str, Any]:
    """The problem in an answer, which must be one."""
    assert reply.status == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json["status"] == status
    assert reply.json["type"] == f"urn:problem-type:orchestra:{code}"
    return reply.json


RUNS = "POST /v1/pipelines/count/runs HTTP/1.1"
JSON = "Content-Type: application/json"


@pytest.mark.parametrize("head", ["GET /v1/pipelines/cuont", "GET /v1/pipelines/cuont/runs"])
def test_an_unknown_pipeline_is_told_with_what_is_meant(head: str) -> None:
    told = problem(asking(f"{head} HTTP/1.1"), 404, "unknown-pipeline")
    assert told["detail"] == "no pipeline is named 'cuont'; did you mean 'count'?"


def test_the_pipeline_is_the_first_thing_that_must_be_right() -> None:
    asked = f"POST /v1/pipelines/cuont/runs HTTP/1.1\nAccept: text/html\n{JSON}"
    problem(asking(asked, b"{"), 404, "unknown-pipeline")


@pytest.mark.parametrize("path", ["/", "/v2", "/v1/pipelines/", "/static/x.js"])
def test_an_unknown_path_is_told_what_there_is(path: str) -> None:
    told = problem(asking(f"GET {path} HTTP/1.1"), 404, "not-found")
    assert "GET /v1/pipelines lists what is served" in told["detail"]


@pytest.mark.parametrize(
    "line",
    [
        "GET /v1/pipelines",
        "GET /v1/pipelines/count/runs?most=1",
        "GET /v1/pipelines/count/runs",
        "GET /v1/runs",
        "GET /v1/runs/0a1b",
        "GET /v1/models",
        "GET /docs",
        "GET /openapi.json",
        "GET /nothing",
        "PUT /v1/runs",
        "OPTIONS /v1/runs",
        "GET /healthz",
        f"GET /{'x' * 9_000}",
    ],
)
def test_no_cache_may_keep_a_response(line: str) -> None:
    """Some keep every GET without this header for a day, so that a run would not seem to end."""
    assert asking(f"{line} HTTP/1.1").headers["cache-control"] == "no-store"


def test_a_wrong_method_is_told_the_right_ones() -> None:
    reply = asking("DELETE /v1/pipelines/count/runs HTTP/1.1")
    told = problem(reply, 405, "method-not-allowed")
    assert told["detail"] == (
        "'/v1/pipelines/count/runs' does not allow DELETE; send one of: GET, OPTIONS, POST"
    )
    assert reply.headers["allow"] == "get, options, post"


def test_a_body_that_is_not_json_is_told() -> None:
    problem(asking(f"{RUNS}\n{JSON}", b"{'inputs'}"), 400, "bad-body")


def test_a_wrong_input_is_told_with_its_field() -> None:
    told = problem(posting("count", {"count": "ten"}), 422, "bad-inputs")
    assert told["field"] == "count"
    assert told["errors"][0]["pointer"] == "#/inputs/count"


def test_a_body_of_another_type_is_refused() -> None:
    problem(asking(RUNS, b"count=3"), 415, "bad-media-type")


def test_a_form_that_cannot_be_given_is_refused() -> None:
    problem(
        asking("GET /v1/pipelines/count/runs HTTP/1.1\nAccept: text/html"), 406, "not-acceptable"
    )


@pytest.mark.parametrize("size", [1001, 5_000_000])
def test_a_body_that_is_too_large_is_refused(size: int) -> None:
    settings = Settings(body_limit_bytes=1000)
    told = problem(asking(f"{RUNS}\n{JSON}", b" " * size, settings=settings), 413, "body-too-large")
    assert told["detail"] == "the body is larger than 1000 bytes"


def test_a_large_body_is_refused_also_when_its_size_is_not_announced() -> None:
    async def main() -> Reply:
        async with served(Settings(body_limit_bytes=1000)) as (house, _):
            client = await house.connect()
            await client.send(f"{RUNS}\n{JSON}\nTransfer-Encoding: chunked")
            await client.stream.send_all(b"7d0\r\n" + b" " * 2000 + b"\r\n")
            return await client.reply()

    problem(trio.run(main), 413, "body-too-large")


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async def main() -> Reply:
        async with served(Settings(body_timeout_s=0.05)) as (house, _):
            client = await house.connect()
            await client.send(f"{RUNS}\n{JSON}\nContent-Length: 100")
            return await client.reply()

    problem(trio.run(main), 408, "request-timeout")


def test_what_nobody_expected_is_logged_and_told_without_a_word_of_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(*_: object) -> None:
        raise RuntimeError("the cellar is on fire")

    monkeypatch.setattr("orchestra.server.runs.pipelines.read", explode)
    reply = asking("GET /v1/pipelines/count/runs HTTP/1.1")
    problem(reply, 500, "internal-server-error")
    assert b"cellar" not in reply.body
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.message == "a request failed: GET '/v1/pipelines/count/runs'"
    assert "the cellar is on fire" in caplog.text


def test_a_websocket_is_refused_politely() -> None:
    reply = asking(
        """GET /v1/pipelines HTTP/1.1
        Connection: Upgrade
        Upgrade: websocket
        Sec-WebSocket-Version: 13
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="""
    )
    assert (reply.status, reply.json["type"]) == (404, "urn:problem-type:orchestra:not-found")
    assert str(reply.json["detail"]).startswith("no WebSocket is served at '/v1/pipelines'; open")


def test_options_are_told_without_a_page() -> None:
    reply = asking("OPTIONS /v1/pipelines/count/runs HTTP/1.1")
    assert reply.status == 200
    assert "html" not in reply.headers["content-type"]


@pytest.mark.parametrize(
    "head", ["GET /v1/pipelines HTTP/1.1", f"GET /v1/pipelines/count/ws HTTP/1.1\r\n{OPENING}"]
)
def test_the_host_does_not_matter(head: str) -> None:
    """Routes are not bound to it, so that one which cannot be a name is as good as any."""

    async def main() -> list[int]:
        statuses = []
        async with served() as (house, _):
            for name in ("test", "a" * 64 + "..b"):
                client = await house.connect()
                await client.stream.send_all(f"{head}\r\nHost: {name}\r\n\r\n".encode())
                statuses.append((await client.head()).status)
        return statuses

    first, second = trio.run(main)
    assert first == second < 400


def test_every_answer_is_json() -> None:
    """A problem can always be decoded: there is no page in HTML anywhere."""
    heads = ["GET /%00", "GET /v1/pipelines/%ff", "PUT /", "GET /?%zz", "GET /v1/pipelines/a%2Fb"]
    for head in heads:
        assert msgspec.json.decode(asking(f"{head} HTTP/1.1").body)


def test_an_exchange_ends_with_its_answer() -> None:
    """Also on a server that does not tell the end of an answer as a disconnect."""
    scope: HTTPScope = {
        "type": "http",
        "asgi": {"spec_version": "2.3", "version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/v1/pipelines",
        "raw_path": b"/v1/pipelines",
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": None,
        "server": None,
        "state": ConnectionState({}),
        "extensions": {},
    }
    sent: list[ASGISendEvent] = []

    async def send(message: ASGISendEvent) -> None:
        sent.append(message)

    async def receive() -> NoReturn:
        await trio.sleep_forever()
        raise AssertionError("nothing comes behind for ever")

    async def main() -> None:
        with trio.fail_after(PATIENCE_S):
            async with open_engine() as engine:
                await create_app(engine, {})(scope, receive, send)

    trio.run(main)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[-1] == {
        "type": "http.response.body",
        "body": b'{"pipelines":[]}',
        "more_body": False,
    }


@pytest.mark.usefixtures("_unmended")
def test_who_has_left_before_their_request_is_looked_at_takes_their_run_along() -> None:
    mend_hypercorn()
    came, gone, over = trio.Event(), trio.Event(), trio.Event()

    async def main() -> None:
        async with open_engine() as engine:
            app = create_app(engine, PIPELINES)

            async def late(
                scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
            ) -> None:
                came.set()
                await gone.wait()
                await app(scope, receive, send)
                over.set()

            async with open_house(late, Settings()) as house:
                client = await house.connect()
                head = "POST /v1/pipelines/count/runs HTTP/1.1\nContent-Type: application/json"
                await client.send(head, b'{"inputs": {"hold": true}}')
                await came.wait()
                await client.stream.aclose()
                await trio.testing.wait_all_tasks_blocked()
                gone.set()
                await over.wait()
            await engine.wait_idle()

    trio.run(main)


def test_what_json_can_ask_is_not_found_out_by_who_is_told() -> None:
    async def main() -> object:
        async with open_engine() as engine:
            app = create_app(engine, {"unservable": unservable}, by_json={})
            async with open_house(app, Settings()) as house:
                return (await (await house.connect()).ask("GET /v1/pipelines HTTP/1.1")).json

    assert trio.run(main) == {"pipelines": []}


def test_no_pipeline_is_served_under_the_name_of_the_runs_of_models() -> None:
    """A key for it would show what everybody in the organisation asks models."""

    @pipeline(name=relay.name)
    def own(word: str) -> str:
        """Of a user."""
        return filled("echo", word)

    async def main() -> None:
        async with open_engine() as engine:
            create_app(engine, {own.name: own})

    with pytest.raises(ServeError, match="'relay' has the name of all runs of models"):
        trio.run(main)


def test_a_pipeline_whose_input_json_cannot_give_is_not_served() -> None:
    async def main() -> None:
        async with open_engine() as engine:
            create_app(engine, {"unservable": unservable})

    with pytest.raises(
        ServeError, match="pipeline 'unservable' cannot be served: its input `each: "
    ):
        trio.run(main)
