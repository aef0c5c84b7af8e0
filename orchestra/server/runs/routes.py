"""The routes of runs that were started; what answers is imported when somebody asks."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from orchestra.server.front.access import KNOWN
from orchestra.server.front.routes import Route, later

if TYPE_CHECKING:
    from orchestra.runs.registry import Registry
    from orchestra.server.runs.resources import RunResources
    from orchestra.server.settings import Settings


def run_routes(registry: Registry, settings: Settings) -> list[Route]:
    """The routes of runs that were started."""

    @cache
    def resources() -> RunResources:
        from orchestra.server.runs.resources import RunResources

        return RunResources(registry, settings)

    one = "/v1/runs/<run_id>"
    return [
        Route(
            name="list-runs",
            path="/v1/runs",
            handler=later(resources, lambda it: it.list),
            access=KNOWN,
            summary="The runs that you and your organisation have started, newest first.",
        ),
        Route(
            name="show-run",
            path=one,
            handler=later(resources, lambda it: it.show),
            access=KNOWN,
            summary="One run: whether it goes on, how it ended, and its result.",
        ),
        Route(
            name="follow-run",
            path=f"{one}/events",
            handler=later(resources, lambda it: it.follow),
            access=KNOWN,
            summary="The events of a run, from wherever you have them.",
        ),
        Route(
            name="cancel-run",
            path=one,
            handler=later(resources, lambda it: it.cancel),
            access=KNOWN,
            methods=("DELETE",),
            summary="Cancel a run; one that has ended stays as it is.",
        ),
    ]
