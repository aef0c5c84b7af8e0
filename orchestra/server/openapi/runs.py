"""The routes of runs, as OpenAPI tells them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from orchestra.errors import ModelError, StateError
from orchestra.events import RunCancelled
from orchestra.runs.record import STATUSES
from orchestra.server import sse
from orchestra.server.openapi.events import USAGE, reference
from orchestra.server.openapi.words import (
    COUNT,
    EVENTS,
    NUMBER,
    TEXT,
    UNREADABLE,
    Answer,
    Operation,
    closed,
    header,
    json,
    listed,
    or_null,
)
from orchestra.server.responses import problems
from orchestra.server.responses.problems import HttpProblem
from orchestra.server.runs import preferences
from orchestra.server.runs import views as run_views
from orchestra.server.runs.durable import REPLAYED
from orchestra.server.runs.problems import FAILED, KINDS, Kind, failed_run
from orchestra.values import Json

RUN, RUN_RESULT = "Run", "RunResult"
_VIEW = closed(
    id=TEXT,
    pipeline=TEXT,
    status={"enum": list(STATUSES)},
    created_s=NUMBER,
    ended_s=or_null(NUMBER),
    user=TEXT,
    request_id=TEXT,
    usage=or_null(reference(USAGE)),
    links=closed(self=TEXT, events=TEXT),
)
_GIVEN = "What the pipeline gives; of a stream, its chunks joined."


def run_result(result: Json) -> Json:
    """The schema of what a run gave whose pipeline's result has this one."""
    return {"title": RUN_RESULT, "description": "What a run gave, whole."} | closed(
        run_id=TEXT,
        result={"description": _GIVEN} | result,
        timings_s={"type": "object", "additionalProperties": NUMBER},
        usage=or_null(reference(USAGE)),
        cut={"type": "boolean", "description": "Whether an answer it was made from was cut."},
    )


SCHEMAS: Mapping[str, Json] = {
    RUN_RESULT: run_result({}),
    RUN: {
        **_VIEW,
        "title": RUN,
        "description": "A run, wherever it runs. Times are seconds since 1970.",
        "properties": {
            **_VIEW["properties"],
            "result": {"description": "What it gave, if it has finished, where one run is asked."},
            "error": closed(type=TEXT, message=TEXT),
            "reason": {**TEXT, "description": "Why it was cancelled."},
        },
    },
}
"""The schemas of what these routes answer, by name."""


def _waits(kind: Kind) -> tuple[tuple[str, str], ...]:
    """The header of those that may tell when to try again."""
    return (("Retry-After", "1"),) if issubclass(kind.error, ModelError | StateError) else ()


UNKNOWN = (problems.unknown_pipeline("", ()), problems.spoken_pipeline(""))
_NOT_FOUND = run_views.unknown_run("")
_NOT_KEPT = run_views.not_kept("", "")
_AWAY = problems.state_unreachable()
FAILURES = (
    *(
        HttpProblem(kind.status, kind.code, kind.title, "", headers=_waits(kind))
        for kind in (*KINDS, FAILED)
    ),
    failed_run("", RunCancelled(1, 0.0, "")),
)
"""Whatever can become of a run whose client waits for its result."""
_STARTING = (
    *UNKNOWN,
    problems.not_acceptable("", ()),
    problems.bad_inputs([problems.Fault("", "", "")]),
    problems.too_busy(""),
    _NOT_KEPT,
    _AWAY,
    *FAILURES,
)
_ANSWER = Answer(
    summary="The result of the run; or its events as they happen, the last of which tells the end.",
    contents={**json(reference(RUN_RESULT)), sse.STREAM: EVENTS},
    headers=(REPLAYED,),
)
_ENDED = Answer(status=204, summary="The client has all of its events.")
_LAST = header("Last-Event-ID", "What a client sends that comes back: the last `id` it has.")
_ONE = json(reference(RUN))

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("start-run", "POST"): Operation(
        tag="runs",
        answers=(
            _ANSWER,
            Answer(
                status=202,
                summary="It runs; `Location` is where.",
                contents=_ONE,
                headers=("Location", "Preference-Applied", REPLAYED),
            ),
        ),
        problems=(
            *_STARTING,
            *UNREADABLE,
            preferences.bad_key(),
            run_views.other_request(""),
            run_views.nothing_to_resume(""),
            _NOT_FOUND,
        ),
        parameters=(
            _LAST,
            header("Idempotency-Key", "The same key, sent again, is answered with the same run."),
            header("Prefer", f"`{preferences.BACKGROUND}` does not wait for the run."),
        ),
        body=json(
            {
                "type": "object",
                "properties": {"inputs": {"type": "object"}},
                "additionalProperties": False,
            }
        ),
    ),
    ("start-run", "GET"): Operation(
        tag="runs",
        answers=(_ANSWER, _ENDED),
        problems=(*_STARTING, _NOT_FOUND),
        parameters=(_LAST,),
    ),
    ("list-runs", "GET"): Operation(
        tag="runs",
        answers=(
            Answer(
                summary="A page of them, the newest first.",
                contents=json(closed(runs=listed(reference(RUN)), next_cursor=or_null(TEXT))),
            ),
        ),
        problems=(problems.bad_inputs([problems.Fault("", "", "")]), _AWAY),
        parameters=tuple(
            {"name": name, "in": "query", "description": about, "schema": schema}
            for name, about, schema in (
                ("limit", "How many.", {**COUNT, "minimum": 1, "maximum": run_views.LIMIT_MAX}),
                ("cursor", "The `next_cursor` of the page before.", TEXT),
                ("pipeline", "Only of this pipeline.", TEXT),
                ("status", "Only those that are so.", {"enum": list(STATUSES)}),
            )
        ),
    ),
    ("show-run", "GET"): Operation(
        tag="runs",
        answers=(Answer(summary="The run.", contents=_ONE),),
        problems=(_NOT_FOUND, _AWAY),
    ),
    ("cancel-run", "DELETE"): Operation(
        tag="runs",
        answers=(
            Answer(summary="It has ended.", contents=_ONE),
            Answer(status=202, summary="It is being cancelled.", contents=_ONE),
        ),
        problems=(_NOT_FOUND, _AWAY),
    ),
    ("follow-run", "GET"): Operation(
        tag="runs",
        answers=(Answer(summary="Its events, to the last.", contents={sse.STREAM: EVENTS}), _ENDED),
        problems=(
            problems.not_acceptable("", ()),
            run_views.bad_event_id(""),
            _NOT_FOUND,
            _NOT_KEPT,
            _AWAY,
        ),
        parameters=(
            _LAST,
            {"name": "after", "in": "query", "description": "As that header.", "schema": TEXT},
        ),
    ),
}
