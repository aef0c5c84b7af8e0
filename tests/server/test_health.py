"""How the server and its models are: what an operator sees, and nothing that only the owner may."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import pytest
import trio

from orchestra.engine.bindings import NoBindings
from orchestra.engine.engine import open_engine
from orchestra.errors import StateError, StoreError
from orchestra.policies.gate import GuardState
from orchestra.policies.health.breaker import Closed, HalfOpen, Open
from orchestra.policies.limits.limit import Load
from orchestra.policies.money.budget import Budgets, SpendingLimits
from orchestra.protocols import Change
from orchestra.server.app import create_app
from orchestra.server.front.layers import OPEN
from orchestra.server.health import PROBE, PROBE_TTL_S, READY, Readiness
from orchestra.server.settings import Settings
from orchestra.stores.state.memory import MemoryState
from tests.patience import PATIENCE_S
from tests.server.deployment import Well
from tests.server.served import PIPELINES
from tests.server.wire import Reply, open_house

T = TypeVar("T")

HEAD = "GET /v1/health/models HTTP/1.1"


class Known(NoBindings, Well):
    """Bindings that know how their models are."""

    @property
    def caller_calls_waiting(self) -> int:
        return 3

    def states(self) -> Mapping[str, GuardState]:
        return {
            "smart": GuardState(Open(4.5), Load(1, 2, 3)),
            "fast": GuardState(Closed(10, 2, 0), Load(0, 0)),
            "new": GuardState(HalfOpen(1, 1), Load(0, 0)),
            "plain": GuardState(None, Load(0, 0)),
        }


def asking(bindings: NoBindings, head: str = HEAD, readiness: Readiness = READY) -> Reply:
    async def main() -> Reply:
        async with open_engine(bindings) as engine:
            app = create_app(engine, PIPELINES, Settings(), OPEN, readiness)
            async with open_house(app, Settings()) as house:
                return await (await house.connect()).ask(head)

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


# --- probes ------------------------------------------------------------------------------------


class Broken(MemoryState):
    """A state that can only be read."""

    async def change(self, keys: Sequence[str], decide: Callable[..., Change[T]]) -> T:
        raise StateError(f"redis://secret-host: {keys} cannot be written")


class Hanging(MemoryState):
    """A state that does not answer."""

    async def change(self, keys: Sequence[str], decide: Callable[..., Change[T]]) -> T:
        await trio.sleep_forever()
        raise AssertionError(keys)


class Deployed(NoBindings, Well):
    """A deployment with this state, and stores that cannot be read."""

    def __init__(self, state: MemoryState | None = None, stores: str = "") -> None:
        self.state = state or MemoryState()
        self._stores = stores

    def names(self, seam: str) -> tuple[str, ...]:
        if self._stores and seam == "store":
            raise StoreError(self._stores)
        return ()


def ready(bindings: NoBindings, readiness: Readiness = READY) -> tuple[int, dict[str, object]]:
    reply = asking(bindings, "GET /readyz HTTP/1.1", readiness)
    assert reply.headers["cache-control"] == "no-store"
    return reply.status, reply.json


class Budgeted(Deployed):
    """Bindings that keep what callers have spent elsewhere."""

    budgets = Budgets(user=SpendingLimits(day=1))

    def __init__(self, budget_state: MemoryState) -> None:
        super().__init__()
        self.budget_state = budget_state


class PaidByRun(Budgeted):
    """Of whose budgets none is kept anywhere."""

    budgets = Budgets(request=1)


def test_a_server_with_all_that_it_needs_is_ready() -> None:
    checks = {"keys": "ok", "state": "ok", "stores": "ok"}
    together = Budgeted(MemoryState())
    together.budget_state = together.state
    for bindings in (Deployed(), PaidByRun(Broken()), together):
        assert ready(bindings) == (200, {"status": "ready", "checks": checks})
    found = ready(Budgeted(MemoryState()))
    assert found == (200, {"status": "ready", "checks": {"budgets": "ok", **checks}})
    assert ready(NoBindings()) == (200, {"status": "ready", "checks": {"stores": "ok"}})


def test_bindings_are_asked_for_what_they_inherit_and_not_for_what_has_such_a_name() -> None:
    class Geographic(NoBindings):
        state = "Bavaria"

        def states(self) -> list[str]:
            return [self.state]

    assert ready(Geographic()) == (200, {"status": "ready", "checks": {"stores": "ok"}})
    assert asking(Geographic()).json == {"models": []}


@pytest.mark.parametrize(
    ("bindings", "checks"),
    [
        (Deployed(Broken()), {"keys": "ok", "state": "failed", "stores": "ok"}),
        (
            Budgeted(Broken()),
            {"budgets": "failed", "keys": "ok", "state": "ok", "stores": "ok"},
        ),
        (Deployed(Hanging()), {"keys": "ok", "state": "slow", "stores": "ok"}),
        (Deployed(stores="a: damaged"), {"keys": "ok", "state": "ok", "stores": "failed"}),
    ],
)
def test_one_without_is_not_and_says_what_is_missing_but_not_where(
    bindings: Deployed,
    checks: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    slow = "slow" in checks.values()  # the others have all the time that a busy machine takes
    monkeypatch.setattr("orchestra.server.health.CHECK_S", 1.0 if slow else PATIENCE_S)
    monkeypatch.setattr("orchestra.server.health.AGAIN_S", (0.001,))
    assert ready(bindings) == (503, {"status": "not ready", "checks": checks})
    [why] = caplog.messages
    assert any(word in why for word in ("secret-host", "no answer within", "damaged"))


def test_a_state_that_hangs_holds_no_probe_and_is_called_by_one_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As Redis does: a call that has been sent ends with its own time limit, not when cancelled."""
    monkeypatch.setattr("orchestra.server.health.CHECK_S", 0.05)

    class Deaf(MemoryState):
        calls = 0
        back = trio.Event()

        async def change(self, *_: object) -> Any:
            self.calls += 1
            with trio.CancelScope(shield=True):
                await self.back.wait()

    state = Deaf()

    async def main() -> None:
        async with open_engine(Deployed(state)) as engine:
            app = create_app(engine, PIPELINES, Settings())
            async with open_house(app, Settings()) as house:
                try:
                    for _ in range(3):
                        with trio.fail_after(PATIENCE_S):
                            reply = await (await house.connect()).ask("GET /readyz HTTP/1.1")
                        assert reply.status == 503
                        assert b'"state":"slow"' in reply.body
                    assert state.calls == 1
                finally:
                    state.back.set()

    trio.run(main)


