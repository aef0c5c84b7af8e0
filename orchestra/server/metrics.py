"""`/metrics`: what the server counts, as Prometheus reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from quart import Response, request
from werkzeug.exceptions import ServiceUnavailable

from orchestra.server.front.access import may_count
from orchestra.server.front.routes import Route

if TYPE_CHECKING:
    from orchestra.observe.counting import Counting

APART = "the metrics of this server's workers cannot be combined"
ROOM = "their folder is in the temporary folder (TMPDIR): make room there, or restart the server"


def metrics_routes(counting: Counting) -> list[Route]:
    """The route that tells what is counted."""

    async def metrics() -> Response:
        """All of it, of all processes of this server; 503 where they cannot put it together.

        To tell the rest would let counters fall, which is a new start for whoever reads them.
        """
        from orchestra.observe.exposition import exposed

        try:
            total = await counting.total()
        except OSError as error:
            raise ServiceUnavailable(f"{APART}: {error.strerror}; {ROOM}") from error
        accept = request.headers.get("Accept", "")
        body, content_type = await trio.to_thread.run_sync(exposed, total, accept)
        return Response(body, headers={"Cache-Control": "no-store"}, content_type=content_type)

    summary = "What the server counts, for Prometheus."
    return [Route("metrics", "/metrics", metrics, summary, may_count)]
