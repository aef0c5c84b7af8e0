"""The routes of runs that were started; what answers is imported when somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.server.front.routes import Later, Route

if TYPE_CHECKING:
    from orchestra.runs.registry import Registry
    from orchestra.server.runs.resources import RunResources
    from orchestra.server.settings import Settings


def run_routes(registry: Registry, settings: Settings) -> list[Route]:
    """The routes of runs that were started."""

    def open_resources() -> RunResources:
        from orchestra.server.runs.resources import RunResources

        return RunResources(registry, settings)

    runs = Later(open_resources)
    all_of_yours = "The runs that you and your organisation have started, newest first."
    show = "One run: whether it goes on, how it ended, and its result."
    follow = "The events of a run, from wherever you have them."
    cancel = "Cancel a run; one that has ended stays as it is."
    one = "/v1/runs/<run_id>"
    return [
        runs.route("list-runs", "/v1/runs", lambda it: it.list, all_of_yours),
        runs.route("show-run", one, lambda it: it.show, show),
        runs.route("follow-run", f"{one}/events", lambda it: it.follow, follow),
        runs.route("cancel-run", one, lambda it: it.cancel, cancel, methods=("DELETE",)),
    ]
