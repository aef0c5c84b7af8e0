"""Looking up names: one that nobody answers for holds up nothing else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import trio

from orchestra.errors import ModelError, ModelTimeoutError
from orchestra.protocols import HttpRequest, Timeouts
from orchestra.providers.connections.lookup import AT_ONCE, Lookups, limit_lookups
from orchestra.providers.network import open_transport
from orchestra.server.processes.serve import serve
from tests.providers.upstream import run
from tests.server.served import PIPELINES

CALLS = 60
"""More than the threads that Trio has for everybody."""
PATIENCE_S = 10.0
SILENT = "silent.example"
QUICK = Timeouts(connect_s=0.05)


class NameServer:
    """In place of the system's look-ups: it is silent on one name, until it is `over`."""

    def __init__(self, real: Callable[..., Any]) -> None:
        self.asked = 0
        self.over = threading.Event()
        self._real = real

    def __call__(self, host: Any, port: Any, *rest: int, **named: int) -> Any:
        if host not in (SILENT, SILENT.encode()):
            return self._real(host, port, *rest, **named)
        flags = rest[3] if len(rest) > 3 else named.get("flags", 0)
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "it is no number")
        self.asked += 1
        self.over.wait(PATIENCE_S)
        raise socket.gaierror(socket.EAI_AGAIN, "nobody knows")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    made = NameServer(socket.getaddrinfo)
    monkeypatch.setattr(socket, "getaddrinfo", made)
    try:
        yield made
    finally:
        made.over.set()


def test_a_name_that_nobody_answers_for_holds_up_nothing_else(names: NameServer) -> None:
    """Neither what wants a thread of those that are everybody's, nor the name of another."""

    async def main() -> None:
        failed: list[ModelError] = []
        async with open_transport(proxies={}) as transport:

            async def ask() -> None:
                try:
                    async with transport.send(HttpRequest(f"http://{SILENT}/", timeouts=QUICK)):
                        pass
                except ModelError as error:
                    failed.append(error)

            async with trio.open_nursery() as nursery:
                for _ in range(CALLS):
                    nursery.start_soon(ask)
            assert [type(each) for each in failed] == [ModelTimeoutError] * CALLS
            assert names.asked <= AT_ONCE
            with trio.fail_after(PATIENCE_S / 2):
                assert await trio.to_thread.run_sync(int) == 0
                assert await trio.socket.getaddrinfo("localhost", 80)
                assert await trio.socket.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICSERV)

    run(main)


def test_in_a_server_the_name_of_a_store_holds_up_nothing_else(names: NameServer) -> None:
    """Redis is asked again a few times a second, and each time its name would take a thread."""

    async def ask() -> None:
        with trio.move_on_after(QUICK.connect_s or 0):
            await trio.open_tcp_stream(SILENT, 6379)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, PIPELINES, port=0))
            async with trio.open_nursery() as calls:
                for _ in range(CALLS):
                    calls.start_soon(ask)
            with trio.fail_after(PATIENCE_S / 2):
                assert await trio.to_thread.run_sync(int) == 0
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_how_a_program_looks_up_names_is_left_as_it_is() -> None:
    async def main() -> None:
        own = Lookups()
        assert trio.socket.set_custom_hostname_resolver(own) is None
        limit_lookups()
        assert trio.socket.set_custom_hostname_resolver(None) is own
        limit_lookups()
        first = trio.socket.set_custom_hostname_resolver(None)
        assert isinstance(first, Lookups)

    trio.run(main)
