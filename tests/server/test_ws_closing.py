"""How a WebSocket is closed: by whom, when, and with which code."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
import wsproto.events as ws
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.server.front.ws_messages import GOING_AWAY, IDLE, POLICY, TOO_LARGE
from orchestra.server.settings import Settings
from tests.server.socketing import (
    ClosedError,
    Stage,
    Test,
    on_stage,
    open_socket,
    running,
)


def closing(test: Test, settings: Settings | None = None) -> ClosedError:
    """How a socket is closed, on which a test does something."""

    async def main(stage: Stage) -> ClosedError:
        with pytest.raises(ClosedError) as caught:
            await test(stage)
        await stage.engine.wait_idle()
        return caught.value

    found: ClosedError = on_stage(main, settings)
    return found


@pytest.mark.parametrize("text", ["x" * 1001, "\N{GRINNING FACE}" * 251])
def test_a_message_that_is_too_large_closes_the_socket(text: str) -> None:
    async def test(stage: Stage) -> None:
        socket = await open_socket(stage.house)
        await socket.send(text)
        await socket.receive()

    assert closing(test, Settings(body_limit_bytes=1000)).code == TOO_LARGE


@pytest.mark.parametrize("kind", [ws.TextMessage, ws.BytesMessage])
def test_a_message_is_refused_as_soon_as_it_is_too_large(kind: type[ws.Message[Any]]) -> None:
    """Its client need not send the rest, which may be gigabytes, to learn that."""

    async def test(stage: Stage) -> None:
        socket = await open_socket(stage.house)
        part = "x" * 600 if kind is ws.TextMessage else b"x" * 600
        for _ in range(2):
            await socket._write(kind(part, message_finished=False))
        await socket.receive()

    closed = closing(test, Settings(body_limit_bytes=1000))
    assert (closed.code, closed.reason) == (TOO_LARGE, "a message is larger than 1000 bytes")


def test_a_socket_on_which_nothing_goes_on_is_closed() -> None:
    async def test(stage: Stage) -> None:
        socket = await open_socket(stage.house)
        await socket.start("a", count=1)
        await socket.events("a")
        await socket.receive()

    assert closing(test, Settings(socket_idle_s=0.05)).code == IDLE


def test_a_socket_is_not_idle_whose_run_is_silent() -> None:
    async def test(stage: Stage) -> str:
        socket = await open_socket(stage.house)
        await socket.start("a", count=0, hold=True)
        while socket.pings < 3:  # more than the time that an idle one has
            await socket._read()
        await socket.say(type="cancel", id="a")
        return str((await socket.events("a"))[-1]["type"])

    assert on_stage(test, Settings(socket_idle_s=0.5, heartbeat_s=0.25)) == "run.cancelled"


def test_whoever_does_not_read_what_is_wrong_is_left() -> None:
    """In the end; so what waits for them is bounded."""

    async def test(stage: Stage) -> None:
        socket = await open_socket(stage.house)
        try:
            for _ in range(100_000):
                await socket.send("hello" * 20)
        except trio.BrokenResourceError as error:
            raise ClosedError(POLICY) from error

    assert closing(test).code == POLICY


def test_whoever_does_not_read_that_their_starts_are_refused_is_left() -> None:
    """A start that is refused has given its id back: the next would wait beside it."""

    async def test(stage: Stage) -> None:
        socket = await open_socket(stage.house)
        wrong = dict.fromkeys((f"{number:02}" + "x" * 90 for number in range(20)), 0)
        try:
            for _ in range(3_000):
                await socket.start("a", **wrong)
        except trio.BrokenResourceError as error:
            raise ClosedError(POLICY) from error

    assert closing(test).code == POLICY


@given(st.random_module())
@settings(max_examples=15)
def test_a_server_that_stops_closes_a_socket_when_its_last_run_has_ended(seed: object) -> None:
    async def test(stage: Stage) -> None:
        busy, idle = await open_socket(stage.house), await open_socket(stage.house)
        await busy.start("a", count=0, hold=True)
        await running(stage.engine, 1)
        stage.app.closing.set()
        with pytest.raises(ClosedError) as caught:
            await idle.receive()
        assert caught.value.code == GOING_AWAY
        await busy.start("b")
        message = await busy.receive()
        while "problem" not in message:
            message = await busy.receive()
        assert (message["id"], message["problem"]["status"]) == ("b", 503)
        await busy.say(type="cancel", id="a")
        await busy.events("a")
        await busy.receive()

    assert closing(test).code == GOING_AWAY


def test_a_fault_of_ours_closes_the_socket_and_is_in_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise KeyError("sk-1")

    async def test(stage: Stage) -> None:
        socket = await open_socket(stage.house)
        monkeypatch.setattr(stage.engine, "start", breaks)
        await socket.start("a")
        await socket.receive()

    with caplog.at_level(logging.ERROR):
        closed = closing(test)
    assert (closed.code, "sk-1" in closed.reason) == (1011, False)
    assert "a run over a WebSocket failed" in caplog.text


def test_hearts_beat_while_there_is_silence() -> None:
    async def test(stage: Stage) -> int:
        socket = await open_socket(stage.house)
        while socket.pings < 2:
            await socket._read()
        return socket.pings

    assert on_stage(test, Settings(heartbeat_s=0.01)) == 2


class Keeping(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self.records = records

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


FRAGMENTS = [
    b"\x81\x80abcd",
    b"\x81",
    b"\x88\x80abcd",
    b"\xff",
    b"\x00\x80abcd",
    b"\x89\x80abcd",
    b"x",
]


@given(st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=8), max_size=6))
@settings(max_examples=25)
def test_no_bytes_at_all_break_the_server(pieces: list[bytes]) -> None:
    """A client that speaks no WebSocket loses its own connection, and nobody else's."""

    async def test(stage: Stage) -> None:
        bad = await open_socket(stage.house)
        await bad.stream.send_all(b"".join(pieces))
        good = await open_socket(stage.house)
        await good.start("a", count=1)
        assert (await good.events("a"))[-1]["type"] == "run.finished"

    records: list[logging.LogRecord] = []
    handler = Keeping(records)
    logging.getLogger("orchestra.server").addHandler(handler)
    try:
        on_stage(test)
    finally:
        logging.getLogger("orchestra.server").removeHandler(handler)
    assert [record.getMessage() for record in records if record.levelno >= logging.ERROR] == []
