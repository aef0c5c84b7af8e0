"""What a run begins with of its request: what its steps log can be told apart by its id."""

from __future__ import annotations

import logging

import pytest
import trio

from orchestra.engine.engine import open_engine
from orchestra.graph.pipelines import pipeline
from orchestra.graph.steps import step
from orchestra.server.app import create_app
from orchestra.server.front.arrival import REQUEST_ID
from orchestra.server.settings import Settings
from tests.server.wire import open_house

log = logging.getLogger("a library of theirs")


@step
async def waits(text: str) -> str:
    await trio.lowlevel.checkpoint()
    log.warning("in a task")
    return text


@step
def plain(text: str) -> str:
    log.warning("on the spot")
    return text


@step(thread=True)
def threaded(text: str) -> str:
    log.warning("in a thread")
    return text


@pipeline
def logs(text: str) -> str:
    """Say something, and log it in each way that there is."""
    return threaded(plain(waits(text)))


def test_what_a_step_logs_has_the_id_of_its_request(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[str, str]] = []

    def emit(record: logging.LogRecord) -> None:
        told.append((REQUEST_ID.get(), record.getMessage()))

    async def main() -> None:
        settings = Settings()
        async with open_engine() as engine:
            app = create_app(engine, {"logs": logs}, settings)
            async with open_house(app, settings) as house, trio.open_nursery() as nursery:
                for name in ids:
                    head = f"GET /v1/pipelines/logs/runs?text=x HTTP/1.1\nX-Request-ID: {name}"
                    nursery.start_soon((await house.connect()).ask, head)

    ids = ["r-1", "r-2"]
    monkeypatch.setattr(caplog.handler, "emit", emit)
    trio.run(main)
    said = ["in a task", "on the spot", "in a thread"]
    assert sorted(told) == sorted((name, each) for name in ids for each in said)
