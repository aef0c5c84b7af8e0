"""Runs over a WebSocket: each tells all of itself under its id, and nobody's outlives the socket."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import websockets.sync.client
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.graph.rules.policy import Limits
from orchestra.server.settings import Settings
from orchestra.server.websocket import Conversation, SocketRun
from tests.server.runs.test_pipelines import held_back
from tests.server.socketing import (
    Socket,
    Stage,
    is_last,
    on_stage,
    open_socket,
    refusal,
    running,
)

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
        ends: list[tuple[str, str]] = []
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


def test_the_end_of_a_run_does_not_free_the_id_of_the_next() -> None:
    """Which may have begun before the first was put away."""
    nothing: Any = None
    first, second = SocketRun(), SocketRun()
    conversation = Conversation(nothing, "count", nothing)
    conversation._runs["a"] = second
    conversation._forget("a", first)
    assert conversation._runs == {"a": second}


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
        (run,) = await running(stage.engine, 1)
        stopped_at = await held_back(run)
        quick = await open_socket(stage.house, path)
        await quick.start("b")
        for _ in range(1000):
            await quick.receive()
        assert run.journal.seq == stopped_at
        told = [await slow.receive() for _ in range(stopped_at + 100)]
        assert [each["event"]["seq"] for each in told] == list(range(1, len(told) + 1))
        assert {each["event"]["request_id"] for each in told} == {run.request_id}
        slow.vanish()
        quick.vanish()
        await stage.engine.wait_idle()

    on_stage(test)


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
