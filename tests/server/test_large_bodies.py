"""What clients may ask at most keeps nobody else waiting: no step of the loop is as long."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import pytest
import trio

from orchestra.computed import LARGE_BYTES, computed
from orchestra.engine.engine import open_engine
from orchestra.graph.pipelines import Pipeline, pipeline
from orchestra.graph.steps import step
from orchestra.server.app import create_app
from orchestra.server.settings import USUAL_SETTINGS
from orchestra.testing.world import ScriptedModel, World
from tests.loop_steps import Steps, counted_steps
from tests.patience import PATIENCE_S
from tests.server.socketing import open_socket
from tests.server.wire import open_house

SPARE_BYTES = 100
CALLS_MAX = 60_000
"""Reading a body takes three calls for each message and more; a look at each takes one."""


@step
async def counted(of: list[list[int]]) -> int:
    return len(of)


@pipeline
def count(of: list[list[int]]) -> int:
    """How many there are."""
    return counted(of)


BUSY, OVER = threading.Event(), threading.Event()


@dataclasses.dataclass
class Slow:
    text: str

    def __post_init__(self) -> None:
        BUSY.set()
        OVER.wait()


@step
async def length(of: Slow) -> int:
    return len(of.text)


@pipeline
def slow(of: Slow) -> int:
    """What takes long to make."""
    return length(of)


PIPELINES: dict[str, Pipeline[..., Any]] = {"count": count, "slow": slow}
PIPELINES |= {f"count-{number}": count for number in range(150)}


def filled(given: Mapping[str, Any], name: str, item: object) -> bytes:
    """A body as large as one may be, of one item again and again."""
    room = (
        USUAL_SETTINGS.body_limit_bytes
        - SPARE_BYTES
        - len(msgspec.json.encode({**given, name: []}))
    )
    times = room // (len(msgspec.json.encode(item)) + 1)
    return msgspec.json.encode({**given, name: [item] * times})


USER: dict[str, Any] = {"role": "user", "content": ""}
CALL: dict[str, Any] = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "a"}
HEAD = "POST {} HTTP/1.1\nContent-Type: application/json"
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
TOOL = {"type": "function", "function": {"name": "f"}}
RESULTS = [{"role": "assistant", "content": [CALL]}, {"role": "user", "content": [RESULT] * 20_000}]


def largest(case: str) -> tuple[str, bytes]:
    """A path, and what may be sent there."""
    match case:
        case "messages":
            return CHAT, filled({"model": "m"}, "messages", USER)
        case "tools":
            return CHAT, filled({"model": "m", "messages": [USER]}, "tools", TOOL)
        case "items":
            return "/v1/responses", filled({"model": "m", "store": False}, "input", USER)
        case "turns":
            return MESSAGES, filled({"model": "m", "max_tokens": 9}, "messages", USER)
        case "results":
            asked = {"model": "m", "max_tokens": 9, "messages": RESULTS}
            return MESSAGES, msgspec.json.encode(asked)
        case _:
            return "/v1/pipelines/count/runs", b'{"inputs":%s}' % filled({}, "of", [])


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """Requests are served by code that others have imported: the first takes more calls."""
    small: dict[str, Any] = {"model": "m", "messages": [USER], "max_tokens": 9}
    for path, body in (
        (CHAT, small),
        (MESSAGES, small),
        ("/v1/responses", {"model": "m", "store": False, "input": [USER]}),
        ("/v1/pipelines/count/runs", {"inputs": {"of": []}}),
    ):
        assert trio.run(asked, path, msgspec.json.encode(body))[0] == 200


@pytest.mark.parametrize("case", ["messages", "tools", "items", "turns", "results", "inputs"])
def test_no_step_of_the_loop_reads_all_that_a_client_may_send(case: str) -> None:
    status, steps = trio.run(asked, *largest(case))
    assert status == 200
    assert steps.longest < CALLS_MAX


def test_only_the_route_of_runs_reads_a_form() -> None:
    """A form may have 32 MiB, which the other routes would read as one piece of JSON."""

    async def main() -> dict[str, int]:
        found = {}
        async with open_engine(World()) as engine:
            app = create_app(engine, PIPELINES, USUAL_SETTINGS)
            rules = [each for each in app.url_map.iter_rules() if "POST" in (each.methods or ())]
            async with open_house(app, USUAL_SETTINGS) as house:
                for path in {re.sub("<.*?>", "count", each.rule) for each in rules}:
                    client = await house.connect()
                    head = f"POST {path} HTTP/1.1\nContent-Type: multipart/form-data; boundary=x"
                    found[path] = (await client.ask(head, b'{"metadata": {}}')).status
        return found

    found = trio.run(main)
    assert found.pop("/v1/pipelines/count/runs") == 400, "its form is wrong"
    assert {CHAT, MESSAGES, f"{CHAT}/count", "/v1/responses"} <= found.keys()
    assert set(found.values()) == {415}


def test_no_step_of_the_loop_reads_a_large_message_of_a_socket() -> None:
    async def main() -> Steps:
        async with open_engine(World()) as engine:
            app = create_app(engine, PIPELINES, USUAL_SETTINGS)
            async with open_house(app, USUAL_SETTINGS) as house:
                socket = await open_socket(house, "/v1/pipelines/count/ws")
                with counted_steps() as steps:
                    of: list[list[int]] = [[]] * 300_000
                    await socket.start("a", of=of)
                    events = await socket.events("a")
        assert events[-1]["result"] == 300_000
        return steps

    assert trio.run(main).longest < CALLS_MAX


@asynccontextmanager
async def others_at_work() -> AsyncIterator[None]:
    """All large work waits for its turn; what is small has to be done all the same."""
    busy, over = threading.Barrier(3), threading.Event()

    def occupied() -> None:
        busy.wait()
        over.wait()

    async with trio.open_nursery() as nursery:
        for pipeline_code in (False, True):
            nursery.start_soon(partial(computed, occupied, large=True, pipeline_code=pipeline_code))
        await trio.to_thread.run_sync(busy.wait)
        try:
            with trio.fail_after(PATIENCE_S):
                yield
        finally:
            over.set()


def test_a_socket_is_heard_while_large_work_waits_for_its_turn() -> None:
    """So a departure is, too, which would come behind such a message."""

    async def main() -> None:
        async with open_engine(World()) as engine:
            app = create_app(engine, PIPELINES, USUAL_SETTINGS)
            async with open_house(app, USUAL_SETTINGS) as house:
                socket = await open_socket(house, "/v1/pipelines/count/ws")
                async with others_at_work():
                    await socket.start("large", of=[[]] * LARGE_BYTES)
                    await socket.start("small", of=[])
                    await socket.events("small")

    trio.run(main)


def test_a_short_conversation_goes_on_while_large_work_waits_for_its_turn() -> None:
    async def main() -> None:
        async with open_engine(World(models={"m": ScriptedModel.saying("yes")})) as engine:
            app = create_app(engine, PIPELINES, USUAL_SETTINGS)
            async with open_house(app, USUAL_SETTINGS) as house:
                client, asks = await house.connect(), {"model": "m", "input": "Well?"}
                head = HEAD.format("/v1/responses")
                first = await client.ask(head, msgspec.json.encode(asks))
                asks["previous_response_id"] = msgspec.json.decode(first.body)["id"]
                async with others_at_work():
                    second = await client.ask(head, msgspec.json.encode(asks))
        assert second.status == 200

    trio.run(main)


def test_a_large_conversation_does_not_wait_for_a_slow_class_of_a_pipeline() -> None:
    async def main() -> None:
        BUSY.clear()
        OVER.clear()
        async with open_engine(World(models={"m": ScriptedModel.saying("yes")})) as engine:
            app = create_app(engine, PIPELINES, USUAL_SETTINGS)
            async with open_house(app, USUAL_SETTINGS) as house, trio.open_nursery() as nursery:
                waits, asks = await house.connect(), await house.connect()
                text = "x" * LARGE_BYTES
                taken = msgspec.json.encode({"inputs": {"of": {"text": text}}})
                nursery.start_soon(waits.ask, HEAD.format("/v1/pipelines/slow/runs"), taken)
                await trio.to_thread.run_sync(BUSY.wait)
                try:
                    with trio.fail_after(PATIENCE_S):
                        turn = {**USER, "content": text}
                        body = msgspec.json.encode({"model": "m", "messages": [turn]})
                        reply = await asks.ask(HEAD.format(CHAT), body)
                finally:
                    OVER.set()
        assert reply.status == 200

    trio.run(main)


def test_no_step_of_the_loop_writes_the_description_of_many_pipelines() -> None:
    status, steps = trio.run(asked, "/openapi.json", b"")
    assert status == 200
    assert steps.longest < CALLS_MAX


def test_a_description_that_was_written_waits_for_no_turn() -> None:
    """Whoever asks for it again and again keeps no large conversation waiting."""

    async def main() -> None:
        async with open_engine(World()) as engine:
            app = create_app(engine, PIPELINES, USUAL_SETTINGS)
            async with open_house(app, USUAL_SETTINGS) as house:
                client = await house.connect()
                first = await client.ask("GET /openapi.json HTTP/1.1")
                async with others_at_work():
                    again = await client.ask("GET /openapi.json HTTP/1.1")
        assert again.body == first.body

    trio.run(main)


async def asked(path: str, body: bytes) -> tuple[int, Steps]:
    """The status of the answer, and the steps that it took."""
    async with open_engine(World(models={"m": ScriptedModel.saying("yes")})) as engine:
        app = create_app(engine, PIPELINES, USUAL_SETTINGS)
        async with open_house(app, USUAL_SETTINGS) as house:
            client = await house.connect()
            with counted_steps() as steps:
                method = "POST" if body else "GET"
                head = f"{method} {path} HTTP/1.1\nContent-Type: application/json"
                reply = await client.ask(head, body)
    return reply.status, steps
