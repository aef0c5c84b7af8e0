"""Health checks, for operators: whether the process is live and ready, and how its models are.

The answers are about this process only. They have names, but no address, no key, and no content of
a request.

Rules of the file: no check takes longer than `CHECK_S`, and a disk that hangs blocks one thread.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio
from quart_trio.wrappers import TrioResponse as Response

from orchestra.engine.bindings import DeploymentBindings
from orchestra.errors import StateError
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
"""The timeout of each check, which is less than Kubernetes' default of one second per probe."""
AGAIN_S = (0.1, 0.3)
"""Delays before retries: the first call to a state also connects, within the usual 50 ms."""
PROBE = "health:probe"
PROBE_TTL_S = 60.0
"""How long the entry that checks whether a state can be written to is kept."""
OK, FAILED, SLOW = "ok", "failed", "slow"
_NO_STORE = {"Cache-Control": "no-store"}
_WORDS = {"Closed": "closed", "Open": "open", "HalfOpen": "half-open"}


class Readiness:
    """Whether the process accepts new requests; set `stopping` when it is asked to stop."""

    def __init__(self, *, stopping: bool = False) -> None:
        self.stopping = stopping


READY = Readiness()
"""For an application that is never told that it is stopping."""


def health_routes(bindings: Bindings, readiness: Readiness = READY) -> list[Route]:
    """The routes of health checks; the first two are public, since load balancers have no key."""
    health = Health(bindings, readiness)
    lives = "Check that the process responds."
    ready = "Check that the server is not stopping, and that what it depends on is available."
    models = "The health of the models that were called: breakers, and running and waiting calls."
    return [
        Route("live", "/healthz", health.live, lives, public),
        Route("ready", "/readyz", health.ready, ready, public),
        Route("models-health", "/v1/health/models", health.models, models),
    ]


class Health:
    """The handlers of `/healthz`, `/readyz` and `/v1/health/models`.

    Bindings that are not a deployment's have no models to show, and no state and keys to check.
    """

    def __init__(self, bindings: Bindings, readiness: Readiness = READY) -> None:
        self.bindings = bindings
        self.readiness = readiness
        self._threads = trio.CapacityLimiter(1)

    async def live(self) -> Response:
        """Answer 200: the process responds."""
        return as_json({"status": "live"}, headers=_NO_STORE)

    async def ready(self) -> Response:
        """Answer 200 if the server should receive requests, or 503 if a dependency has a problem.

        `checks` has `ok`, `failed` or `slow` for each dependency; the log says why. If the server
        was asked to stop, `status` is `stopping` (503), and nothing is checked.
        """
        if self.readiness.stopping:
            return as_json({"status": "stopping", "checks": {}}, 503, _NO_STORE)
        found: dict[str, str] = {}
        async with trio.open_nursery() as nursery:
            for name, check in self._checks().items():
                nursery.start_soon(_check, name, check, found)
        ready = all(each == OK for each in found.values())
        body = {"status": "ready" if ready else "not ready", "checks": dict(sorted(found.items()))}
        return as_json(body, 200 if ready else 503, _NO_STORE)

    async def models(self) -> Response:
        """Each guarded model that was called: its breaker, and its running and waiting calls.

        As in `/v1/models`, only models that the caller may use are included.
        """
        may_ask = principal().scopes.may_ask
        states = states_of(self.bindings)
        seen = {name: each for name, each in states.items() if may_ask(name)}
        return as_json({"models": shown(seen)}, headers=_NO_STORE)

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

    async def _read_stores(self) -> None:
        names = partial(self.bindings.names, "store")
        await trio.to_thread.run_sync(names, abandon_on_cancel=True, limiter=self._threads)


async def _write(state: State) -> None:
    """Check that the state can be written: limits and budgets need more than reading."""
    await ask_with_retries(partial(state.change, (PROBE,), _probed), AGAIN_S)


async def check_state(bindings: DeploymentBindings) -> None:
    """Check, as `/readyz` does, that the state of the deployment can be written to.

    Raises:
        StateError: it cannot be written, or not within `CHECK_S`.
    """
    with trio.move_on_after(CHECK_S) as time:
        await _write(bindings.state)
    if time.cancelled_caught:
        raise StateError(
            f"the state did not respond within {CHECK_S:g} s; check that it runs and is reachable"
        )


def _probed(_: Sequence[bytes | None], now_s: float) -> Change[None]:
    """Write the time, which differs in each probe, so that each probe changes something."""
    return Change(None, {PROBE: Entry(str(now_s).encode(), PROBE_TTL_S)})


async def _check(name: str, check: Callable[[], Awaitable[object]], found: dict[str, str]) -> None:
    found[name] = SLOW
    with trio.move_on_after(CHECK_S):
        try:
            await check()
        except Exception as error:  # noqa: BLE001 - any error means not ready
            found[name] = FAILED
            log.warning("not ready: %s: %s", name, describe(error))
        else:
            found[name] = OK
    if found[name] is SLOW:
        log.warning("not ready: %s: no answer within %g s", name, CHECK_S)


def states_of(bindings: Bindings) -> Mapping[str, GuardState]:
    """The breaker and the load of each guarded model that was called, by its name."""
    return bindings.states() if isinstance(bindings, DeploymentBindings) else {}


def shown(states: Mapping[str, GuardState]) -> list[dict[str, object]]:
    """The states for JSON, sorted by name; `next_probe_s` is null unless the breaker is open."""
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


def gauges_of(states: Mapping[str, GuardState]) -> Tally:
    """The states as metrics."""
    found = Tally()
    for name, state in states.items():
        found.set(names.CALLS_RUNNING, (name,), state.load.running)
        found.set(names.CALLS_WAITING, (name,), state.load.waiting)
        if state.breaker is not None:
            word = _WORDS[type(state.breaker).__name__]
            for each in _WORDS.values():
                found.set(names.BREAKERS, (name, each), int(each == word))
    return found
