"""Runs over a WebSocket: each tells all of itself under its id, and nobody's outlives the socket."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio
import websockets.sync.client
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.access.keys import Refusal
from orchestra.access.principal import Principal, Scopes
from orchestra.accounts import Caller
from orchestra.engine.engine import Engine, open_engine
from orchestra.graph.policy import Limits
from orchestra.policies.allowance import CallerRules, OwnerLimits
from orchestra.policies.callers import CallerLimits
from orchestra.server.app import App, create_app
from orchestra.server.cors import Cors
from orchestra.server.front import OPEN, Admission
from orchestra.server.hardening import mend_hypercorn
from orchestra.server.settings import Settings
from orchestra.server.websocket import GOING_AWAY, IDLE, POLICY, TOO_LARGE
from orchestra.stores.state_memory import MemoryState
from tests.server.served import PIPELINES
from tests.server.socketing import ClosedError, RefusedError, Socket, is_last, open_socket
from tests.server.test_runs import held_back
from tests.server.wire import House, open_house

Test = Callable[["Stage"], Awaitable[Any]]


@attrs.frozen
class Stage:
    """A server of the test pipelines."""

    house: House
    engine: Engine
    app: App


def on_stage(
    test: Test,
    settings: Settings | None = None,
    admission: Admission = OPEN,
    limits: Limits | None = None,
) -> Any:
    """What a test finds on a server of its own; afterwards no run is left."""
    settings = settings or Settings()

    async def main() -> Any:
        mend_hypercorn()
        async with open_engine(limits=limits) as engine:
            app = create_app(engine, PIPELINES, settings, admission)
            async with open_house(app.asgi_app, settings) as house:
                return await test(Stage(house, engine, app))

    return trio.run(main)


# --- the law -----------------------------------------------------------------------------------

NAMES = ("a", "b", "c")
starts = st.tuples(st.just("start"), st.sampled_from(NAMES), st.integers(0, 3), st.booleans())
cancels = st.tuples(st.just("cancel"), st.sampled_from(NAMES))
listens = st.tuples(st.just("listen"))
"""Wait for a message, if one is sure to come."""
scripts = st.lists(starts | cancels | listens, max_size=12)


class Told:
    """What a client was told, by id: the runs that it saw, whole or going on."""

    def __init__(self) -> None:
        self.runs: dict[str, list[list[dict[str, Any]]]] = {name: [] for name in NAMES}
        self.refused = 0
        self.begun = 0
        self.ended = 0

    def hear(self, message: dict[str, Any]) -> None:
        runs = self.runs[message["id"]]
        if "problem" in message:
            assert message["problem"]["status"] in (409, 429)
            self.refused += 1
            return
        event = message["event"]
        if event["type"] == "run.started":
            assert not runs or is_last(runs[-1][-1]), "two runs of one id at once"
            runs.append([])
            self.begun += 1
        assert not (runs[-1] and is_last(runs[-1][-1])), "something behind the end"
        runs[-1].append(event)
        assert event["seq"] == len(runs[-1]), "out of order, or with a gap"
        self.ended += is_last(event)


@given(scripts, st.booleans(), st.random_module())
@settings(max_examples=40)
def test_every_run_tells_all_of_itself_in_order_to_its_one_end(
    script: list[tuple[Any, ...]], leaves: bool, seed: object
) -> None:
    """However starts and cancels follow one another; and whoever leaves takes all along."""

    async def test(stage: Stage) -> None:
        socket, told, asked = await open_socket(stage.house), Told(), 0
        for act, *given_ in script:
            match act, given_:
                case "start", [name, count, hold]:
                    await socket.start(name, count=count, hold=hold)
                    asked += 1
                case "cancel", [name]:
                    await socket.say(type="cancel", id=name)
                case _ if asked > told.refused + told.begun:
                    told.hear(await socket.receive())
        if leaves:
            socket.vanish()
        else:
            await _to_the_end(socket, told, asked)
            await socket.close()
        await stage.engine.wait_idle()

    on_stage(test, Settings(socket_runs_max=2))


async def _to_the_end(socket: Socket, told: Told, asked: int) -> None:
    """Cancel what holds, and hear everything."""
    for name in NAMES:
        await socket.say(type="cancel", id=name)
    while told.ended + told.refused < asked:
        told.hear(await socket.receive())


def test_several_runs_speak_at_once() -> None:
    async def test(stage: Stage) -> dict[str, Any]:
        socket = await open_socket(stage.house)
        for name in ("a", "b"):
            await socket.start(name, count=2, hold=True)
        told: dict[str, Any] = {"a": [], "b": []}
        while any("1 " not in chunks for chunks in told.values()):
            message = await socket.receive()
            told[message["id"]].append(message["event"].get("chunk"))
        await socket.say(type="cancel", id="b")
        await socket.start("c", count=1)
        ends = []
        while len(ends) < 2:
            message = await socket.receive()
            if is_last(message["event"]):
                ends.append((message["id"], message["event"]["type"]))
        assert len(stage.engine.runs) == 1
        return dict(ends)

    assert on_stage(test) == {"b": "run.cancelled", "c": "run.finished"}


def test_an_id_may_be_used_again_by_who_has_heard_the_end() -> None:
    async def test(stage: Stage) -> None:
        socket = await open_socket(stage.house)
        for _ in range(5):
            await socket.start("a", count=1)
            assert (await socket.events("a"))[-1]["type"] == "run.finished"

    on_stage(test)


def test_whoever_leaves_politely_takes_their_runs_along() -> None:
    async def test(stage: Stage) -> None:
        socket = await open_socket(stage.house)
        await socket.start("a", hold=True)
        await socket.receive()
        await socket.close()
        await stage.engine.wait_idle()

    on_stage(test)


def test_a_client_of_somebody_else_talks_to_it() -> None:
    """`websockets`, in a thread."""

    def talk(port: int) -> list[str]:
        url = f"ws://127.0.0.1:{port}/v1/pipelines/count/ws"
        with websockets.sync.client.connect(url, subprotocols=["orchestra.v1"]) as client:  # type: ignore[list-item]
            assert client.subprotocol == "orchestra.v1"
            client.send(json.dumps({"type": "start", "id": "a", "inputs": {"count": 1}}))
            types: list[str] = []
            while "run.finished" not in types:
                types.append(json.loads(client.recv())["event"]["type"])
            return types

    async def test(stage: Stage) -> list[str]:
        return await trio.to_thread.run_sync(talk, stage.house.port)

    assert on_stage(test)[0] == "run.started"


# --- backpressure ------------------------------------------------------------------------------


def test_a_slow_socket_holds_back_its_own_runs_and_nobody_elses() -> None:
    async def test(stage: Stage) -> None:
        path = "/v1/pipelines/endless/ws"
        slow = await open_socket(stage.house, path)
        await slow.start("a")
        (run,) = await _runs(stage.engine, 1)
        stopped_at = await held_back(run)
        quick = await open_socket(stage.house, path)
        await quick.start("b")
        for _ in range(1000):
            await quick.receive()
        assert run.journal.seq == stopped_at
        told = [await slow.receive() for _ in range(stopped_at + 100)]
        assert [each["event"]["seq"] for each in told] == list(range(1, len(told) + 1))
        slow.vanish()
        quick.vanish()
        await stage.engine.wait_idle()

    on_stage(test)


async def _runs(engine: Engine, count: int) -> Any:
    while len(engine.runs) < count:
        await trio.lowlevel.checkpoint()
    return list(engine.runs.values())


# --- what is refused ---------------------------------------------------------------------------


def problem_of(*messages: str, settings: Settings | None = None, **options: Any) -> dict[str, Any]:
    """What the last of some messages is answered with, where the others only start runs."""

    async def test(stage: Stage) -> dict[str, Any]:
        socket = await open_socket(stage.house)
        for message in messages:
            await socket.send(message)
        while "problem" not in (message_ := await socket.receive()):
            pass
        return message_

    found: dict[str, Any] = on_stage(test, settings, **options)
    return found


HOLD = '{"type": "start", "id": "a", "inputs": {"hold": true}}'
OTHER = HOLD.replace('"a"', '"b"')


@pytest.mark.parametrize(
    ("messages", "name", "status", "code"),
    [
        (['{"type": "start", "id": "a", "inputs": {"count": "x"}}'], "a", 422, "bad-inputs"),
        ([HOLD, HOLD], "a", 409, "id-in-use"),
        ([HOLD, OTHER], "b", 429, "too-many-runs"),
        (["hello"], None, 400, "bad-message"),
        (['{"type": "stop", "id": "a"}'], "a", 400, "bad-message"),
    ],
)
def test_a_message_that_cannot_be_obeyed_has_its_problem(
    messages: list[str], name: str | None, status: int, code: str
) -> None:
    found = problem_of(*messages, settings=Settings(socket_runs_max=1))
    assert found["id"] == name
    assert found["problem"]["status"] == status
    assert found["problem"]["type"] == f"urn:problem-type:orchestra:{code}"


def test_a_full_engine_starts_no_run() -> None:
    found = problem_of(HOLD, OTHER, limits=Limits(runs=1))
    assert (found["id"], found["problem"]["status"]) == ("b", 503)


def test_a_cancel_of_what_is_not_there_is_nothing() -> None:
    async def test(stage: Stage) -> None:
        socket = await open_socket(stage.house)
        await socket.say(type="cancel", id="a")
        await socket.start("a", count=1)
        assert (await socket.events("a"))[-1]["type"] == "run.finished"

    on_stage(test)


def refusal(path: str = "/v1/pipelines/count/ws", **options: Any) -> RefusedError:
    admission = options.pop("admission", OPEN)

    async def test(stage: Stage) -> RefusedError:
        with pytest.raises(RefusedError) as caught:
            await open_socket(stage.house, path, **options)
        return caught.value

    found: RefusedError = on_stage(test, admission=admission)
    return found


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/pipelines/cuont/ws", "unknown-pipeline"),
        ("/v1/nothing", "not-found"),
        ("/v1/pipelines", "not-found"),
    ],
)
def test_a_socket_that_is_not_there_is_refused_as_a_request_is(path: str, code: str) -> None:
    refused = refusal(path)
    assert (refused.status, refused.body["type"]) == (404, f"urn:problem-type:orchestra:{code}")


def test_who_asks_without_a_websocket_is_told_to_open_one() -> None:
    async def test(stage: Stage) -> Any:
        client = await stage.house.connect()
        return await client.ask("GET /v1/pipelines/count/ws HTTP/1.1")

    reply = on_stage(test)
    assert (reply.status, reply.headers["upgrade"]) == (426, "websocket")


# --- who may -----------------------------------------------------------------------------------


class Keys:
    """A keyring of one key, which may be revoked."""

    def __init__(self, *pipelines: str) -> None:
        self.known: dict[str, Principal] = {
            "good": Principal(Caller("acme", "ada"), Scopes(frozenset(pipelines)))
        }

    async def authenticate(self, token: str) -> Principal | Refusal:
        await trio.lowlevel.checkpoint()
        return self.known.get(token) or Refusal("revoked", f"{token} was revoked")


def with_keys(*pipelines: str, **options: Any) -> Admission:
    return Admission(keyring=Keys(*pipelines), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({}, 401, "key-missing"),
        ({"headers": [("Authorization", "Bearer bad")]}, 401, "key-revoked"),
        ({"subprotocols": ["orchestra.v1", "orchestra.bearer.bad"]}, 401, "key-revoked"),
        (
            {"path": "/v1/pipelines/told/ws", "subprotocols": ["orchestra.bearer.good"]},
            403,
            "not-allowed",
        ),
        (
            {"headers": [("Authorization", "Bearer good"), ("Origin", "http://evil")]},
            403,
            "foreign-origin",
        ),
    ],
)
def test_nobody_opens_a_socket_who_may_not(options: Any, status: int, code: str) -> None:
    refused = refusal(admission=with_keys("count"), **options)
    assert (refused.status, refused.body["type"]) == (status, f"urn:problem-type:orchestra:{code}")


@pytest.mark.parametrize(
    "options",
    [
        {"headers": [("Authorization", "Bearer good")]},
        {"subprotocols": ["orchestra.bearer.good", "orchestra.v1"]},
        {"headers": [("Authorization", "Bearer good"), ("Origin", "http://friend")]},
    ],
)
def test_who_has_a_key_opens_a_socket_and_its_runs_are_theirs(options: Any) -> None:
    async def test(stage: Stage) -> tuple[str | None, Caller]:
        socket = await open_socket(stage.house, **options)
        await socket.start("a", hold=True)
        (run,) = await _runs(stage.engine, 1)
        assert socket.accepted is not None
        return socket.accepted.subprotocol, run.caller

    admission = with_keys("count", cors=Cors(origins=frozenset({"http://friend"})))
    protocol, caller = on_stage(test, admission=admission)
    assert protocol == ("orchestra.v1" if "subprotocols" in options else None)
    assert caller == Caller("acme", "ada")


def test_a_key_that_is_revoked_starts_no_run_over_a_socket_that_is_open() -> None:
    admission = with_keys("count")

    async def test(stage: Stage) -> dict[str, Any]:
        socket = await open_socket(stage.house, headers=[("Authorization", "Bearer good")])
        await socket.start("a", count=1)
        await socket.events("a")
        admission.keyring.known.clear()  # type: ignore[union-attr]
        await socket.start("b", count=1)
        return await socket.receive()

    found = on_stage(test, admission=admission)
    assert (found["id"], found["problem"]["status"]) == ("b", 401)


def test_each_start_is_one_of_the_requests_that_a_caller_has() -> None:
    rules = CallerRules(user=OwnerLimits(requests_per_minute=20)).of_requests()
    admission = with_keys("count", rates=CallerLimits(rules, MemoryState(), scope="http"))

    async def test(stage: Stage) -> dict[str, Any]:
        socket = await open_socket(stage.house, headers=[("Authorization", "Bearer good")])
        for name in ("a", "b", "c"):
            await socket.start(name, count=0)
            message = await socket.receive()
            while "problem" not in message and not is_last(message["event"]):
                message = await socket.receive()
        return message

    found = on_stage(test, admission=admission)
    assert found["problem"]["type"] == "urn:problem-type:orchestra:rate-limited"


# --- how it is closed --------------------------------------------------------------------------


def closing(test: Test, settings: Settings | None = None) -> ClosedError:
    """How a socket is closed, on which a test does something."""

    async def main(stage: Stage) -> ClosedError:
        with pytest.raises(ClosedError) as caught:
            await test(stage)
        await stage.engine.wait_idle()
        return caught.value

    found: ClosedError = on_stage(main, settings)
    return found


def test_a_message_that_is_too_large_closes_the_socket() -> None:
    async def test(stage: Stage) -> None:
        socket = await open_socket(stage.house)
        await socket.send("x" * 1001)
        await socket.receive()

    assert closing(test, Settings(body_limit_bytes=1000)).code == TOO_LARGE


def test_a_socket_on_which_nothing_goes_on_is_closed() -> None:
    async def test(stage: Stage) -> None:
        socket = await open_socket(stage.house)
        await socket.start("a", count=1)
        await socket.events("a")
        await socket.receive()

    assert closing(test, Settings(socket_idle_s=0.05)).code == IDLE


def test_a_socket_is_not_idle_whose_run_is_silent() -> None:
    async def test(stage: Stage) -> str:
        socket = await open_socket(stage.house)
        await socket.start("a", count=0, hold=True)
        await trio.sleep(0.05)
        await socket.say(type="cancel", id="a")
        return str((await socket.events("a"))[-1]["type"])

    assert on_stage(test, Settings(socket_idle_s=0.01)) == "run.cancelled"


def test_whoever_does_not_read_what_is_wrong_is_left() -> None:
    """In the end; so what waits for them is bounded."""

    async def test(stage: Stage) -> None:
        socket = await open_socket(stage.house)
        try:
            for _ in range(100_000):
                await socket.send("hello" * 20)
        except trio.BrokenResourceError as error:
            raise ClosedError(POLICY) from error

    assert closing(test).code == POLICY


def test_a_server_that_stops_closes_a_socket_when_its_last_run_has_ended() -> None:
    async def test(stage: Stage) -> None:
        busy, idle = await open_socket(stage.house), await open_socket(stage.house)
        await busy.start("a", count=0, hold=True)
        await _runs(stage.engine, 1)
        stage.app.closing.set()
        with pytest.raises(ClosedError) as caught:
            await idle.receive()
        assert caught.value.code == GOING_AWAY
        await busy.start("b")
        message = await busy.receive()
        while "problem" not in message:
            message = await busy.receive()
        assert (message["id"], message["problem"]["status"]) == ("b", 503)
        await busy.say(type="cancel", id="a")
        await busy.events("a")
        await busy.receive()

    assert closing(test).code == GOING_AWAY


def test_a_fault_of_ours_closes_the_socket_and_is_in_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise KeyError("sk-1")

    async def test(stage: Stage) -> None:
        socket = await open_socket(stage.house)
        monkeypatch.setattr(stage.engine, "start", breaks)
        await socket.start("a")
        await socket.receive()

    with caplog.at_level(logging.ERROR):
        closed = closing(test)
    assert (closed.code, "sk-1" in closed.reason) == (1011, False)
    assert "a run over a WebSocket failed" in caplog.text


def test_hearts_beat_while_there_is_silence() -> None:
    async def test(stage: Stage) -> int:
        socket = await open_socket(stage.house)
        while socket.pings < 2:
            await socket._read()
        return socket.pings

    assert on_stage(test, Settings(heartbeat_s=0.01)) == 2


FRAGMENTS = [
    b"\x81\x80abcd",
    b"\x81",
    b"\x88\x80abcd",
    b"\xff",
    b"\x00\x80abcd",
    b"\x89\x80abcd",
    b"x",
]


@given(st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=8), max_size=6))
@settings(max_examples=25)
def test_no_bytes_at_all_break_the_server(pieces: list[bytes]) -> None:
    """A client that speaks no WebSocket loses its own connection, and nobody else's."""

    async def test(stage: Stage) -> None:
        bad = await open_socket(stage.house)
        await bad.stream.send_all(b"".join(pieces))
        good = await open_socket(stage.house)
        await good.start("a", count=1)
        assert (await good.events("a"))[-1]["type"] == "run.finished"

    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("orchestra.server").addHandler(handler)
    try:
        on_stage(test)
    finally:
        logging.getLogger("orchestra.server").removeHandler(handler)
    assert [record.getMessage() for record in records if record.levelno >= logging.ERROR] == []
