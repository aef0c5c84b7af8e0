"""A WebSocket client over wsproto, with nothing of its own in between."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import attrs
import msgspec
import wsproto.events as ws
from wsproto import ConnectionType, WSConnection

from tests.server.wire import House


class RefusedError(Exception):
    """The handshake was answered with something else."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body


class ClosedError(Exception):
    """The other side has closed; 1006 where it did not say so."""

    def __init__(self, code: int, reason: str | None = None) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason or ""


@attrs.define(eq=False)
class Socket:
    """A WebSocket, open."""

    stream: Any
    protocol: WSConnection
    accepted: ws.AcceptConnection | None = None
    pings: int = 0
    _messages: deque[str] = attrs.field(factory=deque)
    _text: str = ""

    async def say(self, **message: object) -> None:
        """Send a message as JSON."""
        await self.send(msgspec.json.encode(message).decode())

    async def start(self, name: str, **inputs: object) -> None:
        """Ask for a run."""
        await self.say(type="start", id=name, inputs=inputs)

    async def send(self, data: str | bytes) -> None:
        """Send a message, text or binary."""
        await self._write(
            ws.BytesMessage(data) if isinstance(data, bytes) else ws.TextMessage(data)
        )

    async def close(self) -> None:
        """Leave politely, and wait for the answer."""
        await self._write(ws.CloseConnection(1000))
        try:
            while True:
                await self.receive()
        except ClosedError:
            pass

    def vanish(self) -> None:
        """Leave without a word."""
        self.stream.socket.close()

    async def receive(self) -> dict[str, Any]:
        """The next message, as JSON."""
        while not self._messages:
            await self._read()
        return msgspec.json.decode(self._messages.popleft(), type=dict[str, Any])

    async def events(self, name: str) -> list[dict[str, Any]]:
        """The events of a run, to its end; nothing else may come."""
        found: list[dict[str, Any]] = []
        while not found or not is_last(found[-1]):
            message = await self.receive()
            assert message["id"] == name
            found.append(message["event"])
        return found

    async def _write(self, event: ws.Event) -> None:
        await self.stream.send_all(self.protocol.send(event))

    async def _read(self) -> None:
        data = await self.stream.receive_some()
        if not data:
            raise ClosedError(1006)
        self.protocol.receive_data(data)
        for event in self.protocol.events():
            match event:
                case ws.TextMessage(data=text):
                    self._text += text
                    if event.message_finished:
                        self._messages.append(self._text)
                        self._text = ""
                case ws.Ping():
                    self.pings += 1
                    await self._write(event.response())
                case ws.CloseConnection(code=code, reason=reason):
                    raise ClosedError(code, reason)


def is_last(event: dict[str, Any]) -> bool:
    """Whether it is the last event of a run."""
    return event["type"] in ("run.finished", "run.failed", "run.cancelled")


async def open_socket(
    house: House,
    path: str = "/v1/pipelines/count/ws",
    *,
    headers: Sequence[tuple[str, str]] = (),
    subprotocols: Sequence[str] = (),
) -> Socket:
    """A socket of this path.

    Raises:
        RefusedError: the server does not open it.
    """
    client = await house.connect()
    socket = Socket(client.stream, WSConnection(ConnectionType.CLIENT))
    extra = [(name.encode(), value.encode()) for name, value in headers]
    await socket._write(
        ws.Request(host="test", target=path, extra_headers=extra, subprotocols=list(subprotocols))
    )
    status, body = 0, bytearray()
    while True:
        socket.protocol.receive_data(await socket.stream.receive_some())
        for event in socket.protocol.events():
            match event:
                case ws.AcceptConnection():
                    socket.accepted = event
                    return socket
                case ws.RejectConnection():
                    status = event.status_code
                case ws.RejectData():
                    body += event.data
                    if event.body_finished:
                        raise RefusedError(status, msgspec.json.decode(body or b"{}"))
