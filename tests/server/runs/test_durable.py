"""A key stands for its run whatever becomes of the run's start, and for none that did not start."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
import pytest
import trio

from orchestra.engine.engine import open_engine
from orchestra.graph.pipelines import pipeline
from orchestra.graph.rules.policy import Limits
from orchestra.graph.steps import step
from orchestra.server.app import create_app
from orchestra.server.settings import Settings
from tests.patience import PATIENCE_S
from tests.server.runs.test_resources import COUNT, HOLD, JSON, Served, in_background, serving
from tests.server.served import PIPELINES
from tests.server.wire import House, Reply, open_house

KEY = "Idempotency-Key: k"
INDEX = "run:index:"
"""What the keys begin with that are written with a start, and not with a claim."""


def test_a_run_whose_start_cannot_be_recorded_goes_on_for_its_key() -> None:
    async def main(one: Served, other: Served) -> None:
        one.cable.closed_to = INDEX
        begun = await in_background(one, HOLD, KEY)
        assert begun.status == 202
        one.cable.closed_to = None
        for each in (one, other):
            again = await in_background(each, HOLD, KEY)
            assert (again.status, again.json["id"]) == (202, begun.json["id"])
            assert again.json["status"] == "running"
        assert not other.engine.runs
        await one.ask(f"DELETE {begun.headers['location']}")

    serving(main)


@pytest.mark.parametrize("key", [KEY, ""])
def test_who_leaves_while_the_start_is_recorded_finds_the_run_by_its_key(key: str) -> None:
    """Without a key nobody would find it, and it is cancelled."""

    async def main(one: Served, other: Served) -> None:
        one.cable.closed_to, one.cable.opens = INDEX, trio.Event()
        head = f"POST /v1/pipelines/count/runs\nPrefer: respond-async\n{key}"
        client = await one.send(head, HOLD)
        with trio.fail_after(PATIENCE_S):
            while one.cable.waiting < 2:  # the client's request, and the recorder
                await trio.lowlevel.checkpoint()
            (run,) = one.engine.runs.values()
            await client.stream.aclose()
            while one.cable.waiting > 1:
                await trio.lowlevel.checkpoint()
            if not key:
                await run.wait_ended()
            one.cable.opens.set()
            again = await in_background(other, HOLD, KEY)
        assert (again.json["id"] == run.id) == bool(key)
        assert run.ended == (not key)
        await other.ask(f"DELETE {again.headers['location']}")

    serving(main)


RUNS = "POST /v1/pipelines/count/runs HTTP/1.1"


@attrs.frozen
class Seat:
    """A place whose number has another name inside."""

    _number: int


@step
async def numbered(seat: Seat) -> str:
    return f"seat {seat._number}"


@pipeline
def seated(seat: Seat) -> str:
    """Which seat it is."""
    return numbered(seat)


def alone(main: Callable[[Callable[..., Awaitable[Reply]]], Awaitable[None]]) -> None:
    """A server with a state of its own, with room for one run."""

    async def serve() -> None:
        async with open_engine(limits=Limits(runs=1)) as engine:
            app = create_app(engine, {**PIPELINES, "seated": seated})
            async with open_house(app.asgi_app, Settings()) as house:
                await main(partial_ask(house))

    trio.run(serve)


def partial_ask(house: House) -> Callable[..., Awaitable[Reply]]:
    async def ask(what: str, body: bytes = b"", *headers: str) -> Reply:
        client = await house.connect()
        return await client.ask("\n".join([what, JSON, *headers]), body)

    return ask


def test_a_key_whose_run_did_not_start_can_be_sent_again_at_once() -> None:
    async def main(ask: Callable[..., Awaitable[Reply]]) -> None:
        held = await ask(RUNS, HOLD, "Prefer: respond-async")
        for _ in range(2):
            full = await ask(RUNS, COUNT, KEY)
            assert (full.status, full.json["title"]) == (503, "The server is full.")
        await ask(f"DELETE {held.headers['location']} HTTP/1.1")
        assert (await ask(RUNS, COUNT, KEY, "Last-Event-ID: 7")).status == 400
        found = await ask(RUNS, COUNT, KEY)
        assert found.status == 200
        assert "idempotent-replayed" not in found.headers

    alone(main)


def test_a_key_belongs_to_what_was_sent_and_not_to_how_it_is_written() -> None:
    """Also where a class has another name for it."""

    async def main(ask: Callable[..., Awaitable[Reply]]) -> None:
        at = "POST /v1/pipelines/seated/runs HTTP/1.1"
        first = await ask(at, b'{"inputs": {"seat": {"number": 1}}}', KEY)
        assert first.json["result"] == "seat 1"
        same = await ask(at, b'{ "inputs":{"seat":{"number":1}} }', KEY)
        assert (same.status, same.headers["idempotent-replayed"]) == (200, "true")
        other = await ask(at, b'{"inputs": {"seat": {"number": 2}}}', KEY)
        assert other.status == 422
        assert "was sent with a different request" in str(other.json["detail"])

    alone(main)
