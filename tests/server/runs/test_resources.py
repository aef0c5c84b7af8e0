"""Runs as resources over HTTP, through either of two servers that share a state."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs
import msgspec
import pytest
import trio

from orchestra.access.principal import Principal, Scopes
from orchestra.accounts import Caller
from orchestra.engine.engine import Engine, open_engine
from orchestra.graph.rules.policy import Limits
from orchestra.runs.local import CONTINUE
from orchestra.runs.record import LOST_SEQ
from orchestra.runs.registry import Registry
from orchestra.runs.settings import RunsSettings
from orchestra.server.app import create_app
from orchestra.server.front.layers import Admission
from orchestra.server.runs.registries import open_runs
from orchestra.server.settings import Settings
from orchestra.stores.state.memory import MemoryState
from tests.patience import PATIENCE_S
from tests.runs.processes import REAL, Cable
from tests.server.served import PIPELINES
from tests.server.test_sse import Message, dispatched
from tests.server.wire import Client, House, Reply, open_house

STREAM = "Accept: text/event-stream"
JSON = "Content-Type: application/json"
COUNT = b'{"inputs": {"count": 3}}'
HOLD = b'{"inputs": {"count": 3, "hold": true}}'
PEOPLE = {
    "ann": Caller("acme", "ann", "k1"),
    "bob": Caller("acme", "bob", "k2"),
    "eve": Caller("other", "eve", "k3"),
    "dan": Caller("acme", "dan", "k4"),
}


class Keys:
    """A keyring whose keys are names."""

    async def authenticate(self, token: str) -> Principal:
        pipelines = frozenset({"told"} if token == "dan" else {"*"})
        return Principal(PEOPLE[token], Scopes(pipelines, frozenset()))


@attrs.frozen
class Served:
    """One of the servers."""

    house: House
    engine: Engine
    registry: Registry
    cable: Cable

    async def ask(self, head: str, body: bytes = b"", *, who: str = "ann") -> Reply:
        first, _, rest = head.partition("\n")
        lines = [f"{first} HTTP/1.1", f"Authorization: Bearer {who}", *rest.split("\n")]
        lines += [JSON] if body else []
        return await (await self.house.connect()).ask("\n".join(filter(None, lines)), body)

    async def send(self, head: str, body: bytes = b"") -> Client:
        client = await self.house.connect()
        first, _, rest = head.partition("\n")
        lines = [f"{first} HTTP/1.1", "Authorization: Bearer ann", *rest.split("\n")]
        await client.send("\n".join([*filter(None, lines), *([JSON] if body else [])]), body)
        return client


@asynccontextmanager
async def served(
    state: MemoryState, runs: RunsSettings, linger_s: float, limits: Limits
) -> AsyncIterator[Served]:
    settings = Settings(runs=runs, linger_s_of={"count": linger_s})
    cable = Cable(state)
    async with (
        open_runs(cable, settings, shared=True) as registry,
        open_engine(limits=limits) as engine,
    ):
        admission = Admission(keyring=Keys())  # type: ignore[arg-type]
        app = create_app(engine, PIPELINES, settings, admission, registry=registry)
        async with open_house(app.asgi_app, settings) as house:
            yield Served(house, engine, registry, cable)


def serving(
    main: Callable[[Served, Served], Awaitable[None]],
    *,
    runs: RunsSettings = REAL,
    linger_s: float = CONTINUE,
    limits: Limits | None = None,
) -> None:
    """Two servers, for as long as `main` takes."""

    async def both() -> None:
        state = MemoryState()
        async with AsyncExitStack() as stack:
            servers = [
                await stack.enter_async_context(served(state, runs, linger_s, limits or Limits()))
                for _ in range(2)
            ]
            await main(servers[0], servers[1])

    trio.run(both)


async def in_background(one: Served, body: bytes, *headers: str, who: str = "ann") -> Reply:
    head = ["POST /v1/pipelines/count/runs", "Prefer: respond-async", *headers]
    return await one.ask("\n".join(head), body, who=who)


async def looked_at(one: Served, location: str, times: int = 10) -> None:
    """Let some time pass, in which everything can happen that is about to."""
    for _ in range(times):
        await one.ask(f"GET {location}")


async def ended(one: Served, location: str) -> dict[str, Any]:
    """The run, once it has ended."""
    with trio.fail_after(PATIENCE_S):
        while True:
            view = (await one.ask(f"GET {location}")).json
            if view["status"] != "running":
                return view


def test_a_run_in_the_background_is_accepted_and_then_had_from_any_server() -> None:
    async def main(one: Served, other: Served) -> None:
        reply = await in_background(one, COUNT)
        assert reply.status == 202
        assert reply.headers["preference-applied"] == "respond-async"
        location = reply.headers["location"]
        assert location == f"/v1/runs/{reply.json['id']}"
        assert reply.json["links"] == {"self": location, "events": f"{location}/events"}
        for each in (one, other):
            view = await ended(each, location)
            assert (view["status"], view["result"]) == ("finished", "0 1 2 ")
            assert (view["pipeline"], view["user"]) == ("count", "ann")
            assert view["request_id"] == reply.headers["x-request-id"]
            accepts = f"Accept: text/html\n{STREAM}"
            events = dispatched((await each.ask(f"GET {location}/events\n{accepts}")).body)
            assert [event.id for event in events] == list("1234567")
            of_request = {json.loads(event.data)["request_id"] for event in events}
            assert of_request == {reply.headers["x-request-id"]}
            rest = dispatched((await each.ask(f"GET {location}/events?after=4")).body)
            assert rest == events[4:]
            again = await each.ask(f"GET {location}/events?after=4\nLast-Event-ID: 6")
            assert dispatched(again.body) == events[6:]
            assert (await each.ask(f"GET {location}/events\nLast-Event-ID: 7")).status == 204

    serving(main)


def test_a_run_is_followed_live_through_the_other_server_and_cancelled_there() -> None:
    async def main(one: Served, other: Served) -> None:
        location = (await in_background(one, HOLD)).headers["location"]
        client = await other.send(f"GET {location}/events\n{STREAM}")
        await client.until(b'"2 "')
        for status in ("cancelled", "cancelled"):  # again changes nothing
            reply = await other.ask(f"DELETE {location}")
            assert (reply.status, reply.json["status"]) == (200, status)
            assert reply.json["reason"] == "the client cancelled it"
        assert b"event: run.cancelled" in await client.until(b"\r\n0\r\n\r\n")
        assert not one.engine.runs

    serving(main)


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_a_key_that_is_sent_again_is_answered_with_the_same_run(accept: str) -> None:
    head = f"POST /v1/pipelines/count/runs\nAccept: {accept}\nIdempotency-Key: once"

    async def main(one: Served, other: Served) -> None:
        first = await one.ask(head, COUNT)
        assert "idempotent-replayed" not in first.headers
        for each in (one, other):
            again = await each.ask(head, COUNT)
            assert (again.status, again.headers["idempotent-replayed"]) == (200, "true")
            assert again.body == first.body or dispatched(again.body) == dispatched(first.body)
            refused = await each.ask(head, HOLD)
            assert (refused.status, refused.json["title"]) == (
                422,
                "The key stands for another run.",
            )
        theirs = await one.ask(head, COUNT, who="eve")
        assert "idempotent-replayed" not in theirs.headers
        for wrong in (head.replace("once", "é"), f"{head}\nIdempotency-Key: twice"):
            assert (await one.ask(wrong, COUNT)).status == 400

    serving(main)


def test_a_key_of_a_run_that_goes_on_follows_it_wherever_it_is() -> None:
    async def main(one: Served, other: Served) -> None:
        begun = await in_background(one, HOLD, "Idempotency-Key: k")
        again = await in_background(other, HOLD, "Idempotency-Key: k")
        assert (again.status, again.json["id"]) == (202, begun.json["id"])
        answers: list[Reply] = []

        async def wait(each: Served) -> None:
            head = "POST /v1/pipelines/count/runs\nIdempotency-Key: k"
            answers.append(await each.ask(head, HOLD))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, one)
            nursery.start_soon(wait, other)
            run = one.engine.runs[str(begun.json["id"])]
            while len(run.journal._readers) < 1:
                await looked_at(other, begun.headers["location"], 1)
            await other.ask(f"DELETE {begun.headers['location']}")
        assert {reply.status for reply in answers} == {503}
        assert {reply.json["run_id"] for reply in answers} == {begun.json["id"]}
        assert len(one.engine.runs) == len(other.engine.runs) == 0

    serving(main)


async def written(one: Served, other: Served) -> None:
    """Until others know that the one run here has begun."""
    while True:
        for run_id in one.engine.runs:
            record = await other.registry._archive.record(run_id)
            if record is not None and record.begun:
                return
        await trio.lowlevel.checkpoint()


STREAMED = "text/event-stream"


@pytest.mark.parametrize("accept", ["application/json", STREAMED])
def test_a_key_whose_process_dies_in_any_moment_starts_no_second_run(accept: str) -> None:
    """Its record was written before the first byte, and is not waited for by others."""

    async def main(one: Served, other: Served) -> None:
        key = f"POST /v1/pipelines/count/runs\nAccept: {accept}\nIdempotency-Key: k"
        client = await one.send(key, HOLD)
        if accept == STREAMED:
            await client.until(b"\r\n\r\n")
        else:  # there is no byte of the answer to wait for
            await written(one, other)
        (run_id,) = one.engine.runs
        one.cable.cut = True
        with trio.fail_after(PATIENCE_S):
            again = await other.ask(key.replace(accept, "application/json"), HOLD)
        assert again.headers["idempotent-replayed"] == "true"
        assert (again.status, again.json["run_id"]) == (500, run_id)
        assert again.json["error"] == "RunLostError"
        assert not other.engine.runs

    serving(main, runs=attrs.evolve(REAL, batch_s=60.0))


def test_a_run_that_has_begun_goes_on_also_where_that_cannot_be_written_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main(one: Served, other: Served) -> None:
        one.cable.closed_to = "run:index:"
        key = "POST /v1/pipelines/count/runs\nIdempotency-Key: k"
        first = await one.ask(key, COUNT)
        assert first.status == 200
        one.cable.closed_to = None
        assert (await other.ask(key, COUNT)).body == first.body

    serving(main)
    assert "a run goes on, and is recorded later: " in caplog.text


def test_a_run_that_could_not_start_gives_its_key_back() -> None:
    async def main(one: Served, other: Served) -> None:
        location = (await in_background(one, HOLD)).headers["location"]
        for wish in ("", "Prefer: respond-async"):
            head = f"POST /v1/pipelines/count/runs\nIdempotency-Key: k\n{wish}"
            refused = await one.ask(head, COUNT)
            assert (refused.status, refused.json["title"]) == (503, "The server is full.")
        await one.ask(f"DELETE {location}")
        reply = await other.ask("POST /v1/pipelines/count/runs\nIdempotency-Key: k", COUNT)
        assert reply.status == 200

    serving(main, limits=Limits(runs=1))


@pytest.mark.parametrize("wish", ["", "Prefer: respond-async"])
def test_a_key_is_given_back_whatever_the_reason_why_there_is_no_run(wish: str) -> None:
    """As with an engine that closes in the moment in which the key was claimed."""

    async def main(one: Served, other: Served) -> None:
        one.engine.close()
        head = f"POST /v1/pipelines/count/runs\nIdempotency-Key: k\n{wish}"
        assert (await one.ask(head, COUNT)).status == 500
        with trio.fail_after(PATIENCE_S):
            assert (await other.ask(head, COUNT)).status in {200, 202}

    serving(main)


def test_nobody_else_is_told_that_there_is_a_run() -> None:
    async def main(one: Served, other: Served) -> None:
        location = (await in_background(one, HOLD)).headers["location"]
        unknown = "/v1/runs/" + "0" * 32
        for who in ("eve", "dan"):  # another organisation; and a scope without the pipeline
            for head in (f"GET {location}", f"GET {location}/events", f"DELETE {location}"):
                for each in (one, other):
                    reply = await each.ask(head, who=who)
                    same = await each.ask(head.replace(location, unknown), who=who)
                    assert reply.status == same.status == 404
                    assert reply.json["title"] == same.json["title"]
            assert (await one.ask("GET /v1/runs", who=who)).json["runs"] == []
            resumed = f"GET /v1/pipelines/count/runs\nLast-Event-ID: {location[9:]}.1"
            assert (await one.ask(resumed, who=who)).status in (403, 404)
            posted = resumed.replace("GET", "POST")
            assert (await one.ask(posted, HOLD, who=who)).status in (403, 404)
        assert (await other.ask(f"GET {location}", who="bob")).json["status"] == "running"
        assert (await other.ask(f"DELETE {location}", who="bob")).status == 200
        for wrong in ("x", "0" * 31, "%00" * 8, "é"):
            assert (await one.ask(f"GET /v1/runs/{wrong}")).status in (400, 404)

    serving(main)


def test_the_list_is_had_page_by_page_from_any_server() -> None:
    async def main(one: Served, other: Served) -> None:
        ids = [(await in_background(each, COUNT)).json["id"] for each in (one, other) * 2]
        held = (await in_background(one, HOLD)).json["id"]
        for run_id in ids:
            await ended(one, f"/v1/runs/{run_id}")
        found: list[object] = []
        query, page = "limit=2", dict[str, Any]()
        for each in (one, other, one):
            page = dict[str, Any]((await each.ask(f"GET /v1/runs?{query}", who="bob")).json)
            found += [run["id"] for run in page["runs"]]
            query = f"limit=2&cursor={page['next_cursor']}"
        assert found == [held, *reversed(ids)]
        assert page["next_cursor"] is None
        running: dict[str, Any] = (
            await other.ask("GET /v1/runs?status=running&pipeline=count")
        ).json
        assert [run["id"] for run in running["runs"]] == [held]
        assert (await other.ask("GET /v1/runs?pipeline=told")).json["runs"] == []
        assert (await other.ask("GET /v1/runs?limit=0&status=x")).status == 422

    serving(main)


async def first_events(one: Served) -> tuple[Client, list[Message]]:
    """A browser at the address of a start, which has got all but the end."""
    client = await one.send(f"GET /v1/pipelines/count/runs?count=3&hold=true\n{STREAM}")
    await client.head()
    body = b""
    while b'"2 "' not in body:
        body += await client.chunk()
    return client, dispatched(body)


def test_a_browser_whose_line_broke_resumes_its_very_run_on_any_server() -> None:
    async def main(one: Served, other: Served) -> None:
        client, events = await first_events(one)
        run_id, _, seq = events[-1].id.partition(".")
        await client.stream.aclose()
        while (await other.ask(f"GET /v1/runs/{run_id}")).status == 404:
            pass
        again = f"GET /v1/pipelines/count/runs?count=3&hold=true\n{STREAM}\nLast-Event-ID: "
        back = await other.send(again + f"{run_id}.2")
        seen = await back.until(b'"2 "')
        assert f"id: {run_id}.3\n".encode() in seen
        assert f"id: {run_id}.2\n".encode() not in seen
        await one.ask(f"DELETE /v1/runs/{run_id}")
        seen = await back.until(b"event: run.cancelled")
        end = f"{run_id}.{int(seq) + 2}"
        for each in (one, other):
            assert (await each.ask(again + end)).status == 204
            assert (await each.ask(again + "7")).status == 204
        wrong = f"GET /v1/pipelines/told/runs?question=x\nLast-Event-ID: {run_id}.2"
        assert (await one.ask(wrong)).status == 404

    serving(main, linger_s=5.0)


async def posted(one: Served, *headers: str) -> tuple[Client, list[Message]]:
    """A client that has posted for a stream, and got all of it but the end."""
    head = ["POST /v1/pipelines/count/runs", STREAM, *headers]
    client = await one.send("\n".join(head), HOLD)
    await client.head()
    body = b""
    while b'"2 "' not in body:
        body += await client.chunk()
    return client, dispatched(body)


@pytest.mark.parametrize("key", ["", "Idempotency-Key: k"])
@pytest.mark.parametrize("bare", [False, True])
def test_who_posts_again_with_the_last_event_has_the_rest_and_starts_nothing(
    *, key: str, bare: bool
) -> None:
    """As clients of `fetch` do that reconnect: they send the same request again."""

    async def main(one: Served, other: Served) -> None:
        client, events = await posted(one, key)
        (run_id,) = one.engine.runs
        assert [each.id for each in events] == [f"{run_id}.{i}" for i in range(1, len(events) + 1)]
        await client.stream.aclose()
        while (await other.ask(f"GET /v1/runs/{run_id}")).status == 404:
            pass
        given = "2" if bare else f"{run_id}.2"
        again = "\n".join(["POST /v1/pipelines/count/runs", STREAM, key, f"Last-Event-ID: {given}"])
        back = await other.send(again, HOLD)
        if bare and not key:
            refused = await back.reply()
            assert (refused.status, refused.json["title"]) == (400, "There is no such event.")
        else:
            await one.ask(f"DELETE /v1/runs/{run_id}")
            rest = dispatched((await back.reply()).body)
            assert rest[: len(events) - 2] == events[2:]
            assert rest[-1].event == "run.cancelled"
            ended = await one.ask(again.replace(f"{given}", rest[-1].id), HOLD)
            assert (ended.status, ended.body) == (200, b""), "a 204 is an error to them"
        assert not other.engine.runs
        assert set(one.engine.runs) <= {run_id}

    serving(main, linger_s=5.0)


def test_who_was_told_that_a_run_is_lost_hears_nothing_else_of_it_also_where_it_goes_on() -> None:
    """Its process only stood still, and an `EventSource` happens to come back to that very one."""

    async def main(one: Served, other: Served) -> None:
        client, events = await posted(one)
        run_id = events[-1].id.partition(".")[0]
        seen = f"Last-Event-ID: {run_id}.{LOST_SEQ}"
        for each in (one, other):
            again = await each.ask(f"GET /v1/pipelines/count/runs?count=3\n{STREAM}\n{seen}")
            assert again.status == 204
            again = await each.ask(f"POST /v1/pipelines/count/runs\n{STREAM}\n{seen}", HOLD)
            assert (again.status, again.body) == (200, b"")
            assert (await each.ask(f"GET /v1/runs/{run_id}/events\n{seen}")).status == 204
        await one.ask(f"DELETE /v1/runs/{run_id}")
        await client.stream.aclose()

    serving(main)


def test_a_key_that_stands_for_no_such_run_starts_none_for_who_comes_back() -> None:
    async def main(one: Served, other: Served) -> None:
        head = f"POST /v1/pipelines/count/runs\n{STREAM}\nIdempotency-Key: k\nLast-Event-ID: "
        for given in ("4", "0" * 32 + ".4", "x"):
            for each in (one, other):
                refused = await each.ask(head + given, COUNT)
                assert (refused.status, refused.json["title"]) == (400, "There is no such event.")
                assert not each.engine.runs
        none = await one.ask(head, COUNT)  # an empty header names none
        assert none.status == 200
        assert "idempotent-replayed" not in none.headers, "the key was given back"
        assert (await one.ask("GET /v1/runs")).json["runs"][0]["status"] == "finished"  # type: ignore[index]
        for given in ("x", "0" * 32 + ".4"):
            assert (await other.ask(head + given, COUNT)).status == 400
        assert (await other.ask(head + "4", HOLD)).status == 422
        rest = await other.ask(head + "4", COUNT)
        assert rest.headers["idempotent-replayed"] == "true"
        assert dispatched(rest.body) == dispatched(none.body)[4:]

    serving(main)


@pytest.mark.parametrize("lingers", [True, False])
def test_a_run_that_nobody_comes_back_to_is_cancelled_when_its_policy_says(
    *, lingers: bool
) -> None:
    async def main(one: Served, other: Served) -> None:
        client, events = await first_events(one)
        run_id = events[0].id.partition(".")[0]
        run = one.engine.runs[run_id]
        await client.stream.aclose()
        with trio.fail_after(PATIENCE_S):
            if not lingers:
                await looked_at(other, f"/v1/runs/{run_id}")
                assert not run.ended
                run.cancel("the test is over")
            await run.wait_ended()
        view = await ended(other, f"/v1/runs/{run_id}")
        assert view["reason"] == ("the client left" if lingers else "the test is over")

    serving(main, linger_s=0.05 if lingers else CONTINUE)


def test_where_the_state_is_away_nothing_is_started_that_has_to_be_known() -> None:
    async def main(one: Served, other: Served) -> None:
        location = (await in_background(other, HOLD)).headers["location"]
        one.cable.cut = True
        assert (await in_background(one, HOLD)).status == 503
        key = "POST /v1/pipelines/count/runs\nIdempotency-Key: k"
        assert (await one.ask(key, HOLD)).status == 503
        with trio.fail_after(PATIENCE_S):
            await one.engine.wait_idle()
        assert (await one.ask("POST /v1/pipelines/count/runs", COUNT)).status == 200
        for head in (f"GET {location}", f"GET {location}/events", "GET /v1/runs"):
            reply = await one.ask(head)
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")

    serving(main)


def test_what_is_kept_no_longer_is_said_to_be_gone() -> None:
    async def main(one: Served, other: Served) -> None:
        del other
        location = (await in_background(one, COUNT)).headers["location"]
        view = await ended(one, location)
        assert view["status"] == "finished"
        assert "result" not in view
        gone = await one.ask(f"GET {location}/events")
        assert (gone.status, gone.json["run_id"]) == (410, view["id"])
        key = "POST /v1/pipelines/count/runs\nIdempotency-Key: k"
        assert (await one.ask(key, COUNT)).status == 200
        await looked_at(one, location)
        assert (await one.ask(key, COUNT)).status == 410

    serving(main, runs=attrs.evolve(REAL, kept_bytes=20))


def test_events_are_a_stream_and_nothing_else() -> None:
    async def main(one: Served, other: Served) -> None:
        del other
        location = (await in_background(one, COUNT)).headers["location"]
        resumed = f"/v1/pipelines/count/runs\nLast-Event-ID: {location[9:]}.1"
        for where in (f"GET {location}/events", f"GET {resumed}", f"POST {resumed}"):
            assert (await one.ask(f"{where}\nAccept: application/json")).status == 406
        for wrong in ("x", "0" * 32 + ".3"):
            reply = await one.ask(f"GET {location}/events\nLast-Event-ID: {wrong}")
            assert reply.status == 400
        whole = await one.ask(f"GET {location}/events")
        for none in (f"GET {location}/events?after=", f"GET {location}/events\nLast-Event-ID: "):
            assert (await one.ask(none)).body == whole.body, "whoever has no event says so"
        failed = await one.ask(
            "POST /v1/pipelines/broken/runs\nPrefer: respond-async",
            msgspec.json.encode({"inputs": {"how": "foreign"}}),
        )
        view = await ended(one, failed.headers["location"])
        assert view["error"] == {
            "type": "KeyError",
            "message": "its message is shown only to the server's owner",
        }

    serving(main)
