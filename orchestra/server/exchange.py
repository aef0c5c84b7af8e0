"""One HTTP request and its response, between the connection and the application."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

import trio
from quart.wrappers.response import DataBody
from quart_trio.asgi import TrioASGIHTTPConnection

from orchestra.server.connections.bodies import body_of, forget_heads, on_departure
from orchestra.server.connections.hardening import Mailbox
from orchestra.server.connections.listen import head_held
from orchestra.server.front.arrival import Arrival
from orchestra.server.front.departure import DepartingRequest, Departure
from orchestra.server.responses.whole_answers import Pairs
from orchestra.server.runs.event_streams import EventStream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
    from quart.typing import ResponseTypes
    from quart.wrappers.request import Body
    from werkzeug.datastructures import Headers

    from orchestra.server.front.layers import Answered
    from orchestra.server.settings import Settings

LISTENING = "client"
"""The name of tasks that wait for their client to leave; Trio would build a string for each."""


class Exchange(TrioASGIHTTPConnection):
    """A request and its response.

    A stream may be open for hours: meanwhile neither the request nor the response object is kept.
    """

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve one request; its `departure` is called at the end, whatever ends it."""
        holder = [self._new_request(send)]
        departure = holder[0].departure
        answered: Sequence[Answered] = cast("Any", self.app).answered
        began_s = trio.current_time() if answered else 0.0
        try:
            with trio.CancelScope() as answering:
                if _take_arrived(holder[0].body, receive, answering, self.scope):
                    await self._serve(holder, send, departure)
                    return
                async with trio.open_nursery() as nursery:
                    listen = (holder[0].body, receive, answering, self.scope)
                    nursery.start_soon(_listen, *listen, name=LISTENING)
                    del listen
                    await self._serve(holder, send, departure)
                    nursery.cancel_scope.cancel()
        finally:
            departure.act()
            for each in answered:
                lasted_s = trio.current_time() - began_s
                each(self.scope, departure.route, departure.status, lasted_s)

    def _new_request(self, send: ASGISendCallable) -> DepartingRequest:
        scope: Any = self.scope
        settings: Settings = cast("Any", self.app).settings
        address = (scope.get("client") or ["<local>"])[0]
        pairs = [(name.decode("latin1"), text.decode("latin1")) for name, text in scope["headers"]]
        headers = Pairs([("remote-addr", address), *pairs])
        limit_bytes = 0  # a body that nobody reads would be kept as long as a stream is open
        if scope["method"] == "POST":
            limit_bytes = settings.limit_of(Arrival.of(scope).header(b"content-type") or "")
        request = DepartingRequest(
            scope["method"],
            scope["scheme"],
            scope["path"].removeprefix(scope.get("root_path", "")),
            scope["query_string"],
            headers,
            scope.get("root_path", ""),
            scope["http_version"],
            max_content_length=limit_bytes,
            body_timeout=cast("int", settings.body_timeout_s),  # a float works as well
            send_push_promise=partial(self._send_push_promise, send),
            scope=scope,
        )
        request.departure = Departure()
        return request

    async def _serve(
        self, holder: list[DepartingRequest], send: ASGISendCallable, departure: Departure
    ) -> None:
        """Answer the one request in `holder`, removed from it so that nothing keeps it alive."""
        response = await self.app.handle_request(holder.pop())
        departure.status = response.status_code
        if isinstance(response, EventStream):
            headers, events = _encoded(response.headers), response.events
            del response
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            del headers
            forget_heads(self.scope)
            Arrival.of(self.scope).forget_headers()
            await events.write(body_of(self.scope, send))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        elif isinstance(body := response.response, DataBody):
            await self._send_whole(response, body.data[body.begin : body.end], send)
        else:
            await self._send_response(send, response)

    async def _send_whole(
        self, response: ResponseTypes, body: bytes, send: ASGISendCallable
    ) -> None:
        """Send a complete response, its head and its body in one write."""
        headers, status = _encoded(response.headers), response.status_code
        with head_held(self.scope):
            await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


def _encoded(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), text.encode()) for name, text in headers]


def _take_arrived(
    body: Body, receive: ASGIReceiveCallable, answering: trio.CancelScope, scope: Scope
) -> bool:
    """Take the part of the body that has arrived; return True if `_listen` is not needed.

    That is so if the body is complete and the connection itself reports the client's departure.
    """
    mailbox = getattr(receive, "__self__", None)
    if not isinstance(mailbox, Mailbox):
        return False
    while (message := mailbox.receive_nowait()) is not None:
        body.append(message["body"])
        if not message["more_body"]:
            body.set_complete()
            return on_departure(scope, answering.cancel)
    return False


async def _listen(
    body: Body, receive: ASGIReceiveCallable, answering: trio.CancelScope, scope: Scope
) -> None:
    """Take the body as it arrives, and cancel the response when the client leaves.

    Returns after the body if the connection itself reports the departure.
    """
    while True:
        message = await receive()
        if message["type"] != "http.request":
            answering.cancel()
            return
        body.append(message["body"])
        if not message["more_body"]:
            body.set_complete()
            if on_departure(scope, answering.cancel):
                return
