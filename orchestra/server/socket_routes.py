"""The route on which WebSockets are opened; what serves them is imported with the first of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestra.server.front.access import may_run
from orchestra.server.front.routes import Later, Route

if TYPE_CHECKING:
    import trio

    from orchestra.server.front.layers import Layer
    from orchestra.server.runs.pipelines import Runs
    from orchestra.server.websocket import Sockets


def socket_routes(sockets: Callable[[], Sockets]) -> list[Route]:
    """The route on which WebSockets are opened."""
    return [
        Later(sockets).route(
            "open-socket",
            "/v1/pipelines/<name>/ws",
            lambda it: it.open,
            "Several runs over one WebSocket.",
            methods=(),
            access=may_run,
        )
    ]


def open_sockets(
    runs: Runs,
    layers: tuple[Layer, ...] = (),
    origins: frozenset[str] = frozenset(),
    closing: trio.Event | None = None,
) -> Sockets:
    """The handler of that route."""
    from orchestra.server.websocket import Sockets

    more = {} if closing is None else {"closing": closing}
    return Sockets(runs, layers, origins, **more)
