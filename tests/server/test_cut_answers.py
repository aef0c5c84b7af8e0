"""A pipeline's answer that was cut says so in every API, whole or streamed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
import trio

from orchestra.engine.engine import open_engine
from orchestra.graph.control.constructs import collect
from orchestra.graph.pipelines import pipeline
from orchestra.protocols import Stream
from orchestra.server.app import create_app
from orchestra.server.settings import Settings
from orchestra.steps import generate
from orchestra.testing.turns import ScriptedAnswers
from orchestra.testing.world import World
from orchestra.values import ChatRequest, Stopped, StopReason
from tests.server.wire import open_house


@pipeline
def streamed(question: str, output_tokens_max: int = 99) -> Stream[str]:
    return generate(question, output_tokens_max=output_tokens_max)


@pipeline
def whole(question: str, output_tokens_max: int = 99) -> str:
    return collect(generate(question, output_tokens_max=output_tokens_max))


def counting(request: ChatRequest) -> list[Any]:
    """A model whose answers have ten tokens."""
    cut = (request.output_tokens_max or 99) < 10
    return ["Half", Stopped(StopReason.LENGTH if cut else StopReason.END)]


def asked(path: str, body: Mapping[str, object], *, accept: str = "*/*") -> bytes:
    async def main() -> bytes:
        settings, world = Settings(), World(models={"default": ScriptedAnswers(counting)})
        async with open_engine(world) as engine:
            app = create_app(engine, {"streamed": streamed, "whole": whole}, settings)
            async with open_house(app, settings) as house:
                head = f"POST {path} HTTP/1.1\nContent-Type: application/json\nAccept: {accept}"
                reply = await (await house.connect()).ask(head, msgspec.json.encode(body))
                assert reply.status == 200
                return reply.body

    return trio.run(main)


HI = [{"role": "user", "content": "Hi"}]
APIS = {
    "/v1/chat/completions": ("messages", HI, "max_completion_tokens"),
    "/v1/responses": ("input", "Hi", "max_output_tokens"),
    "/v1/messages": ("messages", HI, "max_tokens"),
}
ENDS = {
    "/v1/chat/completions": (b'"finish_reason":"stop"', b'"finish_reason":"length"'),
    "/v1/responses": (b'"status":"completed","', b'"reason":"max_output_tokens"'),
    "/v1/messages": (b'"stop_reason":"end_turn"', b'"stop_reason":"max_tokens"'),
}


@pytest.mark.parametrize("path", APIS)
@pytest.mark.parametrize("name", ["streamed", "whole"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("most", [9, 50])
def test_the_clients_of_providers_are_told(path: str, name: str, stream: bool, most: int) -> None:
    field, said, limit = APIS[path]
    body = asked(path, {"model": name, field: said, limit: most, "stream": stream})
    ended, cut = ENDS[path]
    assert (ended in body, cut in body) == ((False, True) if most == 9 else (True, False))


@pytest.mark.parametrize("name", ["streamed", "whole"])
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("most", [9, 50])
def test_whoever_runs_it_is_told(name: str, accept: str, most: int) -> None:
    inputs = {"inputs": {"question": "Hi", "output_tokens_max": most}}
    body = asked(f"/v1/pipelines/{name}/runs", inputs, accept=accept)
    assert (b'"cut":true' in body) == (most == 9)
    assert (b'"step.cut"' in body) == (most == 9 and accept == "text/event-stream")