def test_a_state_that_answers_when_it_is_asked_again_is_there() -> None:
    class Late(MemoryState):
        """A state whose first call fails, while it is being opened."""

        asked = 0

        async def change(self, keys: Sequence[str], decide: Callable[..., Change[T]]) -> T:
            self.asked += 1
            if self.asked == 1:
                raise StateError("no answer within 0.05 s")
            return await super().change(keys, decide)

    assert ready(Deployed(Late()))[0] == 200


def test_who_could_let_nobody_in_is_not_ready() -> None:
    class Keyed(Deployed):
        """A deployment whose keys are gone."""

        async def keys_made(self) -> bool:
            raise StateError("keys.sqlite: the file that was open is gone")

    checks = {"keys": "failed", "state": "ok", "stores": "ok"}
    assert ready(Keyed()) == (503, {"status": "not ready", "checks": checks})


def test_a_probe_writes_one_key_that_is_soon_forgotten() -> None:
    now_s = [1000.0]
    state = MemoryState(now_s=lambda: now_s[0])
    for _ in range(2):
        assert ready(Deployed(state))[0] == 200
    assert list(state._entries) == [PROBE]
    now_s[0] += PROBE_TTL_S + 1
    assert trio.run(state.change, [PROBE], lambda there, _: Change(there[0])) is None


def test_one_that_stops_is_not_ready_and_lives() -> None:
    stopping = Readiness(stopping=True)
    assert ready(Deployed(Broken()), stopping) == (503, {"status": "stopping", "checks": {}})
    reply = asking(Deployed(Broken()), "GET /healthz HTTP/1.1", stopping)
    assert (reply.status, reply.json) == (200, {"status": "live"})
