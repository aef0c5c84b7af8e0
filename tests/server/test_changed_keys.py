"""A key that is changed under a running server: the next request is that of the other key."""

from __future__ import annotations

from pathlib import Path

import attrs
import trio

from orchestra.access.wanted import KeyChanges, NewKey
from orchestra.accounts import Caller, KeyAllowance
from orchestra.cli.serving.admission import admission_of
from orchestra.config import LocalBindings
from orchestra.engine.engine import open_engine
from orchestra.policies.account import NoAccount
from orchestra.server.app import create_app
from orchestra.server.settings import Settings
from orchestra.stores.state.memory import MemoryState
from tests.server.served import PIPELINES
from tests.server.wire import Reply, open_house

ASK = "GET /v1/pipelines/count/runs?count=1 HTTP/1.1\nAuthorization: Bearer "
WANTED = NewKey(
    organisation="acme", pipelines=("other",), allowance=KeyAllowance(day_nanodollars=1000)
)
UNREAL = 10**9
BODY = b'{"inputs": {"count": 1}}'


class Spender(NoAccount):
    """The account of a run that this caller has begun."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller


def test_a_running_server_sees_a_change_with_the_next_request_and_nothing_is_spent_anew(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        bounds = Settings()
        still = MemoryState(now_s=lambda: 1e9)  # a day that does not end meanwhile
        with LocalBindings(tmp_path, state=still) as bindings:
            keyring, purse = bindings.keyring, bindings.purse
            made = await keyring.create(WANTED)
            admission = await admission_of(bindings, "127.0.0.1")
            async with open_engine() as engine:
                app = create_app(engine, PIPELINES, bounds, admission)
                async with open_house(app.asgi_app, bounds) as house:
                    client = await house.connect()

                    async def after(**other: object) -> int:
                        await keyring.change(made.record.id, KeyChanges(**other))  # type: ignore[arg-type]
                        return (await client.ask(ASK + made.text)).status

                    assert await after(name="the same") == 403
                    assert await after(pipelines=("count",)) == 200
                    held = await purse.hold(
                        Spender(made.record.principal.caller), 600, for_s=10, model="m"
                    )
                    assert held is not None
                    await held.settle(600)
                    assert await after(limits={"day_nanodollars": 500}) == 402
                    assert await after(limits={"day_nanodollars": 600}) == 402
                    assert await after(limits={"day_nanodollars": 601}) == 200
                    assert await after(limits={"day_nanodollars": None}) == 200
                    assert await after(limits={"day_nanodollars": 600}) == 402
                    limits = {"day_nanodollars": UNREAL, "requests_per_minute": 1}
                    assert await after(limits=limits) == 200
                    assert await after(name="slow") == 429
                    assert await after(limits={"requests_per_minute": None}) == 200

    trio.run(main)


def test_a_used_up_budget_keeps_nobody_from_the_run_of_an_idempotency_key(tmp_path: Path) -> None:
    """A client whose connection broke asks for its run; a new key starts none, and stays new."""

    async def main() -> None:
        bounds = Settings()
        still = MemoryState(now_s=lambda: 1e9)
        with LocalBindings(tmp_path, state=still) as bindings:
            made = await bindings.keyring.create(attrs.evolve(WANTED, pipelines=("count",)))
            admission = await admission_of(bindings, "127.0.0.1")
            async with open_engine() as engine:
                app = create_app(engine, PIPELINES, bounds, admission)
                async with open_house(app.asgi_app, bounds) as house:
                    client = await house.connect()

                    async def start(key: str, method: str = "POST", query: str = "") -> Reply:
                        head = f"{method} /v1/pipelines/count/runs{query} HTTP/1.1"
                        keys = f"Authorization: Bearer {made.text}\nIdempotency-Key: {key}"
                        return await client.ask(
                            f"{head}\n{keys}\nContent-Type: application/json", BODY
                        )

                    first = await start("old")
                    spender = Spender(made.record.principal.caller)
                    held = await bindings.purse.hold(spender, 1000, for_s=10, model="m")
                    assert held is not None
                    await held.settle(1000)
                    again = await start("old")
                    assert (again.status, again.headers["idempotent-replayed"]) == (200, "true")
                    assert again.json["run_id"] == first.json["run_id"]
                    assert [(await start("new")).status for _ in range(2)] == [402, 402]
                    assert (await start("old", "GET", "?count=1")).status == 402
                    assert not engine.runs
                    more = KeyChanges(limits={"day_nanodollars": 1001})
                    await bindings.keyring.change(made.record.id, more)
                    started = await start("new")
                    assert started.status == 200
                    assert "idempotent-replayed" not in started.headers

    trio.run(main)
