"""A handshake that is refused, as a page can read it.

A browser tells a page nothing of an answer to a handshake: a wrong key looks like a dead network
(1006). So a page's socket is opened, is told the problem as its only frame, and is closed with a
code that has the status in it. Everybody else reads the answer itself; so do pages that may ask
nothing here, for which no socket is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from orchestra.server.front.problems import MEDIA_TYPE
from orchestra.server.front.ws_messages import CODES, PROTOCOL

_FOREIGN = (":foreign-origin", ":foreign-host")
_OF_BODIES = (b"content-type", b"content-length")


class Problem(msgspec.Struct):
    """What is read of a problem that is told."""

    type: str
    title: str


def telling(scope: Mapping[str, Any], send: Any) -> Any:
    """A send by which a page is told why its handshake is refused; for others, that same send."""
    headers = scope["headers"]
    if PROTOCOL not in scope["subprotocols"] or all(name != b"origin" for name, _ in headers):
        return send
    return Telling(send).send


class Telling:
    """What is sent to a page's socket: an answer to the handshake as frames, the rest as it is."""

    def __init__(self, send: Any) -> None:
        self._send = send
        self._head: Any = None
        self._body = b""

    async def send(self, message: Any) -> None:
        """Send it, or keep it until the answer is whole."""
        match message["type"]:
            case "websocket.http.response.start":
                self._head = message
            case "websocket.http.response.body":
                self._body += message.get("body", b"")
                if not message.get("more_body"):
                    await self._refuse()
            case _:
                await self._send(message)

    async def _refuse(self) -> None:
        headers, status = self._head["headers"], int(self._head["status"])
        problem = _problem(headers, self._body)
        if problem is None or problem.type.endswith(_FOREIGN):
            await self._send(self._head)
            await self._send({"type": "websocket.http.response.body", "body": self._body})
            return
        headers = [each for each in headers if each[0] not in _OF_BODIES]
        told = f'{{"id":null,"problem":{self._body.decode()}}}'
        accept = {"type": "websocket.accept", "subprotocol": PROTOCOL, "headers": headers}
        await self._send(accept)
        await self._send({"type": "websocket.send", "text": told})
        code = CODES + status
        await self._send({"type": "websocket.close", "code": code, "reason": problem.title})


def _problem(headers: list[tuple[bytes, bytes]], body: bytes) -> Problem | None:
    kinds = [value for name, value in headers if name == b"content-type"]
    if kinds != [MEDIA_TYPE.encode()]:
        return None
    return msgspec.json.decode(body, type=Problem)
