"""The server's health, for its operators: whether it is alive and ready, and its models' state.

Responses contain names only: no address, no key, nothing of a request. They describe this process.

Rules of the file: no probe waits longer than `CHECK_S`; a disk that hangs blocks only one thread,
and a dependency that hangs is called by one task, however many probes come meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio
from quart_trio.wrappers import TrioResponse as Response

from orchestra.engine.bindings import DeploymentBindings
from orchestra.errors import StateError
from orchestra.groups import contained
from orchestra.messages import describe
from orchestra.observe import names
from orchestra.observe.tally import Tally
from orchestra.protocols import Change, Entry
from orchestra.runs.retrying import ask_with_retries
from orchestra.server.front.access import public
from orchestra.server.front.departure import principal
from orchestra.server.front.routes import Route
from orchestra.server.responses.whole_answers import as_json

if TYPE_CHECKING:
    from orchestra.policies.gate import GuardState
    from orchestra.protocols import Bindings, State

log = logging.getLogger("orchestra.server")

CHECK_S = 0.8
"""How long a dependency may take: less than the second that Kubernetes gives a probe."""
AGAIN_S = (0.1, 0.3)
"""Seconds before each retry of a state: its first call also connects, within the usual 50 ms."""
PROBE = "health:probe"
PROBE_TTL_S = 60.0
"""How long a state keeps the entry that a probe writes to it."""
OK, FAILED, SLOW = "ok", "failed", "slow"
_WORDS = {"Closed": "closed", "Open": "open", "HalfOpen": "half-open"}


class Readiness:
    """Whether the process is stopping; until then, it takes new requests."""

    def __init__(self, *, stopping: bool = False) -> None:
        self.stopping = stopping


READY = Readiness()
"""The readiness of an application that is never asked to stop."""


@attrs.define(eq=False)
class Check:
    """A check of a dependency that is in progress, and what it has found so far."""

    found: str = SLOW
    over: trio.Event = attrs.field(factory=trio.Event)


def health_routes(
    bindings: Bindings, nursery: trio.Nursery, readiness: Readiness = READY
) -> list[Route]:
    """The routes of the server's health; the first two need no key, as load balancers have none.

    A check that takes too long ends in `nursery`.
    """
    health = Health(bindings, nursery, readiness)
    lives = "Whether the process answers."
    ready = "Whether to send it requests: it is not stopping, and what it depends on works."
    models = "The state of each remote model: its breaker, and its calls in flight."
    return [
        Route("live", "/healthz", health.live, lives, public),
        Route("ready", "/readyz", health.ready, ready, public),
        Route("models-health", "/v1/health/models", health.models, models),
    ]


class Health:
    """The handlers of `/healthz`, `/readyz` and `/v1/health/models`.

    Other bindings than `DeploymentBindings` have no models to show, and no state or keys to check.
    """

    def __init__(
        self, bindings: Bindings, nursery: trio.Nursery, readiness: Readiness = READY
    ) -> None:
        self.bindings = bindings
        self.readiness = readiness
        self._nursery = nursery
        self._checking: dict[str, Check] = {}
        self._threads = trio.CapacityLimiter(1)

    async def live(self) -> Response:
        """200: the process answers."""
        return as_json({"status": "live"})

    async def ready(self) -> Response:
        """Whether to send it requests: 200, or 503 if it is stopping or a dependency fails.

        `checks` has `ok`, `failed` or `slow` for each dependency; the log says why. If the server
        was asked to stop, `status` is `stopping`, and nothing is checked.
        """
        if self.readiness.stopping:
            return as_json({"status": "stopping", "checks": {}}, 503)
        found: dict[str, str] = {}
        async with trio.open_nursery() as nursery:
            for name, check in self._checks().items():
                nursery.start_soon(self._check, name, check, found)
        ready = all(each == OK for each in found.values())
        body = {"status": "ready" if ready else "not ready", "checks": dict(sorted(found.items()))}
        return as_json(body, 200 if ready else 503)

    async def models(self) -> Response:
        """Each guarded model that was set up: its breaker, and its running and waiting calls.

        Like `/v1/models`, it includes only models that the caller may use.
        """
        may_ask = principal().scopes.may_ask
        states = states_of(self.bindings)
        seen = {name: each for name, each in states.items() if may_ask(name)}
        return as_json({"models": shown(seen)})

    def _checks(self) -> Mapping[str, Callable[[], Awaitable[object]]]:
        found: dict[str, Callable[[], Awaitable[object]]] = {"stores": self._read_stores}
        bindings = self.bindings
        if isinstance(bindings, DeploymentBindings):
            found["state"] = partial(_write, bindings.state)
            found["keys"] = partial(ask_with_retries, bindings.keys_made, AGAIN_S)
            lasting = bindings.budgets is not None and bindings.budgets.lasting
            if lasting and bindings.budget_state is not bindings.state:
                found["budgets"] = partial(_write, bindings.budget_state)
        return found

    async def _check(
        self, name: str, check: Callable[[], Awaitable[object]], found: dict[str, str]
    ) -> None:
        """Find out how a dependency is, by the check in progress, or a new one.

        It has a task of its own, since a call of a state does not end when it is cancelled.
        """
        checking = self._checking.get(name)
        if checking is None:
            self._checking[name] = checking = Check()
            perform = partial(self._perform, name, check, checking)
            self._nursery.start_soon(contained, perform, log, f"not ready: {name}")
        with trio.move_on_after(CHECK_S):
            await checking.over.wait()
        found[name] = checking.found
        if found[name] is SLOW:
            log.warning("not ready: %s: no answer within %g s", name, CHECK_S)

    async def _perform(
        self, name: str, check: Callable[[], Awaitable[object]], checking: Check
    ) -> None:
        try:
            with trio.move_on_after(CHECK_S):
                await check()
                checking.found = OK
        except Exception as error:  # noqa: BLE001 - after any error it is not ready
            checking.found = FAILED
            log.warning("not ready: %s: %s", name, describe(error))
        finally:
            del self._checking[name]
            checking.over.set()

    async def _read_stores(self) -> None:
        names = partial(self.bindings.names, "store")
        await trio.to_thread.run_sync(names, abandon_on_cancel=True, limiter=self._threads)


async def _write(state: State) -> None:
    """Write to the state: for limits and budgets, it is not enough that it can be read."""
    await ask_with_retries(partial(state.change, (PROBE,), _probed), AGAIN_S)


async def check_state(bindings: DeploymentBindings) -> None:
    """Check, as `/readyz` does, that the state of these bindings can be written to.

    Raises:
        StateError: it cannot, or not within `CHECK_S`.
    """
    with trio.move_on_after(CHECK_S) as time:
        await _write(bindings.state)
    if time.cancelled_caught:
        raise StateError(f"the state did not answer within {CHECK_S:g} s; check it")


def _probed(_: Sequence[bytes | None], now_s: float) -> Change[None]:
    """An entry with the current time, so that each probe writes."""
    return Change(None, {PROBE: Entry(str(now_s).encode(), PROBE_TTL_S)})


def states_of(bindings: Bindings) -> Mapping[str, GuardState]:
    """The breaker and the load of each guarded model that was set up, by the model's name."""
    return bindings.states() if isinstance(bindings, DeploymentBindings) else {}


