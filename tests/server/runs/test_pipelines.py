"""Runs over HTTP: events as they happen, one answer, and a client that leaves."""

from __future__ import annotations

import gc
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from orchestra.engine.engine import Engine, open_engine
from orchestra.graph.rules.policy import Limits
from orchestra.server.app import create_app
from orchestra.server.front.arrival import REQUEST_ID, Arrival
from orchestra.server.front.departure import DepartingRequest
from orchestra.server.settings import Settings
from tests.server.served import PIPELINES
from tests.server.test_sse import Message, dispatched
from tests.server.wire import Client, House, Reply, open_house

STREAM = "Accept: text/event-stream"
AT_ONCE_S = 0.05


@asynccontextmanager
async def served(
    settings: Settings | None = None, limits: Limits | None = None
) -> AsyncIterator[tuple[House, Engine]]:
    """A server of the test pipelines, with its engine."""
    settings = settings or Settings()
    async with open_engine(limits=limits) as engine:
        app = create_app(engine, PIPELINES, settings)
        async with open_house(app, settings) as house:
            yield house, engine


def asking(head: str, body: bytes = b"", **options: Any) -> Reply:
    """The answer to one request."""

    async def main() -> Reply:
        async with served(**options) as (house, _):
            return await (await house.connect()).ask(head, body)

    return trio.run(main)


def posting(pipeline: str, inputs: dict[str, object], *headers: str, **options: Any) -> Reply:
    """The answer to one request for a run."""
    head = [f"POST /v1/pipelines/{pipeline}/runs HTTP/1.1", "Content-Type: application/json"]
    return asking("\n".join([*head, *headers]), msgspec.json.encode({"inputs": inputs}), **options)


def data(message: Message) -> dict[str, Any]:
    return msgspec.json.decode(message.data, type=dict[str, Any])


# --- what a client gets ------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["GET", "POST"])
def test_a_run_streams_its_journal(way: str) -> None:
    if way == "GET":
        reply = asking(f"GET /v1/pipelines/count/runs?count=3 HTTP/1.1\n{STREAM}")
    else:
        reply = posting("count", {"count": 3}, STREAM)
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["cache-control"] == "no-store, no-transform"
    assert reply.headers["x-accel-buffering"] == "no"
    messages = dispatched(reply.body)
    kinds = [message.event for message in messages]
    assert kinds[:2] == ["run.started", "step.started"]
    assert sorted(kinds[2:-1]) == ["delta", "delta", "delta", "step.finished"]
    assert kinds[-1] == "run.finished"
    run = f"{data(messages[0])['run_id']}."  # so that whoever comes back resumes it
    assert [message.id for message in messages] == [f"{run}{number}" for number in range(1, 8)]
    assert [data(m)["chunk"] for m in messages if m.event == "delta"] == ["0 ", "1 ", "2 "]
    assert data(messages[-1])["result"] == "0 1 2 "
    assert data(messages[-1])["timings_s"].keys() == {"numbers"}


def test_events_arrive_as_they_happen() -> None:
    """The third chunk is here while the run goes on, as its silence behind it shows."""

    async def main() -> bytes:
        async with served() as (house, engine):
            client = await house.connect()
            await client.send(f"GET /v1/pipelines/count/runs?count=3&hold=true HTTP/1.1\n{STREAM}")
            seen = await client.until(b'"2 "')
            assert engine.runs
            return seen

    assert trio.run(main).count(b"event: delta") == 3


def test_what_is_ready_together_is_written_together() -> None:
    async def main() -> list[bytes]:
        async with served() as (house, _):
            client = await house.connect()
            await client.send(f"GET /v1/pipelines/count/runs?count=100 HTTP/1.1\n{STREAM}")
            await client.head()
            chunks = []
            while chunk := await client.chunk():
                chunks.append(chunk)
            return chunks

    chunks = trio.run(main)
    assert b"".join(chunks).count(b"event: delta") == 100
    assert len(chunks) < 50


def test_without_a_stream_the_run_is_answered_once() -> None:
    reply = posting("count", {"count": 3})
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.json.keys() == {
        *("run_id", "result", "timings_s", "usage", "usage_by_model", "cut")
    }
    assert reply.json["result"] == "0 1 2 "


