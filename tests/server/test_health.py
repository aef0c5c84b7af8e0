"""How the models are: what an operator sees, and nothing that only the owner may."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio

from orchestra.engine.engine import NoBindings, open_engine
from orchestra.policies.breaker import Closed, HalfOpen, Open
from orchestra.policies.guard import GuardState
from orchestra.policies.limit import Load
from orchestra.server.app import create_app
from orchestra.server.settings import Settings
from tests.server.served import PIPELINES
from tests.server.wire import Reply, open_house

HEAD = "GET /v1/health/models HTTP/1.1"


class Known(NoBindings):
    """Bindings that know how their models are."""

    def states(self) -> Mapping[str, GuardState]:
        return {
            "smart": GuardState(Open(4.5), Load(1, 2, 3)),
            "fast": GuardState(Closed(10, 2, 0), Load(0, 0)),
            "new": GuardState(HalfOpen(1, 1), Load(0, 0)),
            "plain": GuardState(None, Load(0, 0)),
        }


def asking(bindings: NoBindings) -> Reply:
    async def main() -> Reply:
        async with open_engine(bindings) as engine:
            app = create_app(engine, PIPELINES, Settings())
            async with open_house(app, Settings()) as house:
                return await (await house.connect()).ask(HEAD)

    return trio.run(main)


def test_each_model_is_told_with_its_breaker_and_its_calls() -> None:
    reply = asking(Known())
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "no-store"
    told: dict[str, Any] = reply.json
    models = told["models"]
    assert [list(each.values()) for each in models] == [
        ["fast", "closed", None, 0, 0, None],
        ["new", "half-open", None, 0, 0, None],
        ["plain", None, None, 0, 0, None],
        ["smart", "open", 4.5, 1, 2, 3],
    ]
    assert list(models[0]) == [
        "name",
        "breaker",
        "next_probe_s",
        "running",
        "waiting",
        "at_once",
    ]


def test_bindings_that_know_nothing_show_nothing() -> None:
    assert asking(NoBindings()).json == {"models": []}
