"""Where there is no room for a connection, and where there is none to be had."""

from __future__ import annotations

import threading

import pytest
import trio
import trio.testing

from orchestra.errors import ModelConnectionError, ModelTimeoutError
from orchestra.protocols import HttpRequest, Timeouts
from orchestra.providers.connections.pool import HttpLimits
from orchestra.providers.network import open_transport
from tests import ipv6
from tests.providers.upstream import (
    CHUNKED,
    OK,
    Visit,
    answering,
    fetch,
    open_sockets,
    read,
    run,
    streaming,
    until,
    upstream,
)
from tests.server.connections.test_bounded_listener import no_descriptor_left

# --- where there is no room -------------------------------------------------------------------


def test_who_waits_for_a_connection_is_served_in_turn() -> None:
    served: list[int] = []

    async def main() -> None:
        limits = HttpLimits(connections_max=2)
        async with upstream(answering(OK)) as server, open_transport(limits=limits) as transport:

            async def ask(number: int) -> None:
                await fetch(transport, server.url)
                served.append(number)

            async with trio.open_nursery() as nursery, transport.send(HttpRequest(server.url)):
                for number in range(6):
                    nursery.start_soon(ask, number)
                    await trio.testing.wait_all_tasks_blocked()
                await until(lambda: len(served) == 6)  # over one, while the other is taken
            assert len(server.visits) == 2

    run(main)
    assert sorted(served) == served


def test_waiting_for_a_connection_has_bounds() -> None:
    """In time by `connect_s`, and in number by `waiting_max`."""

    async def main() -> None:
        limits = HttpLimits(connections_max=1, waiting_max=1)
        async with upstream(streaming) as server, open_transport(limits=limits) as transport:

            async def late() -> None:
                with pytest.raises(ModelTimeoutError) as caught:
                    await fetch(transport, server.url, Timeouts(connect_s=0.05))
                assert caught.value.code == "connect_s"

            async with transport.send(HttpRequest(server.url)), trio.open_nursery() as nursery:
                nursery.start_soon(late)
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(ModelConnectionError, match="raise connections_max") as caught:
                    await fetch(transport, server.url)
                assert caught.value.code == "waiting_max"
            assert len(server.visits) == 1

    run(main)


@pytest.mark.parametrize("thread", [False, True])
def test_the_place_of_an_answer_that_is_thrown_away_is_given_to_who_waits(*, thread: bool) -> None:
    """Also where another thread throws it away, which may not wake a task of Trio's."""
    served: list[int] = []

    async def main() -> None:
        limits = HttpLimits(connections_max=1)
        async with upstream(streaming) as server, open_transport(limits=limits) as transport:

            async def ask() -> None:
                async with transport.send(HttpRequest(server.url)) as reply:
                    served.append(reply.status)

            exchange = transport.send(HttpRequest(server.url))
            held: list[object] = [await exchange.__aenter__(), exchange]
            del exchange
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                assert not served
                if thread:
                    await trio.to_thread.run_sync(held.clear)
                else:
                    held.clear()

    run(main)
    assert served == [200]


@pytest.mark.parametrize("thread", [False, True])
def test_an_answer_that_outlives_its_trio_run_closes_its_connection(*, thread: bool) -> None:
    held: list[object] = []

    async def main() -> None:
        async with upstream(streaming) as server, open_transport() as transport:
            exchange = transport.send(HttpRequest(server.url))
            held.extend([await exchange.__aenter__(), exchange])

    before = open_sockets()
    run(main)
    assert open_sockets() == before + 1
    if thread:
        other = threading.Thread(target=held.clear)
        other.start()
        other.join()
    else:
        held.clear()
    assert open_sockets() == before


