"""A server as a process: ready, asked to stop, and gone in time, with exit code 0."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

import attrs
import msgspec
import pytest
import trio

from orchestra.errors import ServeError
from orchestra.server.connections.sockets import bind
from orchestra.server.processes.serve import serve
from orchestra.server.settings import Settings
from tests import ipv6
from tests.patience import PATIENCE_S, line_with
from tests.server.served import PIPELINES
from tests.server.socketing import upgrade
from tests.server.test_sse import Message, dispatched
from tests.server.wire import Client, Reply

ROOT = Path(__file__).parents[3]
STREAM = "Accept: text/event-stream"
MARGIN_S = 15.0
"""What a busy machine may take to end a process whose server has ended: less than `drain_s` is by
default, or a server that does not heed its own would not be noticed."""


@attrs.frozen
class Server:
    """A server in a process of its own."""

    process: subprocess.Popen[bytes]
    port: int

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A new client."""
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            yield Client(stream)

    def stop(self) -> None:
        """Ask it to stop."""
        self.process.send_signal(signal.SIGTERM)

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode())

    async def exited(self) -> int:
        """Wait until it is gone; its exit code."""
        return await trio.to_thread.run_sync(partial(self.process.wait, PATIENCE_S))

    def rss_bytes(self) -> int:
        """The memory that it holds."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def server(**settings: float) -> Iterator[Server]:
    """A server of the test pipelines; killed when left."""
    command = [sys.executable, "-m", "tests.server.served", msgspec.json.encode(settings).decode()]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, bufsize=0) as process:
        try:
            assert process.stdout is not None
            url = line_with(process.stdout, "").strip()
            assert url.startswith("http://127.0.0.1:"), "only this machine can reach it"
            yield Server(process, int(url.rpartition(":")[2]))
        finally:
            process.kill()


async def held(client: Client, number: int) -> None:
    """Start a run that falls silent behind this number, and read up to it."""
    asked = f"count={number + 1}&hold=true"
    await client.send(f"GET /v1/pipelines/count/runs?{asked} HTTP/1.1\n{STREAM}")
    await client.until(f'"{number} "'.encode())


def last_event(seen: bytes) -> Message:
    """The last event in what was seen of a chunked stream."""
    return dispatched(seen.replace(b"\r\n", b"\n"))[-1]


# --- stopping ----------------------------------------------------------------------------------


async def refused(port: int) -> None:
    """Wait until nobody is let in any more."""
    with suppress(OSError):
        while True:
            async with await trio.open_tcp_stream("127.0.0.1", port) as late:
                await Client(late).closed()


def test_an_idle_server_stops_at_once() -> None:
    async def main(at: Server) -> tuple[int, float]:
        async with at.client() as client:
            await client.ask("GET /v1/pipelines HTTP/1.1")
            began_s = trio.current_time()
            at.stop()
            return await at.exited(), trio.current_time() - began_s

    with server(drain_s=100) as at:
        code, took_s = trio.run(main, at)
    assert code == 0
    assert took_s < MARGIN_S


def test_a_run_may_end_in_its_own_time_while_nobody_is_let_in_any_more() -> None:
    async def main(at: Server) -> tuple[str, int]:
        async with at.client() as client:
            await client.send(f"GET /v1/pipelines/told/runs?question=who HTTP/1.1\n{STREAM}")
            await client.until(b'"who"')
            at.stop()
            await refused(at.port)
            at.tell("me\n")
            return last_event(await client.rest()).event, await at.exited()

    with server(drain_s=100) as at:
        assert trio.run(main, at) == ("run.finished", 0)


async def ready(at: Server) -> Reply:
    """What `/readyz` says."""
    async with at.client() as client:
        return await client.ask("GET /readyz HTTP/1.1")


def test_of_two_hundred_streams_none_is_cut_within_the_drain_time() -> None:
    """And until they end, `/readyz` says that no new ones are welcome."""
    count = 200

    async def read(at: Server, begun: trio.Event, ended: list[str], waiting: list[None]) -> None:
        async with at.client() as client:
            await client.send(f"GET /v1/pipelines/gate/runs HTTP/1.1\n{STREAM}")
            await client.until(b"held")
            waiting.append(None)
            if len(waiting) == count:
                begun.set()
            ended.append(last_event(await client.rest()).event)

    async def main(at: Server) -> tuple[list[str], int]:
        begun, ended = trio.Event(), list[str]()
        waiting: list[None] = []
        with trio.fail_after(PATIENCE_S * 3):
            async with trio.open_nursery() as nursery:
                for _ in range(count):
                    nursery.start_soon(read, at, begun, ended, waiting)
                await begun.wait()
                assert (await ready(at)).status == 200
                at.stop()
                while (last := await ready(at)).status == 200:
                    pass
                assert last.headers["connection"] == "close", "a proxy goes to another host"
                await refused(at.port)
                at.tell("go\n")
        return ended, await at.exited()

    with server(drain_s=100, shutdown_delay_s=2) as at:
        assert trio.run(main, at) == (["run.finished"] * count, 0)


def test_a_run_that_does_not_end_is_told_so_in_its_last_event() -> None:
    async def main(at: Server) -> tuple[bytes, int, float]:
        async with at.client() as client:
            await held(client, 2)
            began_s = trio.current_time()
            at.stop()
            return await client.rest(), await at.exited(), trio.current_time() - began_s

    with server(drain_s=0.3, farewell_s=100) as at:
        seen, code, took_s = trio.run(main, at)
    assert seen.endswith(b"\r\n0\r\n\r\n"), "the answer is complete, as HTTP sees it"
    last = last_event(seen)
    assert last.event == "run.cancelled"
    assert msgspec.json.decode(last.data)["reason"] == "the server was stopped"
    assert code == 0
    assert 0.3 <= took_s < 0.3 + MARGIN_S


def test_a_client_that_waits_for_its_answer_is_told_too() -> None:
    async def main(at: Server) -> tuple[int, object]:
        running = b"\norchestra_runs_running 1.0\n"
        with trio.fail_after(PATIENCE_S):
            async with at.client() as client, at.client() as other:
                await client.send("GET /v1/pipelines/count/runs?hold=true HTTP/1.1")
                while running not in (await other.ask("GET /metrics HTTP/1.1")).body:
                    pass
                at.stop()
                reply = await client.reply()
        return reply.status, reply.json["detail"]

    with server(drain_s=0.1) as at:
        assert trio.run(main, at) == (503, "the run was cancelled: the server was stopped")


# --- a client that stops reading ---------------------------------------------------------------


def test_a_client_that_stops_reading_costs_no_memory_and_no_time() -> None:
    """An endless run stands still; SIGTERM is obeyed within drain and farewell."""
    drain_s, farewell_s = 0.2, 0.2

    async def main(at: Server) -> tuple[int, int, float]:
        async with at.client() as client, at.client() as stalled:
            await held(client, 0)
            await stalled.send(f"GET /v1/pipelines/endless/runs HTTP/1.1\n{STREAM}")
            await stalled.head()
            before = at.rss_bytes()
            for _ in range(20):  # a second, in which the run could write gigabytes
                await client.until(b": ping\n")
            grown = at.rss_bytes() - before
            began_s = trio.current_time()
            at.stop()
            return grown, await at.exited(), trio.current_time() - began_s

    with server(drain_s=drain_s, farewell_s=farewell_s, heartbeat_s=0.05) as at:
        grown, code, took_s = trio.run(main, at)
    assert grown < 1_000_000
    assert code == 0
    assert took_s < drain_s + farewell_s + MARGIN_S


def test_a_client_that_is_killed_cancels_its_run() -> None:
    """A process this time, as curl is: its kernel closes for it."""
    script = f"""
