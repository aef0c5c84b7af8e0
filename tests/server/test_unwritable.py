"""What a step gives may be anything: it is written down somehow, and the server goes on."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from datetime import date
from typing import Any

import msgspec
import pytest
import trio
from pydantic import BaseModel, Field

from orchestra.engine.engine import open_engine
from orchestra.errors import ModelError
from orchestra.event_lines import encode, written
from orchestra.events import Delta, RunFinished
from orchestra.graph.pipelines import Pipeline, pipeline
from orchestra.graph.steps import step
from orchestra.protocols import Stream
from orchestra.server.app import create_app
from orchestra.server.connections.hardening import mend_hypercorn
from orchestra.server.settings import Settings
from tests.server.wire import open_house

RUN_ID = re.compile(r'"run_id":"(\w+)"')


class Shy:
    """A value that does not say what it is."""

    def __repr__(self) -> str:
        raise RuntimeError("it is nobody's business")


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


ODD: Mapping[str, object] = {
    "shy": Shy(),
    "inside": {"a": [Shy()]},
    "huge": 10**5000,
    "deep": nested(1_000_000),
    "half": "a\ud800",
    "halves": {"a\udfff": float("nan")},
}


class Invoice(BaseModel):
    number: int = Field(serialization_alias="no")
    due: date


INVOICE = Invoice(number=7, due=date(2026, 11, 30))


def test_a_pydantic_model_is_written_as_it_writes_itself_also_inside_a_value() -> None:
    plain = {"no": 7, "due": "2026-11-30"}
    assert json.loads(written({"all": [INVOICE]})) == {"all": [plain]}
    told = json.loads(encode(RunFinished(1, 0.0, INVOICE, {}, None, cut=False)))
    assert told["result"] == plain
    assert json.loads(written(Invoice)) == repr(Invoice)


@step
async def giving(what: str) -> AsyncIterator[object]:
    yield ODD[what]


@step
async def given_whole(what: str) -> object:
    return ODD[what]


@step
async def failing() -> str:
    raise ModelError("half a \ud800")


@pipeline
def broken() -> str:
    """Fail, and say half a character."""
    return failing()


@pipeline
def whole(what: str) -> object:
    """What is odd, whole."""
    return given_whole(what)


@pipeline
def streamed(what: str) -> Stream[object]:
    """What is odd, as a chunk."""
    return giving(what)


@pytest.mark.parametrize("what", ODD)
def test_any_value_is_one_line_of_json(what: str) -> None:
    """In an event, too, whose other fields are what they were."""
    value = ODD[what]
    line = encode(Delta(3, 0.5, value))
    assert b"\n" not in line
    assert json.loads(msgspec.json.encode({"a": msgspec.Raw(written(value))}))
    head = line.partition(b',"chunk":')[0] + b"}"
    assert msgspec.json.decode(head) == {"type": "delta", "seq": 3, "at_s": 0.5}


def test_what_can_be_written_is_written_as_it_is() -> None:
    value = {"a": [1, "b", None, 2.5]}
    assert msgspec.json.decode(written(value)) == value
    assert msgspec.json.decode(encode(RunFinished(1, 0.0, value, {})))["result"] == value
    assert b'"a\\ud800"' in written("a\ud800")


def test_a_server_goes_on_whatever_its_runs_give() -> None:
    """It was one task for all that wrote them down, and a value could end it, and so the server."""

    async def main() -> None:
        mend_hypercorn()
        settings = Settings()
        async with open_engine() as engine:
            pipelines: dict[str, Pipeline[..., Any]] = {
                "whole": whole,
                "streamed": streamed,
                "broken": broken,
            }
            app = create_app(engine, pipelines, settings)
            async with open_house(app.asgi_app, settings) as house:
                ids: list[str] = []
                for what in ODD:
                    for name, accept in (("whole", "application/json"), ("streamed", "text/*")):
                        client = await house.connect()
                        at = f"/v1/pipelines/{name}/runs?what={what}"
                        reply = await client.ask(f"GET {at} HTTP/1.1\nAccept: {accept}")
                        assert reply.status == 200
                        ids += RUN_ID.findall(reply.body.decode())
                for accept in ("application/json", "text/*"):
                    client = await house.connect()
                    at = f"/v1/pipelines/broken/runs HTTP/1.1\nAccept: {accept}"
                    reply = await client.ask(f"GET {at}")
                    assert b"half a \\ud800" in reply.body
                assert len(ids) == 2 * len(ODD)
                for run_id in ids:
                    client = await house.connect()
                    reply = await client.ask(f"GET /v1/runs/{run_id} HTTP/1.1")
                    assert json.loads(reply.body)["status"] == "finished"

    trio.run(main)


@step
async def halving(question: str) -> AsyncIterator[str]:
    yield question
    yield "half a \ud800"


@pipeline
def halved(question: str) -> Stream[str]:
    """Say half a character."""
    return halving(question)


@pytest.mark.parametrize("stream", [False, True])
def test_half_a_character_is_told_to_openais_clients_as_its_escape(stream: bool) -> None:
    async def main() -> bytes:
        mend_hypercorn()
        settings = Settings()
        async with open_engine() as engine:
            app = create_app(engine, {"halved": halved}, settings)
            async with open_house(app.asgi_app, settings) as house:
                asked = {"model": "halved", "stream": stream, "messages": [QUESTION]}
                head = "POST /v1/chat/completions HTTP/1.1\nContent-Type: application/json"
                client = await house.connect()
                return (await client.ask(head, json.dumps(asked).encode())).body

    body = trio.run(main)
    assert b"half a \\ud800" in body
    assert b'"stop"' in body


QUESTION = {"role": "user", "content": "Hi"}
