"""`/metrics`: the server's metrics, in the format of Prometheus."""

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
    """The route of `/metrics`."""

    async def metrics() -> Response:
        """The metrics of all processes of this server; 503 if they cannot be combined.

        Without some of the processes counters would fall, which Prometheus takes for a restart.
        """
        from orchestra.observe.exposition import exposed

        try:
            total = await counting.total()
        except OSError as error:
            raise ServiceUnavailable(f"{APART}: {error.strerror}; {ROOM}") from error
        accept = request.headers.get("Accept", "")
        body, content_type = await trio.to_thread.run_sync(exposed, total, accept)
        return Response(body, content_type=content_type)

    summary = "The server's metrics, for Prometheus."
    return [Route("metrics", "/metrics", metrics, summary, may_count)]
