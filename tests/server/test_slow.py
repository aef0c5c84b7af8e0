"""Clients that are slow on purpose, by the hundred: whoever else asks is answered meanwhile."""

from __future__ import annotations

import shutil
from functools import partial

import attrs
import pytest
import trio

from orchestra.engine.engine import open_engine
from orchestra.graph.pipelines import pipeline
from orchestra.graph.steps import step
from orchestra.server.app import create_app
from orchestra.server.connections.listen import HttpServer
from orchestra.server.connections.sockets import bind
from orchestra.server.settings import Settings
from tests.server.served import count
from tests.server.wire import Client

PROGRAM = "slowhttptest"
ATTACKERS, SHARE = 150, 30
SETTINGS = Settings(
    connections_max=SHARE + 10,
    connections_per_address_max=SHARE,
    keep_alive_s=1.5,  # they send a little every second
    body_timeout_s=1.5,
)
LARGE = 4 * 1024 * 1024
"""More than the kernel's buffers take of an answer."""
LASTS_S = {"headers": 20, "body": 20, "read": 3}
"""The first two are over as soon as the server has closed all that they opened."""
ATTACKS = {
    "headers": ["-H", "-u", "{}/v1/pipelines"],
    "body": ["-B", "-s", "8192", "-f", "application/json", "-u", "{}/v1/pipelines/count/runs"],
    "read": ["-X", "-n1", "-z5", "-u", "{}/v1/pipelines/large/runs"],
}
PATIENCE_S = 60
PAUSE_S = 0.02
SOMEBODY_ELSE = "127.0.0.2"


@step
def filled(size: int) -> str:
    return "x" * size


@pipeline
def large(size: int = LARGE) -> str:
    """More than fits into a buffer."""
    return filled(size)


@attrs.define
class Seen:
    """What somebody else saw of a server that was attacked, and what of the attackers was left."""

    answers: int = 0
    """How often it answered them while attackers were there."""
    said: str = ""
    inside: int = 0
    """How many connections were open at most."""


async def attacked(kind: str, seen: Seen) -> None:
    """An attack on a server of its own, and somebody else who asks it again and again."""
    async with open_engine() as engine, trio.open_nursery() as nursery:
        server = HttpServer(
            create_app(engine, {"count": count, "large": large}, SETTINGS).asgi_app, SETTINGS
        )
        listener = bind("127.0.0.1", 0, SETTINGS)
        port = listener.getsockname()[1]
        nursery.start_soon(server.serve, listener)
        nursery.start_soon(_ask, port, server, seen)
        options = [each.format(f"http://127.0.0.1:{port}") for each in ATTACKS[kind]]
        size = [f"-c{ATTACKERS}", "-r300", "-i1", f"-l{LASTS_S[kind]}", "-v1"]
        done = await trio.run_process([PROGRAM, *size, *options], capture_stdout=True, check=False)
        seen.said = done.stdout.decode()
        nursery.cancel_scope.cancel()


async def _ask(port: int, server: HttpServer, seen: Seen) -> None:
    while True:
        asked_s = trio.current_time()
        connect = partial(trio.open_tcp_stream, local_address=SOMEBODY_ELSE)
        async with await connect("127.0.0.1", port) as stream:
            reply = await Client(stream).ask("GET /v1/pipelines HTTP/1.1")
        assert reply.status == 200
        seen.inside = max(seen.inside, server.connections)
        seen.answers += server.connections > 1
        await trio.sleep_until(asked_s + PAUSE_S)


@pytest.fixture(scope="module")
def attacks() -> dict[str, Seen]:
    """All of them at once, since each is mostly waiting."""
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"{PROGRAM} is not there; Debian's package of that name has it")
    found = {kind: Seen() for kind in ATTACKS}

    async def main() -> None:
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for kind, seen in found.items():
                    nursery.start_soon(attacked, kind, seen)

    trio.run(main)
    return found


@pytest.mark.parametrize("kind", ATTACKS)
def test_a_slow_attack_leaves_the_service_to_the_others(
    attacks: dict[str, Seen], kind: str
) -> None:
    assert attacks[kind].answers > 0


@pytest.mark.parametrize("kind", ["headers", "body"])
def test_whoever_sends_slowly_is_cut_however_often_they_send(
    attacks: dict[str, Seen], kind: str
) -> None:
    assert "No open connections left" in attacks[kind].said


def test_whoever_reads_slowly_has_no_more_than_their_share(attacks: dict[str, Seen]) -> None:
    assert 1 < attacks["read"].inside <= SHARE + 1, "with the one who asks meanwhile"
    assert "Hit test time limit" in attacks["read"].said, "a slow reader may be an honest one"
