"""A law of places: whatever a client sends, its place and its runs end when it has left."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import Any, cast

import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestra.access.principal import ANYBODY, Principal
from orchestra.server.front.layers import Admission
from orchestra.server.settings import Settings
from tests.server.socketing import Stage, on_stage

HANDSHAKE = b"""GET /v1/pipelines/count/ws HTTP/1.1\r
Host: test\r
Connection: upgrade\r
Upgrade: websocket\r
Sec-WebSocket-Version: 13\r
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r
"""
HELD = b"GET /v1/pipelines/count/runs?hold=1 HTTP/1.1\r\nHost: test\r\n\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n"
STREAM = HELD.replace(b"count", b"endless").replace(b"?hold=1", b"")
STREAM = STREAM.replace(b"\r\n\r\n", b"\r\nAccept: text/event-stream\r\n\r\n")
POST = b"POST /v1/pipelines/count/runs HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
PIECES = [
    *(HEALTH, HELD, STREAM, b"GET /docs HTTP/1.0\r\n\r\n", b"GET /docs", b"\r\n"),
    *(b"HEAD /docs HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", b"{}"),
    *(POST + b"Content-Length: 2\r\n\r\n{}", POST + b"Content-Length: 2\r\n\r\n"),
    POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    *(POST + b"Transfer-Encoding: chunked\r\n\r\n", b"2\r\n{}\r\n", b"0\r\n\r\n"),
    *(HANDSHAKE + b"\r\n", HANDSHAKE + b"Content-Length: 3\r\n\r\n", HANDSHAKE[:-12] + b"\r\n\r\n"),
    HANDSHAKE + b"Origin: http://test\r\nSec-WebSocket-Protocol: orchestra.v1\r\n\r\n",
    *(b"\x81\x82\0\0\0\0{}", b"\x89\x80\0\0\0\0", b"\x88\x80\0\0\0\0", b"\x81\x02{}"),
]


class Hesitant:
    """A keyring that takes a moment: what has come meanwhile is read before the answer."""

    async def authenticate(self, token: str) -> Principal:
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        return ANYBODY


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from(PIECES), min_size=1, max_size=3), st.booleans()),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
    st.booleans(),
    st.random_module(),
)
@example([([STREAM, HEALTH], True)], False, True, None)
@example([([HELD, HEALTH], True), ([HEALTH], False)], True, True, None)
@example([([HANDSHAKE + b"\r\n", b"\x81\x82\0\0\0\0{}"], True)], False, True, None)
def test_whatever_a_client_sends_its_place_is_free_when_it_has_left(
    parts: list[tuple[list[bytes], bool]], reset: bool, known: bool, seed: object
) -> None:
    async def test(stage: Stage) -> None:
        stream = (await stage.house.connect()).stream
        with suppress(trio.BrokenResourceError):
            for pieces, pauses in parts:
                data = b"".join(pieces)
                if known:
                    data = data.replace(
                        b"Host: test\r\n", b"Host: test\r\nAuthorization: Bearer a\r\n"
                    )
                await stream.send_all(data)
                if pauses:
                    await trio.testing.wait_all_tasks_blocked(0.001)
        with suppress(OSError):
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", reset, 0))
        stream.socket.close()
        with trio.fail_after(60):
            while stage.house.server.connections or stage.engine.runs:
                await trio.lowlevel.checkpoint()

    bounds = Settings(heartbeat_s=0.05, stall_s=0.1, keep_alive_s=0.1, body_timeout_s=0.1)
    on_stage(test, bounds, Admission(keyring=cast("Any", Hesitant())))
