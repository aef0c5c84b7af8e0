"""The routes of started runs; the handlers are imported with the first request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.server.front.routes import Later, Route

if TYPE_CHECKING:
    from orchestra.server.runs.pipelines import Runs
    from orchestra.server.runs.resources import RunResources


def run_routes(runs: Runs) -> list[Route]:
    """The routes that list, show, follow and cancel runs."""

    def open_resources() -> RunResources:
        from orchestra.server.runs.resources import RunResources

        return RunResources(runs.registry, runs.settings, runs.pipelines)

    resources = Later(open_resources)
    all_of_yours = "List the runs that you or your organisation started, newest first."
    show = "Show a run: its status, how it ended, and its result."
    follow = "Follow the events of a run, from any of them on."
    cancel = "Cancel a run; does nothing if it has ended."
    one = "/v1/runs/<run_id>"
    return [
        resources.route("list-runs", "/v1/runs", lambda it: it.list, all_of_yours),
        resources.route("show-run", one, lambda it: it.show, show),
        resources.route("follow-run", f"{one}/events", lambda it: it.follow, follow, head=False),
        resources.route("cancel-run", one, lambda it: it.cancel, cancel, methods=("DELETE",)),
    ]
