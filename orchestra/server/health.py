"""How the models are, for those who run the server: breakers, and calls under way.

Names only: no address, no key, nothing of what was asked. It is the state of this process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs
import msgspec
from quart_trio.wrappers import TrioResponse as Response

from orchestra.server import sse
from orchestra.server.access import KNOWN
from orchestra.server.routes import Route

if TYPE_CHECKING:
    from orchestra.policies.guard import GuardState
    from orchestra.protocols import Bindings

_WORDS = {"Closed": "closed", "Open": "open", "HalfOpen": "half-open"}


def health_routes(bindings: Bindings) -> list[Route]:
    """The routes that tell how the server is."""
    health = Health(bindings)
    return [
        Route(
            name="models-health",
            path="/v1/health/models",
            handler=health.models,
            access=KNOWN,
            summary="How the models are that were asked: breakers, and calls under way.",
        ),
    ]


@attrs.frozen
class Health:
    """The handler of `/v1/health/models`. Bindings without `states` have nothing to show."""

    bindings: Bindings

    async def models(self) -> Response:
        """Each guarded model that was asked for: its breaker, and its running and waiting calls."""
        states = getattr(self.bindings, "states", dict)
        body = msgspec.json.encode({"models": shown(states())})
        return Response(body, content_type=sse.JSON, headers={"Cache-Control": "no-store"})


def shown(states: Mapping[str, GuardState]) -> list[dict[str, object]]:
    """The states as JSON has them, by name. `next_probe_s` is null unless a breaker is open."""
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
