"""Who comes in: one address never holds every place, and every place is given back."""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Address, IPv6Address

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.server.connections.bounded_listener import (
    _OWN_DESCRIPTORS,
    AGAIN_S,
    BoundedListener,
    clients_max,
    whose,
)
from orchestra.server.connections.sockets import bind
from orchestra.server.settings import Settings
from tests.patience import PATIENCE_S

BEHIND = "127.0.0.9"
"""Of one who always has a place: what is accepted next tells what became of the one before."""
ADDRESSES = [f"127.0.0.{number}" for number in (1, 2, 3)]


@given(
    st.lists(st.tuples(st.sampled_from(ADDRESSES), st.booleans()), max_size=25), st.integers(1, 3)
)
@example([("127.0.0.1", True)] * 3 + [("127.0.0.1", False)] + [("127.0.0.1", True)] * 2, 2)
def test_nobody_has_more_than_their_share_and_what_they_leave_is_theirs_again(
    moves: list[tuple[str, bool]], most: int
) -> None:
    """Each move is a client of an address that comes, or one of them that goes."""

    async def main() -> None:
        settings = Settings(connections_max=50, connections_per_address_max=most)
        listener = bind("127.0.0.1", 0, settings)
        port = listener.getsockname()[1]
        inside: dict[str, list[trio.SocketStream]] = {each: [] for each in ADDRESSES}
        async with BoundedListener(listener, settings) as clients:
            for address, comes in moves:
                here = inside[address]
                if not comes:
                    if here:
                        clients.left(here[-1])
                        await here.pop().aclose()
                    continue
                connect = partial(trio.open_tcp_stream, "127.0.0.1", port)
                async with (
                    await connect(local_address=address) as client,
                    await connect(local_address=BEHIND) as other,
                ):
                    entered, has_place = await clients.accept(), len(here) < most
                    if has_place:
                        here.append(entered)
                        assert entered.socket.getpeername()[0] == address
                        entered = await clients.accept()
                    assert entered.socket.getpeername() == other.socket.getsockname()
                    assert has_place or await client.receive_some() == b"", "closed at once"
                    clients.left(entered)
                    await entered.aclose()
            for each in (stream for streams in inside.values() for stream in streams):
                clients.left(each)
                await each.aclose()
            assert clients._slots.value == 50
            assert not clients._held

    in_time(main)


def in_time(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        with trio.fail_after(PATIENCE_S):
            await main()

    trio.run(limited)


@given(st.ip_addresses(v=4))
def test_an_address_counts_for_itself_however_it_is_written(address: IPv4Address) -> None:
    assert whose(str(address)) == (str(address), address.is_loopback)
    assert whose(f"::ffff:{address}") == whose(str(address))


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_all_of_a_network_counts_as_one(address: IPv6Address, other: int) -> None:
    if address.ipv4_mapped is None:
        neighbour = IPv6Address(int(address) >> 64 << 64 | other)
        assert (
            neighbour.ipv4_mapped is not None or whose(str(neighbour))[0] == whose(str(address))[0]
        )
        assert whose(f"{address}%eth0") == whose(str(address))


def test_this_machine_may_hold_all_where_nothing_is_said() -> None:
    """A proxy is one address."""
    assert whose("::1")[1]
    assert not whose("10.0.0.1")[1]

    async def main() -> None:
        settings, inside = Settings(connections_max=3), list[trio.SocketStream]()
        listener = bind("127.0.0.1", 0, settings)
        async with BoundedListener(listener, settings) as clients:
            for _ in range(3):
                client = await trio.open_tcp_stream("127.0.0.1", listener.getsockname()[1])
                inside.extend((client, await clients.accept()))
            assert clients._slots.value == 0
        for each in inside:
            await each.aclose()

    in_time(main)


def test_whoever_has_left_before_they_were_let_in_takes_no_place() -> None:
    """The kernel no longer knows whose a connection was that is gone."""

    async def main() -> None:
        listener = bind("127.0.0.1", 0, Settings())
        async with BoundedListener(listener, Settings()) as clients:
            gone = await trio.open_tcp_stream(*listener.getsockname())
            await gone.aclose()
            assert not clients._enters(gone)
            assert clients.inside == 0

    in_time(main)


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """As under a small `ulimit -n`, once all are taken."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 50, hard))
    try:
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            yield
    finally:
        for each in taken:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_where_no_descriptor_is_left_that_is_said_once_and_who_waits_comes_in_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        settings = Settings(connections_max=1)
        listener = bind("127.0.0.1", 0, settings)
        async with (
            BoundedListener(listener, settings) as clients,
            await trio.open_tcp_stream("127.0.0.1", listener.getsockname()[1]) as client,
        ):
            with no_descriptor_left(), trio.move_on_after(2.5 * AGAIN_S):
                await clients.accept()
            with trio.fail_after(PATIENCE_S):
                entered = await clients.accept()  # the place was given back
            assert entered.socket.getpeername() == client.socket.getsockname()
            clients.left(entered)
            await entered.aclose()

    trio.run(main)
    assert [(each.name, each.levelno) for each in caplog.records] == [
        ("orchestra.server", logging.ERROR)
    ]
    assert "no connection can be accepted: Too many open files" in caplog.messages[0]


@given(st.integers(1, 10**6), st.integers(1, 10**5))
def test_half_of_the_descriptors_are_for_calls_of_models(descriptors: int, wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = min(descriptors, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
    try:
        most = clients_max(wanted)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert 1 <= most <= wanted
    assert most == 1 or 2 * most + _OWN_DESCRIPTORS <= descriptors
    assert most == wanted or 2 * (most + 1) + _OWN_DESCRIPTORS > descriptors


def test_clients_wait_while_there_is_a_descriptor_left_for_a_call_of_a_model(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They used to take the last ones: calls failed then, and breakers of healthy models opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main() -> None:
        settings, inside = Settings(), list[trio.SocketStream]()
        listener = bind("127.0.0.1", 0, settings)
        resource.setrlimit(resource.RLIMIT_NOFILE, (_OWN_DESCRIPTORS + 7, hard))
        try:
            clients = BoundedListener(listener, settings)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        async with clients:
            for _ in range(4):
                inside.append(await trio.open_tcp_stream(*listener.getsockname()))
            for _ in range(3):
                inside.append(await clients.accept())
            for _ in range(2):
                with trio.move_on_after(0.05) as waits:
                    await clients.accept()
                assert waits.cancelled_caught
            clients.left(inside[-1])
            with trio.fail_after(PATIENCE_S):
                inside.append(await clients.accept())
        for each in inside:
            await each.aclose()

    trio.run(main)
    (told,) = caplog.messages
    assert "no connection can be accepted: 3 are open, as many as the limit on open files" in told
