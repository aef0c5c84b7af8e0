"""What Hypercorn does wrong under a WebSocket, and under an application that listens no more.

As in `test_hardening.py`, a trap is shown without its cure; where it is gone, remove the cure.
"""

from __future__ import annotations

import json
import re
import socket
import struct
from contextlib import suppress

import pytest
import trio
import trio.testing
from hypercorn.protocol import ws_stream
from hypercorn.protocol.ws_stream import FrameTooLargeError, Handshake, WebsocketBuffer
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection
from wsproto.events import BytesMessage, TextMessage
from wsproto.extensions import PerMessageDeflate

from orchestra.server.connections.hardening import READ_AT_ONCE, Mailbox, mend_hypercorn
from orchestra.server.settings import Settings
from tests.patience import PATIENCE_S
from tests.server.connections.test_hardening import UPGRADE_WEBSOCKET
from tests.server.socketing import ClosedError, Stage, on_stage, open_socket
from tests.server.wire import Reply, _unmended, open_house  # noqa: F401 - a fixture

# --- an application that listens no more -------------------------------------------------------


async def answers_while_its_client_sends(within_s: float) -> bool:
    """Whether an application gets an answer out, and rid of the connection, without listening."""
    answered = trio.Event()

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await trio.testing.wait_all_tasks_blocked(0.05)  # until no more of the body fits
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        answered.set()

    async with open_house(app, Settings()) as house, trio.open_nursery() as nursery:
        client = await house.connect()
        await client.send("POST / HTTP/1.1\nContent-Length: 100000000")
        nursery.start_soon(_send_all_there_is, client.stream)
        with trio.move_on_after(within_s) as patience:
            await answered.wait()
            house.server.shut()
            await house.empty.wait()
        nursery.cancel_scope.cancel()
    return not patience.cancelled_caught


async def _send_all_there_is(stream: trio.SocketStream) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while True:
            await stream.send_all(b"x" * 65536)


@pytest.mark.usefixtures("_unmended")
def test_the_full_mailbox_trap_is_still_there() -> None:
    assert not trio.run(answers_while_its_client_sends, 0.3)


@pytest.mark.usefixtures("_unmended")
def test_whoever_is_refused_does_not_hold_a_place_by_sending_on() -> None:
    mend_hypercorn()
    assert trio.run(answers_while_its_client_sends, PATIENCE_S)


@given(st.integers(0, 5), st.integers(0, 8), st.random_module())
def test_a_mailbox_gives_what_fits_in_order_and_then_the_end_for_ever(
    size: int, count: int, seed: object
) -> None:
    """Whoever still waits to put something in is let go."""

    async def main() -> None:
        mailbox = Mailbox(size)
        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(mailbox.put, {"type": "http.request", "body": number})
            await trio.testing.wait_all_tasks_blocked()
            await mailbox.put({"type": "http.disconnect"})
            await mailbox.put({"type": "http.request", "body": -1})
        types = [(await mailbox.receive())["type"] for _ in range(count + 2)]
        kept = min(size, count)
        assert types == ["http.request"] * kept + ["http.disconnect"] * (count + 2 - kept)

    trio.run(main)


# --- a message that is too large ---------------------------------------------------------------


def kept_of_what_is_too_large() -> int:
    """How much is kept of messages of a hundred bytes where ten are allowed."""
    buffer = WebsocketBuffer(10)
    for _ in range(50):
        with suppress(FrameTooLargeError):
            buffer.extend(TextMessage("xx", message_finished=False))
    return len(buffer.value.getvalue()) if buffer.value else 0


@pytest.mark.usefixtures("_unmended")
def test_the_too_large_trap_is_still_there() -> None:
    assert kept_of_what_is_too_large() == 100


@pytest.mark.usefixtures("_unmended")
def test_nothing_is_kept_of_a_message_that_is_too_large() -> None:
    mend_hypercorn()
    assert kept_of_what_is_too_large() == 0


@pytest.mark.usefixtures("_unmended")
def test_what_is_not_too_large_is_whole() -> None:
    mend_hypercorn()
    buffer = WebsocketBuffer(4)
    for part in ("ab", "cd"):
        buffer.extend(TextMessage(part))
    assert buffer.to_message()["text"] == "abcd"
    buffer.clear()
    buffer.extend(BytesMessage(b"\xff"))
    assert buffer.to_message()["bytes"] == b"\xff"


# --- violations of the protocol ----------------------------------------------------------------

VIOLATIONS = [
    (b"\x81\x02{}", 1002, "unmasked"),
    (b"\xc1\x80abcd", 1002, "[Rr]eserved"),
    (b"\x80\x80abcd", 1002, "CONTINUATION"),
    (b"\x09\x80abcd", 1002, "fragment control"),
    (b"\x81\x81\0\0\0\0\xff", 1007, "invalid start byte"),
    (b"\x88\x82\0\0\0\0\x03\xe7", 1002, "CLOSE"),
]


