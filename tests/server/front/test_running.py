"""How many runs a caller may have in flight: a model of the counts, and every way to start one."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.access.principal import Principal, Scopes
from orchestra.accounts import Caller, KeyAllowance
from orchestra.cli.serving.admission import admission_of
from orchestra.config import LocalBindings
from orchestra.config.reading import read
from orchestra.engine.engine import Engine, open_engine
from orchestra.errors import LimitReachedError
from orchestra.graph.rules.policy import Limits
from orchestra.policies.limits.allowance import CallerRules, OwnerLimits
from orchestra.server.app import create_app
from orchestra.server.front.layers import Admission
from orchestra.server.front.running import Running
from orchestra.server.settings import Settings
from orchestra.testing.world import ScriptedModel, World
from tests.server.served import PIPELINES
from tests.server.wire import House, open_house

CALLERS = (
    Caller("acme", "ada", "k1", KeyAllowance(runs=1)),
    Caller("acme", "ada", "k2"),
    Caller("acme", "bob", "k3"),
    Caller("zeta", "ada", "k4", KeyAllowance(runs=9)),
    Caller("", "eve", "k5"),
    Caller(),
)
RULES = CallerRules(
    user=OwnerLimits(runs=2),
    organisation=OwnerLimits(runs=3),
    users={"eve": OwnerLimits(runs=1)},
    organisations={"zeta": OwnerLimits()},
)


@given(st.lists(st.tuples(st.sampled_from(CALLERS), st.booleans()), max_size=40))
def test_nobody_has_more_in_flight_than_their_key_their_user_and_their_organisation_may(
    steps: list[tuple[Caller, bool]],
) -> None:
    running = Running(RULES)
    going: list[tuple[Caller, Callable[[], None] | None]] = []
    for caller, starts in steps:
        if not starts:
            mine = next((each for each in going if each[0] == caller), None)
            if mine is not None:
                going.remove(mine)
                if mine[1] is not None:
                    mine[1]()
            continue
        users = Counter((each.organisation, each.user) for each, _ in going)
        ours = sum(each.organisation == caller.organisation for each, _ in going)
        own = sum(each.key == caller.key for each, _ in going)
        most = {"eve": 1, "": 99}.get(caller.user, 2)
        may = users[caller.organisation, caller.user] < most
        may = may and (caller.organisation != "acme" or ours < 3)
        may = may and (caller.allowance.runs is None or own < caller.allowance.runs)
        if may:
            going.append((caller, running.take(caller)))
            continue
        with pytest.raises(LimitReachedError) as refused:
            running.take(caller)
        assert refused.value.code in ("key.runs", "user.runs", "organisation.runs")
    for _, give_back in going:
        if give_back is not None:
            give_back()
    assert not running._counts


class Keys:
    """Two who may do everything; the rest of what a keyring is, is not asked here."""

    async def authenticate(self, token: str) -> Principal:
        everything = frozenset({"*"})
        return Principal(Caller(token, "ada", token), Scopes(everything, everything))


@asynccontextmanager
async def served(settings: Settings | None = None) -> AsyncIterator[tuple[House, Engine]]:
    settings = settings or Settings()
    rules = CallerRules(organisation=OwnerLimits(runs=1))
    admission = Admission(keyring=Keys(), running=Running(rules))  # type: ignore[arg-type]
    world = World(models={"m": ScriptedModel.saying("one")})
    async with open_engine(world, limits=settings.limits) as engine:
        app = create_app(engine, PIPELINES, settings, admission)
        async with open_house(app, settings) as house:
            yield house, engine


HOLD = msgspec.json.encode({"inputs": {"count": 1, "hold": True}})
QUICK = msgspec.json.encode({"inputs": {"count": 1}})
CHAT = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "Hi"}]})
RUNS, COMPLETIONS = "/v1/pipelines/count/runs", "/v1/chat/completions"


def head(path: str, who: str, *more: str) -> str:
    first = (f"POST {path} HTTP/1.1", "Content-Type: application/json")
    return "\n".join((*first, f"Authorization: Bearer {who}", *more))


@pytest.mark.parametrize("stored", ["Prefer: respond-async", "Idempotency-Key: k", "X-Any: 1"])
def test_who_has_all_runs_that_they_may_is_told_and_others_go_on(stored: str) -> None:
    async def main() -> dict[str, Any]:
        async with served() as (house, engine):
            client, other = await house.connect(), await house.connect()
            await client.send(head(RUNS, "acme", stored), HOLD)
            while not engine.runs:
                await trio.lowlevel.checkpoint()
            seen = [
                await other.ask(head(RUNS, "acme"), QUICK),
                await other.ask(head(RUNS, "acme", "Idempotency-Key: other"), QUICK),
                await other.ask(head(COMPLETIONS, "acme"), CHAT),
            ]
            assert [each.status for each in seen] == [429, 429, 429]
            assert seen[0].json["type"] == "urn:problem-type:orchestra:rate-limited"
            assert seen[0].json["limit"] == "organisation.runs"
            assert (await other.ask(head(RUNS, "zeta"), QUICK)).status == 200
            engine.cancel_all("enough")
            await engine.wait_idle()
            for _ in range(2):
                assert (await other.ask(head(RUNS, "acme"), QUICK)).status == 200
                assert (await other.ask(head(COMPLETIONS, "acme"), CHAT)).status == 200
            return dict(seen[2].json)

    told: Any = trio.run(main)["error"]
    assert told["code"] == "rate_limit_exceeded"
    assert "runs of organisation 'acme': 1 are in flight" in told["message"]


def test_a_run_that_does_not_start_is_none() -> None:
    async def main() -> None:
        async with served(Settings(runs_max=1)) as (house, engine):
            client, other = await house.connect(), await house.connect()
            await client.send(head(RUNS, "acme"), HOLD)
            while not engine.runs:
                await trio.lowlevel.checkpoint()
            assert (await other.ask(head(RUNS, "zeta"), QUICK)).status == 503
            engine.cancel_all("enough")
            await engine.wait_idle()
            assert (await other.ask(head(RUNS, "zeta"), QUICK)).status == 200

    trio.run(main)


def test_what_a_server_says_of_its_runs_stands_above_the_usual_limits() -> None:
    assert Settings(runs_max=3, deadline_s=4.0).limits == Limits(runs=3, deadline_s=4.0)
    assert Settings(runs_max=3).limits == Limits(runs=3)
    assert Settings().limits == Limits()


@pytest.mark.parametrize("keys", ["auto", "required"])
def test_what_the_configuration_says_is_kept(tmp_path: Path, keys: str) -> None:
    """Also by a server that had no key when it began."""
    text = f'[server]\nkeys = "{keys}"\n[limits.user]\nruns = 1'
    with LocalBindings(tmp_path, read(text, tmp_path / "orchestra.toml")) as bindings:
        running = trio.run(admission_of, bindings, "127.0.0.1").running
    assert running is not None
    assert running.take(Caller(user="ada")) is not None
    with pytest.raises(LimitReachedError, match="limit runs of user 'ada': 1 are in flight"):
        running.take(Caller(user="ada"))