def shown(states: Mapping[str, GuardState]) -> list[dict[str, object]]:
    """The states for JSON, sorted by name. `next_probe_s` is null unless the breaker is open."""
    return [{"name": name, **_shown(state)} for name, state in sorted(states.items())]


def _shown(state: GuardState) -> dict[str, object]:
    breaker = state.breaker
    return {
        "breaker": _WORDS[type(breaker).__name__] if breaker is not None else None,
        "next_probe_s": getattr(breaker, "wait_s", None),
        "running": state.load.running,
        "waiting": state.load.waiting,
        "at_once": state.load.at_once,
    }


def gauges_of(bindings: Bindings) -> Tally:
    """The states of models, and the calls that wait for callers' limits, as gauges."""
    found = Tally()
    if isinstance(bindings, DeploymentBindings):
        found.set(names.CALLER_CALLS_WAITING, (), bindings.caller_calls_waiting)
    for name, state in states_of(bindings).items():
        found.set(names.CALLS_RUNNING, (name,), state.load.running)
        found.set(names.CALLS_WAITING, (name,), state.load.waiting)
        if state.breaker is not None:
            word = _WORDS[type(state.breaker).__name__]
            for each in _WORDS.values():
                found.set(names.BREAKERS, (name, each), int(each == word))
    return found
