"""A model that is asked by its name is a run: its starter's own, and nobody's hindrance."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio

from orchestra.access.principal import Principal, Scopes
from orchestra.accounts import Caller
from orchestra.engine.engine import Engine, open_engine
from orchestra.policies.gate import GuardState
from orchestra.policies.limits.limit import Load
from orchestra.runs.local import CANCEL, CONTINUE
from orchestra.server.app import create_app
from orchestra.server.connections.hardening import mend_hypercorn
from orchestra.server.front.layers import Admission
from orchestra.server.settings import Settings
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import Stopped, StopReason, TextDelta
from tests.server.deployment import Well
from tests.server.served import PIPELINES
from tests.server.wire import Client, House, Reply, open_house

HANGING = ScriptedModel(((0.0, TextDelta("a")), (999.0, TextDelta("b"))))
LATE = ScriptedModel(
    ((0.2, TextDelta("x")), *[(0.0, TextDelta("x" * 4096))] * 200, (0.0, Stopped(StopReason.END)))
)
ASKING = frozenset({"hanging", "late"})
PEOPLE = {
    "ann": Principal(Caller("acme", "ann", "k1"), Scopes(models=ASKING)),
    "ann-at-home": Principal(Caller("acme", "ann", "k6"), Scopes(models=ASKING)),
    "ann-for-counts": Principal(Caller("acme", "ann", "k7"), Scopes(frozenset({"counts"}))),
    "bob": Principal(Caller("acme", "bob", "k2"), Scopes(models=ASKING)),
    "dan": Principal(Caller("acme", "dan", "k5"), Scopes(frozenset({"counts", "gone"}))),
    "cat": Principal(Caller("acme", "cat", "k3"), Scopes(frozenset({"*"}))),
    "eve": Principal(Caller("other", "eve", "k4"), Scopes(frozenset({"*"}), frozenset({"*"}))),
}


class Names:
    """A keyring whose keys are names."""

    async def authenticate(self, token: str) -> Principal:
        return PEOPLE[token]


def serving(
    main: Callable[[House, Engine], Awaitable[None]],
    linger_s: float = CANCEL,
    world: type[World] = World,
) -> None:
    async def serve() -> None:
        mend_hypercorn()
        settings = Settings(linger_s=linger_s)
        models = {"hanging": HANGING, "late": LATE}
        async with open_engine(world(models=models)) as engine:
            admission = Admission(keyring=Names())  # type: ignore[arg-type]
            app = create_app(engine, PIPELINES, settings, admission)
            async with open_house(app.asgi_app, settings) as house:
                await main(house, engine)

    trio.run(serve)


async def chatting(house: House, model: str) -> Client:
    client = await house.connect()
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    head = "POST /v1/chat/completions HTTP/1.1\nAuthorization: Bearer ann"
    await client.send(f"{head}\nContent-Type: application/json", json.dumps(body).encode())
    return client


async def ask(house: House, what: str, who: str) -> Reply:
    client = await house.connect()
    return await client.ask(f"{what} HTTP/1.1\nAuthorization: Bearer {who}")


def test_who_may_ask_models_only_sees_their_own_answers_as_runs_and_nobody_elses() -> None:
    """And lists, follows and cancels them, with any key for that model; nobody else does.

    But for those who may run all pipelines, of which `relay` is one: they are to be able to stop
    what a key does that has leaked.
    """

    async def main(house: House, engine: Engine) -> None:
        client = await chatting(house, "hanging")
        head = await client.head()
        run_id = head.headers["x-orchestra-run-id"]
        at = f"/v1/runs/{run_id}"
        people = {"ann": True, "ann-at-home": True, "ann-for-counts": False}
        people |= {"bob": False, "cat": True, "eve": False}
        for who, seen in people.items():
            assert (await ask(house, f"GET {at}", who)).status == (200 if seen else 404)
            listed: list[str] = []
            while seen and not listed:  # it is written down soon
                page = json.loads((await ask(house, "GET /v1/runs", who)).body)
                listed = [each["id"] for each in page["runs"]]
            page = json.loads((await ask(house, "GET /v1/runs", who)).body)
            assert [each["id"] for each in page["runs"]] == [run_id] * seen
            assert [each["key"] for each in page["runs"]] == ["k1"] * seen
            if not seen:
                assert (await ask(house, f"GET {at}/events", who)).status == 404
                assert (await ask(house, f"DELETE {at}", who)).status == 404
        assert engine.runs
        assert (await ask(house, f"DELETE {at}", "ann")).json["status"] == "cancelled"

    serving(main)


def test_who_leaves_before_the_first_word_does_not_hold_a_run_back_that_goes_on() -> None:
    """The answer has not begun, so nobody reads; the run would wait for them until its deadline."""

    async def main(house: House, engine: Engine) -> None:
        client = await chatting(house, "late")
        while not engine.runs:  # noqa: ASYNC110 - another process does it
            await trio.lowlevel.checkpoint()
        (run,) = engine.runs.values()
        client.stream.socket.close()
        await run.wait_ended()
        assert run.journal.kept[-1].type == "run.finished"

    serving(main, CONTINUE)


def test_a_name_that_is_not_served_tells_of_no_pipeline_that_one_may_not_run() -> None:
    """A key may have the name of one that is served no longer; also where names are alike."""

    async def main(house: House, _: Engine) -> None:
        for at in ("counts", "counts/runs", "gone", "gone/runs"):
            reply = await ask(house, f"GET /v1/pipelines/{at}", "dan")
            assert reply.status == 404
            assert not any(f"{name!r}" in str(reply.json["detail"]) for name in PIPELINES)
            assert "endless" not in str(reply.json["detail"])
        reply = await ask(house, "GET /v1/pipelines/counts", "cat")
        assert "did you mean 'count'?" in str(reply.json["detail"])

    serving(main)


def test_of_models_that_one_may_not_ask_nobody_is_told_how_they_are() -> None:
    class Watched(World, Well):
        def states(self) -> Mapping[str, GuardState]:
            return {name: GuardState(None, Load(0, 0)) for name in ("hanging", "secret")}

    async def main(house: House, _: Engine) -> None:
        for who, seen in (("ann", ["hanging"]), ("dan", []), ("eve", ["hanging", "secret"])):
            told: Any = (await ask(house, "GET /v1/health/models", who)).json
            assert [each["name"] for each in told["models"]] == seen

    serving(main, world=Watched)
