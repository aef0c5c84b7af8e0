"""Each trap of Hypercorn and Quart-Trio: it is there without the cure, and gone with it.

A test named `..._is_still_there` fails when a release of theirs mends the trap: then
remove the cure in `orchestra/server/connections/hardening.py` and the tests of it.
"""

from __future__ import annotations

import tomllib
from functools import partial
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import pytest
import trio
from hypercorn.config import Config
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio import serve as serve_stock
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from quart_trio import QuartTrio

from orchestra.server.connections.bodies import CONNECTION
from orchestra.server.connections.hardening import MENDED_AGAINST, Hardened, mend_hypercorn
from orchestra.server.settings import Settings
from tests.patience import PATIENCE_S
from tests.server.wire import STOCK_CHECK_PROTOCOL, Client, _unmended, open_house  # noqa: F401 - a fixture

ROOT = Path(__file__).parents[3]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
UPGRADE_WEBSOCKET = """GET / HTTP/1.1
    Connection: Upgrade
    Upgrade: websocket
    Sec-WebSocket-Version: 13
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="""


pytestmark = pytest.mark.usefixtures("_unmended")


@pytest.mark.parametrize("package", MENDED_AGAINST)
def test_the_cures_are_made_for_the_versions_installed(package: str) -> None:
    """On failure: run the server's tests, read the package's changes, move the version."""
    assert version(package) == MENDED_AGAINST[package]


@pytest.mark.parametrize("package", MENDED_AGAINST)
def test_no_other_release_is_installed_with_us(package: str) -> None:
    """A new minor release of any of them may change what is private."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    asked = pyproject["project"]["optional-dependencies"]["server"]
    major, minor, _ = MENDED_AGAINST[package].split(".")
    this, following = f"{major}.{minor}", f"{major}.{int(minor) + 1}"
    assert {f"{package}=={this}.*", f"{package}>={this},<{following}"} & {*asked}


# --- HTTP/2 without TLS ------------------------------------------------------------------------


async def hello(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    headers = [(b"content-length", b"3")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hi\n", "more_body": False})


async def answer_to(opening: bytes) -> bytes:
    """The first bytes that a server answers to these."""
    async with open_house(hello, Settings()) as house:
        client = await house.connect()
        await client.stream.send_all(opening)
        return bytes(await client.stream.receive_some())


UPGRADE_H2C = b"GET / HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"


@pytest.mark.parametrize("opening", [PREFACE, UPGRADE_H2C], ids=["preface", "upgrade"])
def test_the_cleartext_http2_trap_is_still_there(opening: bytes) -> None:
    answer = trio.run(answer_to, opening)
    assert answer.startswith(b"HTTP/1.1 101") or b"HTTP/1.1" not in answer


@pytest.mark.parametrize("opening", [PREFACE, UPGRADE_H2C], ids=["preface", "upgrade"])
def test_who_offers_http2_without_tls_is_answered_in_http1(opening: bytes) -> None:
    mend_hypercorn()
    assert trio.run(answer_to, opening).startswith(b"HTTP/1.1 200")


# --- HTTP/2 without backpressure ---------------------------------------------------------------

CHUNK = b"x" * 16 * 1024
ENOUGH = 64  # chunks: a megabyte, where a client that takes nothing should cost little


async def ask_in_http2(client: Client, window: int) -> None:
    """A request for / from a client that takes this many bytes and says no more."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration())
    connection.local_settings.initial_window_size = window
    connection.initiate_connection()
    headers = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "t")]
    connection.send_headers(1, headers, end_stream=True)
    await client.stream.send_all(connection.data_to_send())