@pytest.mark.parametrize("how", ["answer", "leave", "cancel", "fail", "wait"])
def test_a_place_is_always_given_back(how: str) -> None:
    async def stop(visit: Visit) -> None:
        await visit.request()
        if how == "answer":
            await visit.send(OK)
            await answering(OK)(visit)
        elif how != "fail":
            await visit.send(CHUNKED)
            await visit.left()

    async def main() -> None:
        limits = HttpLimits(connections_max=1)
        cut = how in ("cancel", "wait")
        async with upstream(stop) as server, open_transport(limits=limits) as transport:
            for _ in range(5):
                with trio.move_on_after(0.02 if cut else 10) as scope:
                    try:
                        async with transport.send(HttpRequest(server.url)) as reply:
                            if how == "wait":
                                await fetch(transport, server.url)
                            if how != "leave":
                                await read(reply)
                    except ModelConnectionError:
                        assert how == "fail"
                assert scope.cancelled_caught == cut
            (place,) = transport._pool._places.values()
            assert place.slots is not None
            assert place.slots.borrowed_tokens == 0
            assert place.waiting == 0

    run(main)


# --- where there is no connection -------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_origin_that_cannot_be_reached_is_named(host: str) -> None:
    async def main() -> None:
        async with upstream(answering(OK), host=host) as server:
            url = server.url
        async with open_transport() as transport:
            before = open_sockets()
            with pytest.raises(ModelConnectionError, match="Connection refused") as caught:
                await fetch(transport, url)
            assert open_sockets() == before
            origin = f"{host}:{server.port}"
            assert f"{origin} could not be reached: Connection refused; is" in str(caught.value)
            assert caught.value.code == "connect"

    run(main)


@pytest.mark.parametrize("proxies", [{}, {"all": "http://127.0.0.1:1"}])
def test_where_no_descriptor_is_left_the_base_url_is_not_to_blame(proxies: dict[str, str]) -> None:
    async def main() -> None:
        async with open_transport(proxies=proxies) as transport:
            with pytest.raises(ModelConnectionError, match="Connection refused; is the"):
                await fetch(transport, "http://127.0.0.1:1/")
            says = "reached: Too many open files; raise this process's limit"
            with no_descriptor_left(), pytest.raises(ModelConnectionError, match=says):
                await fetch(transport, "http://127.0.0.1:1/")

    run(main)


ADDRESSES = [("127.0.0.1", "127.0.0.1"), pytest.param("::1", "[::1]", marks=ipv6.NEEDED)]


@pytest.mark.parametrize(("host", "written"), ADDRESSES)
def test_an_address_may_be_of_either_kind(host: str, written: str) -> None:
    async def main() -> None:
        listeners = await trio.open_tcp_listeners(0, host=host)
        port = listeners[0].socket.getsockname()[1]
        async with open_transport() as transport, trio.open_nursery() as nursery:
            nursery.start_soon(fetch, transport, f"http://{written}:{port}/")
            async with await listeners[0].accept() as stream:
                request = await stream.receive_some()
                assert f"host: {written}:{port}\r\n".encode() in request
                await stream.send_all(OK)
        await listeners[0].aclose()

    run(main)


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 70 + ".invalid", "a..b"])
def test_a_name_that_leads_nowhere_is_an_error(host: str) -> None:
    async def main() -> None:
        async with open_transport() as transport:
            with pytest.raises(ModelConnectionError, match="could not be reached"):
                await fetch(transport, f"http://{host}/")

    run(main)


def test_a_connection_that_does_not_come_about_has_a_bound() -> None:
    """A server that listens, and whose queue is full."""

    async def main() -> None:
        with trio.socket.socket() as listening:
            await listening.bind(("127.0.0.1", 0))
            listening.listen(0)
            port = listening.getsockname()[1]
            with trio.socket.socket() as first, trio.socket.socket() as second:
                with trio.move_on_after(0.05):
                    await first.connect(("127.0.0.1", port))
                    await second.connect(("127.0.0.1", port))
                async with open_transport() as transport:
                    before = open_sockets()
                    with pytest.raises(
                        ModelTimeoutError, match="there was no connection"
                    ) as caught:
                        await fetch(
                            transport, f"http://127.0.0.1:{port}/", Timeouts(connect_s=0.05)
                        )
                    assert caught.value.code == "connect_s"
                    assert open_sockets() == before

    run(main)
