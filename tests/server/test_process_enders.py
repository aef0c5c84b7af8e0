"""What a pipeline's own classes raise, of whatever class, ends no connection but its own."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import trio

from orchestra.engine.engine import open_engine
from orchestra.graph.pipelines import Pipeline, pipeline
from orchestra.graph.steps import step
from orchestra.protocols import Stream
from orchestra.server.app import create_app
from orchestra.server.connections.hardening import mend_hypercorn
from orchestra.server.front.ws_messages import FAILED
from orchestra.server.settings import USUAL_SETTINGS
from tests.engine.steps import Panic
from tests.server.socketing import open_socket
from tests.server.wire import open_house

ERRORS: dict[str, type[BaseException]] = {"exit": SystemExit, "panic": Panic, "usual": ValueError}


@dataclasses.dataclass
class Checked:
    how: str

    def __post_init__(self) -> None:
        raise ERRORS[self.how]("x")


class Unwritable:
    def __init__(self, how: str) -> None:
        self.how = how

    def __repr__(self) -> str:
        raise ERRORS[self.how]("x")


@step
async def taken(checked: Checked) -> str:
    return checked.how


@step
async def given(how: str) -> object:
    return {"a": [Unwritable(how)]}


@step
async def said(how: str) -> AsyncIterator[object]:
    yield Unwritable(how)


@pipeline
def takes(checked: Checked) -> str:
    """Make an object of what is sent."""
    return taken(checked)


@pipeline
def gives(how: str) -> object:
    """Give what JSON cannot say."""
    return given(how)


@pipeline
def says(how: str) -> Stream[object]:
    """Stream what JSON cannot say."""
    return said(how)


PIPELINES: dict[str, Pipeline[..., Any]] = {"takes": takes, "gives": gives, "says": says}


@pytest.mark.parametrize("how", [*ERRORS])
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_what_a_pipelines_classes_raise_ends_no_server(how: str, accept: str) -> None:
    async def main() -> None:
        mend_hypercorn()
        async with open_engine() as engine:
            app = create_app(engine, PIPELINES, USUAL_SETTINGS)
            async with open_house(app, USUAL_SETTINGS) as house:
                for name, inputs in (
                    ("takes", {"checked": {"how": how}}),
                    ("gives", {"how": how}),
                    ("says", {"how": how}),
                ):
                    client = await house.connect()
                    head = f"POST /v1/pipelines/{name}/runs HTTP/1.1\nAccept: {accept}\n"
                    body = msgspec.json.encode({"inputs": inputs})
                    reply = await client.ask(f"{head}Content-Type: application/json", body)
                    if name == "takes":
                        assert reply.status == (422 if how == "usual" else 500)
                    else:
                        assert reply.status == 200
                        assert b"that cannot be written as JSON" in reply.body

    trio.run(main)


@pytest.mark.parametrize("how", ["exit", "panic"])
def test_what_an_inputs_class_raises_closes_a_socket_as_failed(how: str) -> None:
    """Not as one that has done what it was opened for."""

    async def main() -> None:
        mend_hypercorn()
        async with open_engine() as engine:
            app = create_app(engine, PIPELINES, USUAL_SETTINGS)
            async with open_house(app, USUAL_SETTINGS) as house:
                socket = await open_socket(house, "/v1/pipelines/takes/ws")
                await socket.start("a", checked={"how": how})
                assert await socket.end() == FAILED

    trio.run(main)
