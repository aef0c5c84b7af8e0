"""Refused handshakes in a form that a web page can read.

A browser hides the response to a handshake from the page: a wrong key looks like a network failure
(1006). So the page's socket is opened, gets the problem as its only frame, and is closed with a
code that contains the status. Other clients read the response itself; so do pages of refused
origins, for which no socket is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from orchestra.server.front.ws_messages import CODES, PROTOCOL, refusal_frame
from orchestra.server.responses.problems import MEDIA_TYPE

_FOREIGN = (":foreign-origin", ":foreign-host")
_OF_BODIES = (b"content-type", b"content-length")


class Problem(msgspec.Struct):
    """The fields of a problem that this module reads."""

    type: str
    title: str


def telling(scope: Mapping[str, Any], send: Any) -> Any:
    """A `send` that reports a refused handshake to a page; for other clients, `send` itself."""
    headers = scope["headers"]
    if PROTOCOL not in scope["subprotocols"] or all(name != b"origin" for name, _ in headers):
        return send
    return Telling(send).send


class Telling:
    """Sends to a page's socket: the response to a handshake as a frame, and the rest unchanged."""

    def __init__(self, send: Any) -> None:
        self._send = send
        self._head: Any = None
        self._body = b""

    async def send(self, message: Any) -> None:
        """Send a message, or keep it until the response is complete."""
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
        texts = [(name.decode(), value.decode()) for name, value in headers]
        frame = refusal_frame(None, self._body, texts)
        accept = {"type": "websocket.accept", "subprotocol": PROTOCOL, "headers": headers}
        await self._send(accept)
        await self._send({"type": "websocket.send", "text": frame})
        code = CODES + status
        await self._send({"type": "websocket.close", "code": code, "reason": problem.title})


def _problem(headers: list[tuple[bytes, bytes]], body: bytes) -> Problem | None:
    kinds = [value for name, value in headers if name == b"content-type"]
    if kinds != [MEDIA_TYPE.encode()]:
        return None
    return msgspec.json.decode(body, type=Problem)