def told_of(violation: bytes) -> ClosedError:
    """How a client that has sent these bytes is closed."""

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async def main() -> ClosedError:
        async with open_house(app, Settings()) as house:
            socket = await open_socket(house)
            await socket.stream.send_all(violation)
            return await socket.closed()

    return trio.run(main)


@pytest.mark.usefixtures("_unmended")
def test_the_trap_of_violations_is_still_there() -> None:
    assert told_of(VIOLATIONS[0][0]).code == 1006


@pytest.mark.usefixtures("_unmended")
@pytest.mark.parametrize(("violation", "code", "says"), VIOLATIONS)
def test_whoever_violates_the_protocol_is_told_how(violation: bytes, code: int, says: str) -> None:
    mend_hypercorn()
    closed = told_of(violation)
    assert closed.code == code
    assert re.search(says, closed.reason)


# --- compression -------------------------------------------------------------------------------


def accepted_extensions() -> object:
    return ws_stream.server_extensions_handshake(["permessage-deflate"], [PerMessageDeflate()])  # type: ignore[attr-defined]


@pytest.mark.usefixtures("_unmended")
def test_the_compression_trap_is_still_there() -> None:
    assert accepted_extensions()


@pytest.mark.usefixtures("_unmended")
def test_no_websocket_is_compressed() -> None:
    mend_hypercorn()
    assert not accepted_extensions()


# --- pings -------------------------------------------------------------------------------------


async def leaves_its_place(within_s: float) -> bool:
    """Whether the place of a WebSocket is free as soon as its client has left."""

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async with open_house(app, Settings(heartbeat_s=1000)) as house:
        socket = await open_socket(house)
        await trio.testing.wait_all_tasks_blocked(0.01)
        socket.vanish()
        house.server.shut()
        with trio.move_on_after(within_s):
            await house.empty.wait()
            return True
    return False


@pytest.mark.usefixtures("_unmended")
def test_the_ping_trap_is_still_there() -> None:
    assert not trio.run(leaves_its_place, 0.3)


@pytest.mark.usefixtures("_unmended")
def test_a_client_that_has_left_has_left_its_place() -> None:
    mend_hypercorn()
    assert trio.run(leaves_its_place, PATIENCE_S)


@pytest.mark.usefixtures("_unmended")
def test_a_client_that_leaves_while_its_handshake_is_answered_has_left_its_place() -> None:
    """Its pings would begin when nobody is left to end them."""
    mend_hypercorn()

    async def main() -> None:
        async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
            client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.stream.socket.close()  # with a reset, which the writing sees before the reading
            await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
            while (await receive())["type"] != "websocket.disconnect":
                pass
            over.set()

        over = trio.Event()
        async with open_house(app, Settings(heartbeat_s=0.05)) as house:
            client = await house.connect()
            await client.send(UPGRADE_WEBSOCKET)
            await over.wait()
            house.server.shut()
            await house.empty.wait()

    trio.run(main)


# --- a handshake that is none -------------------------------------------------------------------

