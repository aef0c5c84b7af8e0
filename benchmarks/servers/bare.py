"""The least that can serve an event stream on Trio: h11, one task per connection.

It notices a client who left only when it writes to it, routes nothing and drains
nothing: a floor, not something to deploy.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from itertools import count
from urllib.parse import parse_qs, urlsplit

import h11
import trio

from benchmarks.servers.sse import event

BACKLOG = 2048
READ_BYTES = 65_536


async def _serve(stream: trio.SocketStream) -> None:
    connection = h11.Connection(h11.SERVER)
    async with stream:
        with suppress(trio.BrokenResourceError):  # the client left
            await _answer(connection, stream, await _request(connection, stream))


async def _request(connection: h11.Connection, stream: trio.SocketStream) -> h11.Request:
    while True:  # noqa: ASYNC913 - every read is a checkpoint
        match connection.next_event():
            case h11.Request() as request:
                return request
            case h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(READ_BYTES))
            case other:
                raise trio.BrokenResourceError(f"a request was expected, not {other!r}")


async def _answer(
    connection: h11.Connection, stream: trio.SocketStream, request: h11.Request
) -> None:
    every_s = float(parse_qs(urlsplit(request.target.decode()).query)["every_s"][0])
    head = h11.Response(
        status_code=200,
        headers=[("content-type", "text/event-stream"), ("transfer-encoding", "chunked")],
    )
    await stream.send_all(connection.send(head) or b"")
    began = trio.current_time()
    for seq in count(1):
        data = h11.Data(data=event(seq, trio.current_time() - began))
        await stream.send_all(connection.send(data) or b"")
        await trio.sleep_until(began + seq * every_s)


async def main() -> None:
    """Serve on a free loopback port, and print it."""
    async with trio.open_nursery() as nursery:
        listen = partial(trio.serve_tcp, _serve, 0, host="127.0.0.1", backlog=BACKLOG)
        listeners = await nursery.start(listen)
        print(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}", flush=True)


if __name__ == "__main__":
    trio.run(main)
