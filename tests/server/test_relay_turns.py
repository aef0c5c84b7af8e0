"""A relayed answer: how often its tasks run, each time of which is a pass through the event loop."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
import trio
import trio.testing

from orchestra.engine.engine import open_engine
from orchestra.providers.network import open_transport
from orchestra.providers.remote import Endpoint, RemoteModel
from orchestra.server.app import create_app
from orchestra.server.connections.hardening import mend_hypercorn
from orchestra.server.settings import Settings
from orchestra.testing.world import World
from tests.providers.upstream import CHUNKED, Visit, openai_endpoint, run, upstream
from tests.server.wire import open_house

STREAM_HEAD = CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-type: text/event-stream\r\n\r\n")
WHOLE = json.dumps(
    {
        "id": "1",
        "model": "m",
        "choices": [{"index": 0, "message": {"content": "Be"}, "finish_reason": "stop"}],
    }
).encode()


def chunk(finish: str | None = None, **delta: str) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "1", "model": "m", "choices": [choice]}).encode() + b"\n\n"


def framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def packets(*, stream: bool) -> list[bytes]:
    """What the provider sends, each when the relay has nothing more to do."""
    if not stream:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        return [head % len(WHOLE) + WHOLE]
    last = framed(chunk("stop") + b"data: [DONE]\n\n") + b"0\r\n\r\n"
    return [STREAM_HEAD + framed(chunk(content="Be")), framed(chunk(content="gin")), last]


class Turns(trio.abc.Instrument):
    """How often the tasks of requests and runs ran; not the server's own."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        name = "request" if task.name.endswith("task_group._handle") else task.name
        if name in ("request", "relay", "relay_whole"):
            self.of[name] += 1


async def turns(endpoint: Endpoint, body: dict[str, Any]) -> Counter[str]:
    """Of the third request on its connections; before it, both are opened and all is imported."""
    mend_hypercorn()
    async with open_transport(proxies={}) as transport:
        world = World(models={"m": RemoteModel(endpoint, transport)})
        async with (
            open_engine(world) as engine,
            open_house(create_app(engine, {}, Settings()), Settings()) as house,
        ):
            client, seen = await house.connect(), Turns()
            for number in range(3):
                await trio.testing.wait_all_tasks_blocked(0.01)
                if number == 2:
                    trio.lowlevel.add_instrument(seen)
                head = "POST /v1/chat/completions HTTP/1.1\nContent-Type: application/json"
                reply = await client.ask(head, json.dumps(body).encode())
                assert reply.status == 200
            await trio.testing.wait_all_tasks_blocked(0.01)
            return seen.of


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (False, {"request": 2, "relay": 2, "relay_whole": 2}),
        (True, {"request": 4, "relay": 8}),
    ],
)
def test_a_relayed_answer_takes_no_turn_more_than_it_must(
    stream: bool, expected: dict[str, int]
) -> None:
    """Its request's task: the start, the first content, the ends of the step and of the run.

    Without content to come before the end, the request's task waits for the end alone. A run and
    its step have a task each, which is called `relay` for both where the answer is streamed.
    """

    async def answers(visit: Visit) -> None:
        while True:
            await visit.request()
            for packet in packets(stream=stream):
                await trio.testing.wait_all_tasks_blocked(0.01)
                await visit.send(packet)

    async def main() -> Counter[str]:
        async with upstream(answers) as server:
            endpoint = openai_endpoint(server)
            messages = [{"role": "user", "content": "why?"}]
            return await turns(endpoint, {"model": "m", "messages": messages, "stream": stream})

    assert run(main) == expected
