"""Cures for what Hypercorn and Quart-Trio do wrong under a stream; each names its trap.

Written against the versions in `MENDED_AGAINST`. `tests/server/test_hardening.py` shows
every trap without its cure, so that a release which mends one is noticed and the cure
removed; the same is done for `orchestra/server/listen.py`.

Rules of this file: a cure is one function or method, and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

import trio
from hypercorn.protocol.h2 import BUFFER_LOW_WATER, StreamBuffer
from hypercorn.protocol.h11 import H11Protocol

if TYPE_CHECKING:
    import h11
    from hypercorn.typing import (
        ASGIFramework,
        ASGIReceiveCallable,
        ASGISendCallable,
        ASGISendEvent,
        Scope,
    )

MENDED_AGAINST = {"hypercorn": "0.18.0", "quart-trio": "0.12.0", "quart": "0.22.0"}

LAST_SEND_S = 60
"""Bound of a shielded last send; a client that stalls is given up long before it."""


def mend_hypercorn() -> None:
    """Replace two methods of Hypercorn, for the whole process; again does nothing."""
    StreamBuffer.pop = _pop  # type: ignore[method-assign]
    H11Protocol._check_protocol = _stay_with_http1  # type: ignore[method-assign] # noqa: SLF001


async def _pop(self: StreamBuffer, max_length: int) -> bytes:
    """Hypercorn's own, except that the writer goes on by what is left, not by what was taken.

    Otherwise a client that opens no window takes nothing, which counts as a drained
    buffer: it made the server hold a gigabyte in a second.
    """
    data = bytes(self.buffer[:max_length])
    del self.buffer[:max_length]
    if len(self.buffer) < BUFFER_LOW_WATER:
        await self._paused.set()
    if not self.buffer:
        await self._is_empty.set()
    return data


async def _stay_with_http1(self: H11Protocol, event: h11.Request) -> None:
    """Answer HTTP/1.1 also to those who offer HTTP/2 without TLS.

    Hypercorn switches to HTTP/2 on any port when asked, by upgrade or by preface, and
    has no setting against it. There an early answer, or a byte that is not ASCII in a
    path, raises in the connection's task; and a connection that never asks for anything
    is never closed.
    """


class Hardened:
    """An ASGI application whose last send is finished and whose sends give way.

    * Quart-Trio cancels the sending task as soon as it hears of the end of the answer,
      while Hypercorn is still recycling the connection: the keep-alive timer never
      restarts, and a shutdown waits its whole grace for the idle connection. So the last
      message of an answer is shielded.
    * A send to a WebSocket whose peer has left returns at once without a checkpoint: a
      loop of sends would hold the thread for ever. So each is followed by one.
    """

    def __init__(self, app: ASGIFramework) -> None:
        self._app = app

    def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> Awaitable[None]:
        """Serve one connection of the application inside."""
        guards: dict[str, Any] = {"http": _finishing, "websocket": _giving_way}
        guard = guards.get(scope["type"])
        return self._app(scope, receive, guard(send) if guard else send)


def _finishing(send: ASGISendCallable) -> ASGISendCallable:
    async def finishing(message: ASGISendEvent) -> None:
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if not last:
            await send(message)
            return
        with trio.move_on_after(LAST_SEND_S, shield=True):
            await send(message)

    return finishing


def _giving_way(send: ASGISendCallable) -> ASGISendCallable:
    async def giving_way(message: ASGISendEvent) -> None:
        await send(message)
        await trio.lowlevel.checkpoint()

    return giving_way