import socket, sys
request = "GET /v1/pipelines/count/runs?hold=1 HTTP/1.1", "Host: t", "{STREAM}", "", ""
client = socket.create_connection(("127.0.0.1", %d))
client.sendall("\\r\\n".join(request).encode())
heard = b""
while b'"9 "' not in heard:
    heard += client.recv(65536) or sys.exit("it ended")
print("there", flush=True)
client.recv(1)
"""

    async def main(at: Server) -> int:
        await at.exited()
        return at.process.returncode

    with server(drain_s=1000) as at:
        command = [sys.executable, "-c", script % at.port]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
            assert killed.stdout is not None
            assert killed.stdout.readline() == "there\n"
            killed.kill()
        at.stop()  # which waits for the run, if there is still one, for a quarter of an hour
        assert trio.run(main, at) == 0


# --- in this process ---------------------------------------------------------------------------


def test_it_tells_its_url_once_it_is_ready() -> None:
    urls: list[str] = []

    async def main() -> str:
        async with trio.open_nursery() as nursery:
            start = partial(serve, PIPELINES, port=0, on_ready=urls.append)
            url: str = await nursery.start(start)
            port = int(url.rpartition(":")[2])
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                assert (await Client(stream).ask("GET /v1/pipelines HTTP/1.1")).status == 200
            nursery.cancel_scope.cancel()
        return url

    assert urls == [trio.run(main)]


def test_a_signal_in_this_process_stops_it() -> None:
    async def main() -> None:
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(serve, PIPELINES, port=0))
                os.kill(os.getpid(), signal.SIGINT)

    trio.run(main)


def test_a_second_signal_ends_the_wait() -> None:
    async def main() -> str:
        settings = Settings(drain_s=1000)
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                url: str = await nursery.start(partial(serve, PIPELINES, port=0, settings=settings))
                port = int(url.rpartition(":")[2])
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    client = Client(stream)
                    await held(client, 0)
                    os.kill(os.getpid(), signal.SIGTERM)
                    await refused(port)
                    os.kill(os.getpid(), signal.SIGTERM)
                    return last_event(await client.rest()).event  # noqa: ASYNC121 - nothing is left in it
        raise AssertionError("the server did not stop")

    assert trio.run(main) == "run.cancelled"


def test_a_server_that_stops_takes_leave_of_its_websockets() -> None:
    """Of one on which nothing goes on at once, of another behind the last event."""

    async def main() -> tuple[int, int, str]:
        settings = Settings(drain_s=1000, farewell_s=PATIENCE_S)
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                url: str = await nursery.start(partial(serve, PIPELINES, port=0, settings=settings))
                port = int(url.rpartition(":")[2])
                idle, busy = [
                    await upgrade(await trio.open_tcp_stream("127.0.0.1", port)) for _ in range(2)
                ]
                await busy.start("a", count=0, hold=True)
                await busy.receive()
                os.kill(os.getpid(), signal.SIGTERM)
                code = await idle.end()
                await busy.say(type="cancel", id="a")
                last = (await busy.events("a"))[-1]["type"]
                codes = code, await busy.end()
                idle.vanish()
                busy.vanish()
        return *codes, last

    assert trio.run(main) == (1001, 1001, "run.cancelled")


@pytest.mark.parametrize("host", [pytest.param("::1", marks=ipv6.NEEDED)])
def test_ipv6_is_spelled_as_urls_do(host: str) -> None:
    async def main() -> str:
        async with trio.open_nursery() as nursery:
            url: str = await nursery.start(partial(serve, PIPELINES, host=host, port=0))
            nursery.cancel_scope.cancel()
        return url

    assert trio.run(main).startswith("http://[::1]:")


def test_a_port_that_is_taken_is_told_before_anything_is_opened() -> None:
    with bind("127.0.0.1", 0, Settings()) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ServeError, match=f"port {port}"):
            trio.run(partial(serve, PIPELINES, port=port))
