"""A server of WebSockets, and a client over wsproto, with nothing of its own in between."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import msgspec
import pytest
import trio
import wsproto.events as ws
from wsproto import ConnectionType, WSConnection

from orchestra.engine.engine import Engine, open_engine
from orchestra.graph.rules.policy import Limits
from orchestra.server.app import App, create_app
from orchestra.server.connections.hardening import mend_hypercorn
from orchestra.server.front.layers import OPEN, Admission
from orchestra.server.settings import Settings
from tests.server.served import PIPELINES
from tests.server.wire import House, open_house


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

    async def closed(self) -> ClosedError:
        """How it is closed; what came before that can be received then."""
        try:
            while True:
                await self._read()
        except ClosedError as closed:
            return closed

    async def end(self) -> int:
        """With which code it is closed; nothing else may come before."""
        try:
            said = await self.receive()
        except ClosedError as closed:
            return int(closed.code)
        raise AssertionError(f"{said} came before the end")

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
    return await upgrade(client.stream, path, headers=headers, subprotocols=subprotocols)


async def upgrade(
    stream: trio.SocketStream,
    path: str = "/v1/pipelines/count/ws",
    *,
    headers: Sequence[tuple[str, str]] = (),
    subprotocols: Sequence[str] = (),
) -> Socket:
    """A connection turned into a socket.

    Raises:
        RefusedError: the server does not open it.
    """
    socket = Socket(stream, WSConnection(ConnectionType.CLIENT))
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


Test = Callable[["Stage"], Awaitable[Any]]


@attrs.frozen
class Stage:
    """A server of the test pipelines."""

    house: House
    engine: Engine
    app: App


def on_stage(
    test: Test,
    settings: Settings | None = None,
    admission: Admission = OPEN,
    limits: Limits | None = None,
) -> Any:
    """What a test finds on a server of its own; afterwards all is closed."""
    settings = settings or Settings()

    async def main() -> Any:
        mend_hypercorn()
        async with open_engine(limits=limits) as engine:
            app = create_app(engine, PIPELINES, settings, admission)
            async with open_house(app.asgi_app, settings) as house:
                return await test(Stage(house, engine, app))

    return trio.run(main)


def refusal(path: str = "/v1/pipelines/count/ws", **options: Any) -> RefusedError:
    """Why a socket is not opened."""
    admission = options.pop("admission", OPEN)

    async def test(stage: Stage) -> RefusedError:
        with pytest.raises(RefusedError) as caught:
            await open_socket(stage.house, path, **options)
        return caught.value

    found: RefusedError = on_stage(test, admission=admission)
    return found


async def running(engine: Engine, count: int) -> Any:
    """The runs, as soon as there are so many."""
    while len(engine.runs) < count:
        await trio.lowlevel.checkpoint()
    return list(engine.runs.values())