RIGHT = ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
LISTS = ("Connection", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions")


@pytest.mark.parametrize(
    ("lines", "behind"),
    [
        ([], b""),
        (["Sec-WebSocket-Version: 12", "Sec-WebSocket-Key: x"], b""),
        ([*RIGHT], b"early"),
        *(([*RIGHT, f"{name}: caf\u00e9, upgrade"], b"") for name in LISTS),
    ],
)
def test_a_handshake_that_is_none_is_answered_and_closed(
    lines: list[str], behind: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Hypercorn would keep its connection for ever, and its place with it; or would fail over a
    list that is not of ASCII, which anybody may send, and which is no error of the server's."""

    async def test(stage: Stage) -> bool:
        client = await stage.house.connect()
        head = "GET /v1/pipelines/count/ws HTTP/1.1\nConnection: Upgrade\nUpgrade: websocket"
        await client.send("\n".join([head, *lines]))
        await client.stream.send_all(behind)
        return b"connection: close" in (await client.rest()).lower() or bool(behind)

    assert on_stage(test)
    assert not caplog.records


@pytest.mark.parametrize(
    ("version", "status", "problem"),
    [
        ("Sec-WebSocket-Version: 12", 426, "upgrade-required"),
        ("Sec-WebSocket-Version: ", 426, "upgrade-required"),
        ("X-Version: 13", 400, "bad-handshake"),
    ],
)
def test_who_speaks_another_version_is_told_ours(version: str, status: int, problem: str) -> None:
    """As RFC 6455 (4.4) wants it; whatever is wrong, the answer says so."""

    async def test(stage: Stage) -> None:
        client = await stage.house.connect()
        head = "GET /v1/pipelines/count/ws HTTP/1.1\nConnection: Upgrade\nUpgrade: websocket"
        reply = await client.ask(f"{head}\n{RIGHT[1]}\n{version}")
        assert reply.status == status
        assert reply.headers.get("sec-websocket-version") == ("13" if status == 426 else None)
        assert reply.headers.get("upgrade") == ("websocket" if status == 426 else None)
        assert reply.headers["content-type"] == "application/problem+json"
        body = json.loads(reply.body)
        assert body["type"] == f"urn:problem-type:orchestra:{problem}"
        assert body["status"] == status
        assert ("Sec-WebSocket-Version: 13" in body["detail"]) == (status == 426)

    on_stage(test)


@pytest.mark.parametrize("refuses", [False, True])
def test_an_application_that_does_not_accept_is_no_fault_of_the_handshake(refuses: bool) -> None:
    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await receive()
        if refuses:
            await send({"type": "websocket.close", "code": 1000, "reason": None})

    async def answered() -> Reply:
        async with open_house(app, Settings()) as house:
            client = await house.connect()
            return await client.ask(UPGRADE_WEBSOCKET)

    mend_hypercorn()
    reply = trio.run(answered)
    assert (reply.status, reply.body) == (403 if refuses else 500, b"")


async def answered_to_version(version: int) -> Reply:
    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        raise NotImplementedError

    async with open_house(app, Settings()) as house:
        client = await house.connect()
        return await client.ask(UPGRADE_WEBSOCKET.replace("13", str(version)))


@pytest.mark.usefixtures("_unmended")
def test_the_silent_refusal_trap_is_still_there() -> None:
    reply = trio.run(answered_to_version, 12)
    assert (reply.status, reply.body) == (400, b"")


async def is_heard_to_leave(within_s: float) -> bool:
    """Whether an application hears the end of a client whose frames come with its handshake."""
    heard = trio.Event()

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await trio.testing.wait_all_tasks_blocked()  # as one that looks for a key
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        heard.set()

    async with open_house(app, Settings()) as house:
        client = await house.connect()
        lines = [*UPGRADE_WEBSOCKET.split("\n    "), "Host: test"]
        await client.stream.send_all("\r\n".join(lines).encode() + b"\r\n\r\n" + PONG)
        assert (await client.head()).status == 400
        with trio.move_on_after(within_s):
            await heard.wait()
            house.server.shut()
            await house.empty.wait()
            return True
    return False


@pytest.mark.usefixtures("_unmended")
def test_the_trap_of_early_frames_is_still_there() -> None:
    assert not trio.run(is_heard_to_leave, 0.3)


@pytest.mark.usefixtures("_unmended")
def test_whoever_sends_frames_with_their_handshake_holds_no_place() -> None:
    """It is refused, and else its application would wait for it, and hold its place meanwhile."""
    mend_hypercorn()
    assert trio.run(is_heard_to_leave, PATIENCE_S)


@pytest.mark.parametrize("name", LISTS)
def test_the_trap_of_lists_that_are_not_of_ascii_is_still_there(name: str) -> None:
    with pytest.raises(UnicodeDecodeError):
        Handshake([(name.lower().encode(), b"caf\xe9")], "1.1")


# --- very many frames, all of them here --------------------------------------------------------

PONG = b"\x8a\x80\0\0\0\0"  # that nobody asked for, and nobody answers
PONGS = 20_000


class Turns(trio.abc.Instrument):
    """How many bytes of frames were read in one turn of a task, at the most."""

    def __init__(self) -> None:
        self.now = self.most = self.all = 0
        self.all_read = trio.Event()

    def read(self, size: int) -> None:
        """So many were read."""
        self.now += size
        self.all += size
        if self.all >= len(PONG) * PONGS:
            self.all_read.set()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """A turn is over, and the others have theirs."""
        del task
        self.most, self.now = max(self.most, self.now), 0


async def read_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> int:
    """The most of a WebSocket's frames for which nobody else has a turn."""
    turns, stock = Turns(), Connection.receive_data

    def reads(self: Connection, data: bytes | None) -> None:
        turns.read(len(data or b""))
        stock(self, data)

    monkeypatch.setattr(Connection, "receive_data", reads)
    trio.lowlevel.add_instrument(turns)

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async with open_house(app, Settings()) as house:
        client = await house.connect()
        await client.send(UPGRADE_WEBSOCKET)
        assert (await client.head()).status == 101
        await client.stream.send_all(PONG * PONGS)
        await turns.all_read.wait()
    return turns.most


@pytest.mark.usefixtures("_unmended")
def test_the_trap_of_many_frames_is_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trio.run(read_in_a_turn, monkeypatch) > READ_AT_ONCE


@pytest.mark.usefixtures("_unmended")
def test_whoever_sends_very_many_frames_lets_the_others_have_their_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mend_hypercorn()
    assert trio.run(read_in_a_turn, monkeypatch) <= READ_AT_ONCE