async def chunks_taken_without_a_window(patience_s: float) -> int:
    """How many chunks an endless answer gets rid of while its client's window is shut."""
    taken = 0
    quiet = trio.Event()

    async def endless(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        nonlocal taken
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while taken < ENOUGH:
            with trio.move_on_after(patience_s) as blocked:
                await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
            if blocked.cancelled_caught:
                break
            taken += 1
        quiet.set()

    async with open_house(endless, Settings()) as house:
        await ask_in_http2(await house.connect(), window=0)
        await quiet.wait()
    return taken


def test_the_http2_backpressure_trap_is_still_there() -> None:
    assert trio.run(chunks_taken_without_a_window, PATIENCE_S / 2) == ENOUGH


def test_an_http2_client_without_a_window_holds_the_writer_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mend_hypercorn()
    monkeypatch.setattr(H11Protocol, "_check_protocol", STOCK_CHECK_PROTOCOL)
    assert trio.run(chunks_taken_without_a_window, 0.5) <= 8  # 128 kB: its bound, twice


def test_an_http2_answer_that_fits_the_window_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    mend_hypercorn()
    monkeypatch.setattr(H11Protocol, "_check_protocol", STOCK_CHECK_PROTOCOL)
    finished = trio.Event()

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await hello(scope, receive, send)
        finished.set()

    async def main() -> None:
        async with open_house(app, Settings()) as house:
            await ask_in_http2(await house.connect(), window=65_535)
            await finished.wait()

    trio.run(main)


# --- the keep-alive timer ----------------------------------------------------------------------


KEEP_ALIVE_S = 0.5
"""The request, too, has no more time to come."""


def quart_hello() -> QuartTrio:
    app = QuartTrio(__name__)

    @app.get("/")
    async def hello() -> str:
        return "hi"

    return app


async def stock_server(nursery: trio.Nursery, shut: trio.Event, keep_alive_s: float) -> int:
    """Hypercorn's own `serve`, on a free port."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    config.keep_alive_timeout = keep_alive_s
    serving = partial(serve_stock, quart_hello(), config, shutdown_trigger=shut.wait)
    binds: list[str] = await nursery.start(serving)
    return int(binds[0].rsplit(":", 1)[1])


async def closes(client: Client, within_s: float, shut: trio.Event | None = None) -> bool:
    """Whether its connection is closed behind an answer, when nothing more is asked."""
    assert (await client.ask("GET / HTTP/1.1")).body == b"hi"
    if shut is not None:
        shut.set()
    with trio.move_on_after(within_s):
        return await client.closed()
    return False


async def stock_closes(*, shutting: bool) -> bool:
    """Whether Hypercorn closes an idle connection: by its timer, or where it shuts down."""
    async with trio.open_nursery() as nursery:
        shut = trio.Event()
        port = await stock_server(nursery, shut, 1000 if shutting else KEEP_ALIVE_S)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            closed = await closes(Client(stream), KEEP_ALIVE_S + 0.5, shut if shutting else None)
        nursery.cancel_scope.cancel()
    return closed


def test_the_keep_alive_trap_is_still_there() -> None:
    assert not trio.run(lambda: stock_closes(shutting=False))


def test_the_shutdown_trap_is_still_there() -> None:
    assert not trio.run(lambda: stock_closes(shutting=True))


def test_the_keep_alive_timer_restarts_after_an_answer() -> None:
    async def main() -> None:
        async with open_house(quart_hello(), Settings(keep_alive_s=KEEP_ALIVE_S)) as house:
            assert await closes(await house.connect(), PATIENCE_S)

    trio.run(main)


def test_who_waits_for_an_answer_is_not_idle() -> None:
    ends_s: list[float] = []

    async def app(scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        ends_s.append(scope["state"][CONNECTION].patience.ends_at)
        await hello(scope, receive, send)
        ends_s.append(scope["state"][CONNECTION].patience.ends_at - trio.current_time())

    async def main() -> None:
        async with open_house(app, Settings(keep_alive_s=1000)) as house:
            client = await house.connect()
            for _ in range(2):
                assert (await client.ask("GET / HTTP/1.1")).body == b"hi\n"

    trio.run(main)
    assert ends_s == pytest.approx([inf, 1000, inf, 1000], abs=10)


def test_an_idle_connection_does_not_hold_up_the_shutdown() -> None:
    async def main() -> None:
        async with open_house(quart_hello(), Settings(keep_alive_s=1000)) as house:
            client = await house.connect()
            assert (await client.ask("GET / HTTP/1.1")).body == b"hi"
            house.server.shut()
            assert await client.closed()
            await house.empty.wait()

    trio.run(main)


# --- WebSocket sends ---------------------------------------------------------------------------


async def websocket_loop_gives_way(*, hardened: bool) -> bool:
    """Whether a loop of sends to a peer that has left lets another task run."""
    others_ran = []
    ended = trio.Event()

    async def other() -> None:
        others_ran.append(True)

    async def talker(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            for _ in range(1000):
                await send({"type": "websocket.send", "bytes": b"x", "text": None})
                if others_ran:
                    break
            ended.set()
            gave_way.append(bool(others_ran))

    gave_way: list[bool] = []
    async with open_house(Hardened(talker) if hardened else talker, Settings()) as house:
        client = await house.connect()
        await client.send(UPGRADE_WEBSOCKET)
        assert (await client.head()).status == 101
        await client.stream.aclose()
        await ended.wait()
    return gave_way == [True]


def test_the_websocket_trap_is_still_there() -> None:
    assert not trio.run(lambda: websocket_loop_gives_way(hardened=False))


def test_a_send_to_a_websocket_whose_peer_left_gives_way() -> None:
    assert trio.run(lambda: websocket_loop_gives_way(hardened=True))


# --- what a stream has to live with ------------------------------------------------------------


async def ends_of(client_acts: str, within_s: float) -> list[str]:
    """What the application receives when its client does this during an answer."""
    received: list[str] = []
    heard = trio.Event()

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        while not heard.is_set():
            message = await receive()
            received.append(message["type"])
            if message["type"] == "http.disconnect":
                heard.set()

    async with open_house(app, Settings()) as house:
        client = await house.connect()
        await client.send("GET / HTTP/1.1")
        await client.until(b"x\r\n")
        await _act(client, client_acts)
        with trio.move_on_after(within_s):
            await heard.wait()
    return received


async def _act(client: Client, what: str) -> None:
    if what == "half-close":
        await client.stream.send_eof()
    if what == "close":
        await client.stream.aclose()
    if what == "pipeline and close":
        await client.send("GET / HTTP/1.1")
        await client.stream.aclose()


@pytest.mark.parametrize("act", ["close", "half-close", "pipeline and close"])
def test_a_client_that_closes_in_any_way_has_left(act: str) -> None:
    """A half-close is a departure too: those who close their half first lose the answer."""
    assert trio.run(ends_of, act, PATIENCE_S)[-1] == "http.disconnect"
