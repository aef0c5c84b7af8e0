"""Who may open a WebSocket, and who may start runs over it: asked anew each time."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from orchestra.access.keys import Refusal
from orchestra.access.principal import Principal, Scopes
from orchestra.accounts import Caller
from orchestra.policies.limits.allowance import CallerRules, OwnerLimits
from orchestra.policies.limits.callers import CallerLimits
from orchestra.server.front.cors import Cors
from orchestra.server.front.layers import Admission
from orchestra.server.front.running import Running
from orchestra.stores.state.memory import MemoryState
from tests.server.socketing import (
    Stage,
    is_last,
    on_stage,
    open_socket,
    refusal,
    running,
)


class Keys:
    """A keyring of one key, which may be revoked."""

    def __init__(self, *pipelines: str) -> None:
        self.known: dict[str, Principal] = {
            "good": Principal(Caller("acme", "ada"), Scopes(frozenset(pipelines))),
            "all": Principal(Caller("acme", "all"), Scopes(frozenset({"*"}))),
        }

        self.asked = 0
        self.answers = trio.Event()
        self.answers.set()

    async def authenticate(self, token: str) -> Principal | Refusal:
        self.asked += 1
        await self.answers.wait()
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


PAGE = ("Origin", "http://friend")
RATED = CallerRules(user=OwnerLimits(requests_per_minute=1)).of_requests()


@pytest.mark.parametrize(
    ("path", "key", "status", "code"),
    [
        ("count/ws", None, 401, "key-missing"),
        ("count/ws", "bad", 401, "key-revoked"),
        ("told/ws", "good", 403, "not-allowed"),
        ("nobody/ws", "all", 404, "unknown-pipeline"),
        ("count/ws/x", "all", 404, "not-found"),
        ("count/ws", "good", 429, "rate-limited"),
    ],
)
def test_a_page_is_told_in_its_one_frame_why_its_socket_closes(
    path: str, key: str | None, status: int, code: str
) -> None:
    """Its browser tells it nothing of an answer to a handshake."""
    subprotocols = ["orchestra.v1", *([] if key is None else [f"orchestra.bearer.{key}"])]

    async def test(stage: Stage) -> None:
        for last in (False, True) if status == 429 else (True,):
            socket = await open_socket(
                stage.house, f"/v1/pipelines/{path}", headers=[PAGE], subprotocols=subprotocols
            )
            assert socket.accepted is not None
            assert socket.accepted.subprotocol == "orchestra.v1"
            if not last:
                continue
            names = [name for name, _ in socket.accepted.extra_headers]
            assert names.count(b"x-request-id") == 1
            assert b"content-length" not in names
            closed = await socket.closed()
            told = await socket.receive()
            assert (told["id"], told["problem"]["status"]) == (None, status)
            assert told["problem"]["type"] == f"urn:problem-type:orchestra:{code}"
            assert ("retry_after_s" in told) == (status == 429)
            assert not socket._messages
            assert (closed.code, closed.reason) == (4000 + status, told["problem"]["title"])
            assert await socket.stream.receive_some() == b""
            while stage.house.server.connections > (status == 429):
                await trio.lowlevel.checkpoint()  # its place is given back at once

    cors = Cors(origins=frozenset({"http://friend"}))
    rates = CallerLimits(RATED, MemoryState(), scope="http") if status == 429 else None
    on_stage(test, admission=with_keys("count", cors=cors, rates=rates))


@pytest.mark.parametrize(
    "options",
    [
        {"headers": [PAGE], "subprotocols": ["orchestra.bearer.bad"]},
        {"path": "/v1/models", "headers": [PAGE], "subprotocols": ["orchestra.v1"]},
        {
            "headers": [("Origin", "http://evil")],
            "subprotocols": ["orchestra.v1", "orchestra.bearer.all"],
        },
    ],
)
def test_no_socket_is_opened_to_a_page_that_may_not_ask_or_speaks_something_else(
    options: Any,
) -> None:
    admission = with_keys("count", cors=Cors(origins=frozenset({"http://friend"})))
    assert refusal(admission=admission, **options).status in (401, 403, 404)


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
        (run,) = await running(stage.engine, 1)
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


def test_a_run_that_is_cancelled_while_it_is_asked_for_is_cancelled_as_it_begins() -> None:
    admission = with_keys("count")
    keys: Any = admission.keyring

    async def test(stage: Stage) -> list[dict[str, Any]]:
        socket = await open_socket(stage.house, headers=[("Authorization", "Bearer good")])
        keys.answers = trio.Event()
        await socket.start("a", hold=True)
        await socket.say(type="cancel", id="a")
        await socket.start("a")  # refused at once: then the cancel was heard, too
        assert (await socket.receive())["problem"]["status"] == 409
        while keys.asked < 2:  # its own task asks
            await trio.lowlevel.checkpoint()
        keys.answers.set()
        return await socket.events("a")

    assert on_stage(test, admission=admission)[-1]["type"] == "run.cancelled"


def test_each_start_is_one_of_the_requests_that_a_caller_has() -> None:
    rules = CallerRules(user=OwnerLimits(requests_per_minute=20)).of_requests()
    still = MemoryState(now_s=lambda: 0.0)  # else a rate has more to give after some seconds
    admission = with_keys("count", rates=CallerLimits(rules, still, scope="http"))

    async def test(stage: Stage) -> dict[str, Any]:
        socket = await open_socket(stage.house, headers=[("Authorization", "Bearer good")])
        message: dict[str, Any] = {}
        for name in ("a", "b", "c"):
            await socket.start(name, count=0)
            message = await socket.receive()
            while "problem" not in message and not is_last(message["event"]):
                message = await socket.receive()
        return message

    found = on_stage(test, admission=admission)
    assert found["problem"]["type"] == "urn:problem-type:orchestra:rate-limited"
    assert found["retry_after_s"] >= 3  # as `Retry-After`, which a frame cannot have


def test_each_start_is_one_of_the_runs_that_a_caller_has() -> None:
    rules = CallerRules(user=OwnerLimits(runs=1))

    async def test(stage: Stage) -> dict[str, Any]:
        socket = await open_socket(stage.house, headers=[("Authorization", "Bearer good")])
        await socket.start("a", hold=True)
        await running(stage.engine, 1)
        await socket.start("b", count=0)
        message = await socket.receive()
        while message["id"] != "b":
            message = await socket.receive()
        return message

    found = on_stage(test, admission=with_keys("count", running=Running(rules)))
    assert found["problem"]["limit"] == "user.runs"
