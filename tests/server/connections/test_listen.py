"""The door: connections that fail alone, sends that end, a shutdown that is on time."""

from __future__ import annotations

import errno
import socket
import sys
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import Any, cast

import attrs
import h2.config
import h2.connection
import pytest
import trio
import trio.testing
from hypercorn.config import Config
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio import serve as serve_stock
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from orchestra.errors import ServeError
from orchestra.server.connections.listen import (
    BURST_MAX,
    REQUESTS_MAX,
    obey,
)
from orchestra.server.connections.sockets import bind
from orchestra.server.settings import Settings
from tests.patience import PATIENCE_S
from tests.server.wire import STOCK_CHECK_PROTOCOL, Client, House, Reply, open_house

CHUNK = b"x" * 256 * 1024
"""More than a socket takes at once, once its buffers are full."""
NOT_EVERYWHERE = pytest.mark.may_skip("only Linux has TCP_USER_TIMEOUT")
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="there is no TCP_USER_TIMEOUT here")


async def hello(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    headers = [(b"content-length", b"3")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hi\n", "more_body": False})


async def endless(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})


# --- one connection's failure ------------------------------------------------------------------


async def send_what_hypercorn_trips_over(client: Client) -> None:
    """An HTTP/2 request whose path is not ASCII, which raises in Hypercorn 0.18."""
    config = h2.config.H2Configuration(header_encoding=None, normalize_outbound_headers=False)
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    headers = [(b":method", b"GET"), (b":path", b"/\xff"), (b":scheme", b"http")]
    connection.send_headers(1, [*headers, (b":authority", b"t")], end_stream=True)
    await client.stream.send_all(connection.data_to_send())
    while not await client.closed():
        pass


async def stock_server(nursery: trio.Nursery) -> int:
    """Hypercorn's own `serve` of `hello`, on a free port."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    config.graceful_timeout = 0.1
    binds: list[str] = await nursery.start(partial(serve_stock, hello, config))
    return int(binds[0].rsplit(":", 1)[1])


def test_the_trap_that_one_connection_ends_the_server_is_still_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(H11Protocol, "_check_protocol", STOCK_CHECK_PROTOCOL)

    async def main() -> None:
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                port = await stock_server(nursery)
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    await send_what_hypercorn_trips_over(Client(stream))
                    await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:  # noqa: ASYNC401 - the group is what is shown
        trio.run(main)
    assert caught.group_contains(UnicodeDecodeError)


def test_a_connection_that_fails_is_closed_alone_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(H11Protocol, "_check_protocol", STOCK_CHECK_PROTOCOL)

    async def main() -> bytes:
        async with open_house(hello, Settings()) as house:
            await send_what_hypercorn_trips_over(await house.connect())
            return (await (await house.connect()).ask("GET / HTTP/1.1")).body

    assert trio.run(main) == b"hi\n"
    assert [record.name for record in caplog.records] == ["orchestra.server"]
    assert "UnicodeDecodeError" in caplog.text


# --- a client that stops reading ---------------------------------------------------------------


async def stalled(house: House) -> Client:
    """A client that was sent something and reads no more."""
    client = await house.connect()
    await client.send("GET / HTTP/1.1")
    await client.head()
    return client


def test_the_trap_that_a_stalled_client_holds_up_the_shutdown_is_still_there() -> None:
    async def main() -> bool:
        ended = trio.Event()
        config = Config()
        config.bind = ["127.0.0.1:0"]
        config.errorlog = None
        config.graceful_timeout = 0.05

        async def server(*, task_status: trio.TaskStatus[list[str]]) -> None:  # noqa: ASYNC128 - an ASGI server is not started so
            trigger = shut.wait
            await serve_stock(endless, config, shutdown_trigger=trigger, task_status=task_status)
            ended.set()

        shut = trio.Event()
        async with trio.open_nursery() as nursery:
            binds: list[str] = await nursery.start(server)
            port = int(binds[0].rsplit(":", 1)[1])
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                client = Client(stream)
                await client.send("GET / HTTP/1.1")
                await client.head()
                shut.set()
                with trio.move_on_after(1):
                    await ended.wait()
                return ended.is_set()  # noqa: ASYNC121 - nothing is left in it

    assert not trio.run(main)


def test_a_stalled_client_does_not_hold_up_the_shutdown() -> None:
    async def main() -> float:
        async with open_house(endless, Settings()) as house:
            await stalled(house)
            began = trio.current_time()
            house.server.shut()
            house.server.close_by(began + 0.1)
            await house.empty.wait()
            return trio.current_time() - began

    assert trio.run(main) < PATIENCE_S / 2


@pytest.mark.parametrize("by_kernel", [False, pytest.param(True, marks=[ON_LINUX, NOT_EVERYWHERE])])
def test_a_client_that_takes_nothing_is_given_up(by_kernel: bool) -> None:
    """By our own bound on every system; on Linux by the kernel too, where we write nothing."""
    ended = trio.Event()

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(endless, scope, receive, send)
            while (await receive())["type"] != "http.disconnect":
                pass
            ended.set()
            nursery.cancel_scope.cancel()

    async def main() -> None:
        ours = Settings(stall_s=1000 if by_kernel else 0.5)
        kernels = Settings(stall_s=0.5 if by_kernel else 1000)
        async with open_house(app, ours, bind("127.0.0.1", 0, kernels)) as house:
            client = await stalled(house)
            await ended.wait()
            with suppress(trio.BrokenResourceError):
                await client.rest()  # up to where the server closed

    trio.run(main)


def test_a_client_that_goes_while_it_is_written_to_lets_the_writer_go() -> None:
    """Also a writer that does not listen for its client's departure."""
    gone, went_on = trio.Event(), trio.Event()

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        async def watched(message: Any) -> None:
            await send(message)
            if gone.is_set():
                went_on.set()

        await endless(scope, receive, watched)

    async def main() -> None:
        async with open_house(app, Settings()) as house:
            client = await stalled(house)
            await trio.testing.wait_all_tasks_blocked(0.05)
            client.stream.socket.close()
            gone.set()
            await went_on.wait()

    trio.run(main)


def test_behind_a_send_that_was_cut_nothing_is_written() -> None:
    """The next byte would stand in the middle of what was cut, and look like its rest."""
    cut = trio.Event()

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with trio.move_on_after(0.05) as scope_:
            while True:
                await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
        assert scope_.cancelled_caught
        cut.set()
        await send({"type": "http.response.body", "body": b"rest", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def main() -> bytes:
        async with open_house(app, Settings()) as house:
            client = await stalled(house)
            await cut.wait()
            return await client.rest()

    assert not trio.run(main).endswith((b"rest\r\n", b"rest\r\n0\r\n\r\n"))


def test_an_application_that_only_sends_lets_the_others_run() -> None:
    turns = 0
    sends = 10 * BURST_MAX

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        await send({"type": "http.response.start", "status": 200, "headers": []})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            for _ in range(sends):
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
            nursery.cancel_scope.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def main() -> Reply:
        async with open_house(app, Settings()) as house:
            return await (await house.connect()).ask("GET / HTTP/1.1")

    assert trio.run(main).body == b"x" * sends
    assert turns >= sends / BURST_MAX - 1


def test_no_response_on_a_kept_connection_takes_a_turn_more_than_the_others() -> None:
    """Between two requests the connection has waited, so others had their turns."""
    turns: Counter[trio.lowlevel.Task] = Counter()

    class Counting(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            if task.name.endswith("_handle"):
                turns[task] += 1

    async def main() -> None:
        async with open_house(hello, Settings()) as house:
            client = await house.connect()
            trio.lowlevel.add_instrument(Counting())
            for _ in range(2 * BURST_MAX):
                await client.ask("GET / HTTP/1.1")

    trio.run(main)
    assert len(turns) == 2 * BURST_MAX
    assert len(set(turns.values())) == 1


@pytest.mark.parametrize(("size", "times"), [(300_000, 5), (1_000, 1_500)])
def test_a_client_that_reads_late_gets_every_byte_in_one_piece(size: int, times: int) -> None:
    """Also what the kernel took in part or not at all, while others were writing too."""
    writers = b"abcd"

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        async def write(letter: int) -> None:
            part = bytes([letter]) * size
            for _ in range(times):
                await send({"type": "http.response.body", "body": part, "more_body": True})

        await send({"type": "http.response.start", "status": 200, "headers": []})
        async with trio.open_nursery() as nursery:
            for letter in writers:
                nursery.start_soon(write, letter)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def main() -> list[bytes]:
        async with open_house(app, Settings()) as house:
            client = await stalled(house)
            await trio.testing.wait_all_tasks_blocked(0.05)
            chunks = []
            while chunk := await client.chunk():
                chunks.append(chunk)
            return chunks

    parts = [bytes([letter]) * size for letter in writers]
    assert sorted(trio.run(main)) == sorted(parts * times)


@ON_LINUX
@NOT_EVERYWHERE
def test_on_linux_accepted_sockets_inherit_the_kernels_bound() -> None:
    listener = bind("127.0.0.1", 0, Settings(stall_s=7))
    with listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            bound_ms = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert bound_ms == 7000


def test_where_the_kernel_has_no_such_bound_we_listen_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT", raising=False)
    with bind("127.0.0.1", 0, Settings()) as listener:
        socket.create_connection(listener.getsockname()).close()


def test_what_another_server_serves_is_left_as_it_is() -> None:
    scope: dict[str, Any] = {"type": "websocket", "state": {}}
    obey(cast("Scope", scope), Settings())
    assert scope == {"type": "websocket", "state": {}}


# --- places ------------------------------------------------------------------------------------


def test_no_more_connections_are_accepted_than_there_are_places() -> None:
    async def main() -> None:
        async with open_house(hello, Settings(connections_max=1, keep_alive_s=1000)) as house:
            first, second = await house.connect(), await house.connect()
            await first.ask("GET / HTTP/1.1")
            await second.send("GET / HTTP/1.1")
            with trio.move_on_after(0.1) as waited:
                await second.reply()
            assert waited.cancelled_caught
            await first.stream.aclose()
            assert (await second.reply()).body == b"hi\n"

    trio.run(main)


def test_an_accept_that_fails_keeps_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may be out of descriptors for a while."""
    failures = [OSError(errno.EMFILE, "too many open files")] * 3
    accept = trio.SocketListener.accept

    async def failing(self: trio.SocketListener) -> trio.SocketStream:
        if failures:
            raise failures.pop()
        return await accept(self)

    monkeypatch.setattr(trio.SocketListener, "accept", failing)

    async def main() -> bytes:
        async with open_house(hello, Settings(connections_max=1)) as house:
            return (await (await house.connect()).ask("GET / HTTP/1.1")).body

    assert trio.run(main) == b"hi\n"


# --- where it listens --------------------------------------------------------------------------


def test_an_address_that_is_taken_is_told_with_what_to_do() -> None:
    with bind("127.0.0.1", 0, Settings()) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ServeError, match=rf"port {port}: .*in use.*port 0 takes a free one"):
            bind("127.0.0.1", port, Settings())


def test_a_kept_connection_is_closed_after_a_thousand_requests() -> None:
    """And its client is told with the answer: otherwise a new worker would never get it."""

    async def main() -> None:
        async with open_house(hello, Settings()) as house:
            client = await house.connect()
            for number in range(1, REQUESTS_MAX + 1):
                reply = await client.ask("GET / HTTP/1.1")
                assert reply.body == b"hi\n"
                last = reply.headers.get("connection") == "close"
                assert last == (number == REQUESTS_MAX)

    trio.run(main)


def test_a_host_that_does_not_exist_is_told() -> None:
    with pytest.raises(ServeError, match=r"host 'nowhere\.invalid'"):
        bind("nowhere.invalid", 0, Settings())


def test_a_request_that_is_too_long_for_its_headers_is_refused() -> None:
    async def main() -> int:
        async with open_house(hello, Settings(header_limit_bytes=1000)) as house:
            client = await house.connect()
            await client.stream.send_all(b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 2000)
            return (await client.head()).status

    assert trio.run(main) == 431


@pytest.mark.parametrize("name", ["stall_s", "connections_max", "body_limit_bytes"])
def test_a_bound_that_is_not_positive_is_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"Settings\({name}=0\): a bound must be a number greater than 0"
    ):
        attrs.evolve(Settings(), **cast("Any", {name: 0}))