def test_a_connection_serves_one_run_after_another() -> None:
    async def main() -> list[int]:
        async with served() as (house, _):
            client = await house.connect()
            head = f"GET /v1/pipelines/count/runs HTTP/1.1\n{STREAM}"
            return [dispatched((await client.ask(head)).body).__len__() for _ in range(3)]

    assert trio.run(main) == [14, 14, 14]


def test_silence_is_filled_with_heartbeats() -> None:
    async def main() -> None:
        async with served(Settings(heartbeat_s=0.01)) as (house, _):
            client = await house.connect()
            await client.send(f"GET /v1/pipelines/count/runs?count=1&hold=1 HTTP/1.1\n{STREAM}")
            for _ in range(3):
                await client.until(b"\r\n: ping\n\r\n")

    trio.run(main)


def test_a_stream_outlives_quarts_own_minute() -> None:
    """Here a hundredth of a second, after which Quart would end it without a word."""

    async def main() -> None:
        async with open_engine() as engine:
            app = create_app(engine, PIPELINES, Settings(heartbeat_s=0.01))
            app.config["RESPONSE_TIMEOUT"] = 0.01
            async with open_house(app, Settings()) as house:
                client = await house.connect()
                await client.send(f"GET /v1/pipelines/count/runs?hold=1 HTTP/1.1\n{STREAM}")
                for _ in range(5):
                    await client.until(b": ping\n")

    trio.run(main)


# --- a run that fails --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "status", "detail"),
    [
        ("model", 502, "the model says no"),
        ("late", 504, "step "),
        ("foreign", 500, "KeyError: its message is shown only to the server's owner"),
    ],
)
def test_a_failed_run_is_a_problem_that_names_the_step(how: str, status: int, detail: str) -> None:
    reply = posting("broken", {"how": how})
    assert reply.status == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json["step"] == "breaking"
    assert str(reply.json["detail"]).startswith(detail)
    assert "where" not in reply.json


