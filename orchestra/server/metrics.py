"""`/metrics`: what the server counts, as Prometheus reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from quart import Response, request

from orchestra.server.front.access import MAY_COUNT
from orchestra.server.front.routes import Route

if TYPE_CHECKING:
    from orchestra.observe.counting import Counting


def metrics_routes(counting: Counting) -> list[Route]:
    """The route that tells what is counted."""

    async def metrics() -> Response:
        """All of it, of all processes of this server."""
        from orchestra.observe.exposition import exposed

        total, accept = await counting.total(), request.headers.get("Accept", "")
        body, content_type = await trio.to_thread.run_sync(exposed, total, accept)
        return Response(body, headers={"Cache-Control": "no-store"}, content_type=content_type)

    return [
        Route(
            name="metrics",
            path="/metrics",
            handler=metrics,
            access=MAY_COUNT,
            summary="What the server counts, for Prometheus.",
        )
    ]