@pytest.mark.parametrize("headers", [[], [STREAM]], ids=["json", "stream"])
def test_what_a_foreign_exception_says_is_logged_and_not_told(
    headers: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    reply = posting("broken", {"how": "foreign"}, *headers)
    assert b"cupboard" not in reply.body
    assert b".py" not in reply.body
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.name == "orchestra.server"
    assert record.message.endswith("of pipeline 'broken' failed")
    assert "cupboard" in caplog.text


@pytest.mark.parametrize("headers", [[], [STREAM]], ids=["json", "stream"])
def test_at_a_desk_it_is_told_with_its_line(headers: list[str]) -> None:
    reply = posting("broken", {"how": "foreign"}, *headers, settings=Settings(debug=True))
    assert b"cupboard" in reply.body
    assert b"served.py:" in reply.body


@pytest.mark.parametrize("headers", [[], [STREAM]], ids=["json", "stream"])
def test_what_callers_cannot_mend_is_one_line_in_the_log(
    headers: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A provider that refuses our key, say: whoever runs the server has to hear of it."""
    reply = posting("broken", {"how": "model"}, "X-Request-ID: r-1", *headers)
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("WARNING", None)
    assert record.message.endswith("of pipeline 'broken' failed: ModelError: the model says no")
    assert b"the model says no" in reply.body


def test_a_fault_of_ours_is_in_the_log_where_the_client_is_told_of_another_model(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert posting("broken", {"how": "key"}).status == 422
    (record,) = caplog.records
    assert "AuthenticationError: who?" in record.message


def test_a_line_about_a_run_has_the_id_of_its_request(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    monkeypatch.setattr(caplog.handler, "emit", lambda _: told.append(REQUEST_ID.get()))
    posting("broken", {"how": "foreign"}, "X-Request-ID: r-1")
    assert told == ["r-1"]


def test_what_callers_can_mend_is_told_to_them_only(caplog: pytest.LogCaptureFixture) -> None:
    assert posting("broken", {"how": "refused"}).status == 422
    assert not caplog.records


def test_a_run_that_nobody_follows_is_in_the_log_when_it_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with served() as (house, engine):
            head = "POST /v1/pipelines/broken/runs HTTP/1.1\nContent-Type: application/json"
            body = msgspec.json.encode({"inputs": {"how": "foreign"}})
            reply = await (await house.connect()).ask(f"{head}\nPrefer: respond-async", body)
            assert reply.status == 202
            await engine.wait_idle()

    trio.run(main)
    (record,) = caplog.records
    assert record.message.endswith("of pipeline 'broken' failed")
    assert "the key in the cupboard" in caplog.text


def test_a_failed_run_ends_its_stream_with_what_failed() -> None:
    messages = dispatched(posting("broken", {"how": "model"}, STREAM).body)
    assert [message.event for message in messages[-2:]] == ["step.failed", "run.failed"]
    assert data(messages[-1])["message"] == "the model says no"


# --- a client that leaves ----------------------------------------------------------------------


def close(client: Client) -> None:
    client.stream.socket.close()


def reset(client: Client) -> None:
    """As the kernel does for a process that is killed with bytes unread."""
    linger = struct.pack("ii", 1, 0)
    client.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    client.stream.socket.close()


async def leave_after(chunks: int, leave: Callable[[Client], None]) -> float:
    """Seconds from a client's departure behind this many chunks to the end of its run."""
    async with served() as (house, engine):
        client = await house.connect()
        head = f"GET /v1/pipelines/count/runs?count={chunks}&hold=true HTTP/1.1\n{STREAM}"
        await client.send(head)
        for number in range(chunks):
            await client.until(f'"{number} "'.encode())
        await client.until(b"\n")
        (run,) = engine.runs.values() or await first_run(engine)
        left_s = trio.current_time()
        leave(client)
        await engine.wait_idle()
        assert not run.journal._readers, "who has left holds nothing back"
        assert run.journal.kept[-1].type == "run.cancelled"
        assert run.journal.kept[-1].reason == "the client left"  # type: ignore[union-attr]
        return trio.current_time() - left_s


async def first_run(engine: Engine) -> list[Any]:
    """The runs, as soon as there is one."""
    while not engine.runs:  # noqa: ASYNC110 - another process does it
        await trio.lowlevel.checkpoint()
    return list(engine.runs.values())


def least(times: int, measure: Callable[[], Awaitable[float]]) -> float:
    """The shortest of a few: a busy machine says nothing about the code."""
    return min(trio.run(measure) for _ in range(times))


@pytest.mark.parametrize("leave", [close, reset])
@pytest.mark.parametrize("chunks", range(11))
def test_a_client_that_leaves_cancels_its_run_at_once(
    chunks: int, leave: Callable[[Client], None]
) -> None:
    """Behind every chunk of ten, and before the first."""
    assert least(5, partial(leave_after, chunks, leave)) < AT_ONCE_S


def test_a_client_that_leaves_before_its_answer_cancels_its_run_at_once() -> None:
    async def main() -> float:
        async with served() as (house, engine):
            client = await house.connect()
            await client.send("GET /v1/pipelines/count/runs?hold=true HTTP/1.1")
            await first_run(engine)
            left_s = trio.current_time()
            close(client)
            await engine.wait_idle()
            return trio.current_time() - left_s

    assert least(5, main) < AT_ONCE_S


def test_a_client_that_leaves_without_reading_cancels_its_run_at_once() -> None:
    """Its server is blocked in a send, which Hypercorn alone would not let go of."""

    async def main() -> float:
        async with served() as (house, engine):
            client = await house.connect()
            await client.send(f"GET /v1/pipelines/endless/runs HTTP/1.1\n{STREAM}")
            (run,) = await first_run(engine)
            await held_back(run)
            left_s = trio.current_time()
            close(client)
            await engine.wait_idle()
            return trio.current_time() - left_s

    assert least(5, main) < AT_ONCE_S


async def held_back(run: Any) -> int:
    """Wait until a run writes no more; the number of its last event."""
    await trio.testing.wait_all_tasks_blocked(0.05)
    return int(run.journal.seq)


def test_a_departure_behind_a_third_request_is_found_by_the_heartbeat() -> None:
    """The second waits for its turn, so the third is left to be read, and hides the end."""

    async def main() -> None:
        async with served(Settings(heartbeat_s=0.02)) as (house, engine):
            client = await house.connect()
            head = f"GET /v1/pipelines/count/runs?hold=true HTTP/1.1\n{STREAM}"
            for _ in range(3):
                await client.send(head)
                await trio.testing.wait_all_tasks_blocked()
            await first_run(engine)
            close(client)
            await engine.wait_idle()

    trio.run(main)


def test_an_open_stream_holds_no_request() -> None:
    """Neither its own task nor the tasks of its steps, which would inherit it."""

    def requests() -> list[object]:
        gc.collect()
        # By its type: to be asked for their class wakes what others import lazily, for seconds.
        return [each for each in gc.get_objects() if type(each) is DepartingRequest]

    async def main() -> list[object]:
        others = requests()  # which the report of an earlier test may hold
        async with served() as (house, _):
            client = await house.connect()
            await client.send(f"GET /v1/pipelines/count/runs?hold=true HTTP/1.1\n{STREAM}")
            await client.until(b'"9 "')
            return [each for each in requests() if not any(each is other for other in others)]

    assert trio.run(main) == []


def test_an_open_stream_holds_no_headers_of_its_request() -> None:
    async def main() -> list[str | None]:
        async with served() as (house, _):
            client = await house.connect()
            head = f"GET /v1/pipelines/count/runs?hold=true HTTP/1.1\nX-Request-Id: me\n{STREAM}"
            await client.send(head)
            await client.until(b'"9 "')
            arrived = [each for each in gc.get_objects() if type(each) is Arrival]
            of_client = [each for each in arrived if each.request_id == "me"]
            return [each.header(b"x-request-id") for each in of_client]

    assert trio.run(main) == [None]


# --- a client that reads slowly ----------------------------------------------------------------


def test_a_client_that_reads_slowly_slows_the_run_and_misses_nothing() -> None:
    """However many hearts would have beaten while its server was blocked in a send."""

    async def main() -> tuple[int, bytes]:
        async with served(Settings(heartbeat_s=0.01)) as (house, engine):
            client = await house.connect()
            await client.send(f"GET /v1/pipelines/endless/runs HTTP/1.1\n{STREAM}")
            (run,) = await first_run(engine)
            stopped_at = await held_back(run)
            await client.head()
            body = b""
            while body.count(b"\n\n") <= stopped_at + 1000:
                body += await client.chunk()
            assert run.journal.seq > stopped_at
            return stopped_at, body

    stopped_at, body = trio.run(main)
    ids = [int(message.id.rpartition(".")[2]) for message in dispatched(body)]
    assert ids == list(range(1, len(ids) + 1))
    assert len(ids) > stopped_at


# --- what is refused ---------------------------------------------------------------------------


def test_a_full_engine_refuses_with_when_to_come_back() -> None:
    async def main() -> Reply:
        async with served(limits=Limits(runs=1)) as (house, engine):
            first, second = await house.connect(), await house.connect()
            await first.send(f"GET /v1/pipelines/count/runs?hold=true HTTP/1.1\n{STREAM}")
            await first_run(engine)
            return await second.ask("GET /v1/pipelines/count/runs HTTP/1.1")

    reply = trio.run(main)
    assert reply.status == 503
    assert reply.headers["retry-after"] == "1"
    assert reply.json["detail"] == "this server allows no more runs at once; try again"


def test_an_event_source_that_comes_back_is_sent_away_and_starts_no_run() -> None:
    """It reconnects when a stream has ended; only a 204 makes it stop, else it pays twice."""

    async def main() -> tuple[int, int]:
        async with served() as (house, engine):
            client = await house.connect()
            head = f"GET /v1/pipelines/count/runs?hold=true HTTP/1.1\n{STREAM}\nLast-Event-ID: 14"
            await client.send(head)
            return (await client.head()).status, len(engine.runs)

    assert trio.run(main) == (204, 0)


def test_a_head_starts_no_run() -> None:
    async def main() -> Reply:
        async with served() as (house, _):
            client = await house.connect()
            await client.send("HEAD /v1/pipelines/count/runs HTTP/1.1")
            return await client.head()

    reply = trio.run(main)
    assert (reply.status, reply.headers["allow"]) == (405, "get, options, post")


def test_a_head_follows_no_run() -> None:
    async def main() -> Reply:
        async with served() as (house, _):
            client = await house.connect()
            await client.send("HEAD /v1/runs/0a1b/events HTTP/1.1")
            return await client.head()

    reply = trio.run(main)
    assert (reply.status, reply.headers["allow"]) == (405, "get, options")
