"""The OpenAPI description of the routes of runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from orchestra.errors import ModelError, StateError
from orchestra.events import RunCancelled
from orchestra.runs.record import STATUSES
from orchestra.server import sse
from orchestra.server.openapi.events import BY_MODEL, USAGE, reference
from orchestra.server.openapi.words import (
    COUNT,
    EVENTS,
    GIVEN_TAGS,
    NUMBER,
    OF_TAGS,
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
    tags=GIVEN_TAGS,
    usage=or_null(reference(USAGE)),
    usage_by_model=BY_MODEL,
    links=closed(self=TEXT, events=TEXT),
)
_GIVEN = "The pipeline's result; that of a stream is its chunks, joined."


def run_result(result: Json) -> Json:
    """The schema of a run's response, if the result of its pipeline has the schema `result`."""
    return {"title": RUN_RESULT, "description": "The whole result of a run."} | closed(
        run_id=TEXT,
        result={"description": _GIVEN} | result,
        timings_s={"type": "object", "additionalProperties": NUMBER},
        usage=or_null(reference(USAGE)),
        usage_by_model=BY_MODEL,
        cut={"type": "boolean", "description": "Whether a model's answer behind it was truncated."},
    )


SCHEMAS: Mapping[str, Json] = {
    RUN_RESULT: run_result({}),
    RUN: {
        **_VIEW,
        "title": RUN,
        "description": "A run, in whichever process it runs. Times are seconds since 1970.",
        "properties": {
            **_VIEW["properties"],
            "result": {"description": "The result of a finished run; not in lists of runs."},
            "error": closed(type=TEXT, message=TEXT),
            "reason": {**TEXT, "description": "Why it was cancelled."},
        },
    },
}
"""The schemas that these operations refer to, by name."""


def _waits(kind: Kind) -> tuple[tuple[str, str], ...]:
    """The `Retry-After` header of kinds of errors that may have one."""
    return (("Retry-After", "1"),) if issubclass(kind.error, ModelError | StateError) else ()


UNKNOWN = (problems.unknown_pipeline("", ()), problems.pipeline_only_as_model(""))
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
"""All problems of a run without a result, for a client that waits for the result."""
_STARTING = (
    *UNKNOWN,
    problems.not_acceptable("", ()),
    problems.bad_inputs([problems.Fault("", "", "")]),
    problems.too_busy(),
    _NOT_KEPT,
    _AWAY,
    *FAILURES,
)
_ANSWER = Answer(
    summary="The result of the run; or its events as they happen, the last of which ends the run.",
    contents={**json(reference(RUN_RESULT)), sse.STREAM: EVENTS},
    headers=(REPLAYED,),
)
_ENDED = Answer(status=204, summary="The client has all events of the run.")
_LAST = header("Last-Event-ID", "To resume a stream of events: the last `id` that was received.")
_ONE = json(reference(RUN))

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("start-run", "POST"): Operation(
        tag="runs",
        answers=(
            _ANSWER,
            Answer(
                status=202,
                summary="The run was started; `Location` is its path.",
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
            header("Idempotency-Key", "Requests with the same key are answered with the same run."),
            OF_TAGS,
            header("Prefer", f"With `{preferences.BACKGROUND}`, do not wait for the run."),
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
        parameters=(_LAST, OF_TAGS),
    ),
    ("list-runs", "GET"): Operation(
        tag="runs",
        answers=(
            Answer(
                summary="A page of runs, newest first.",
                contents=json(closed(runs=listed(reference(RUN)), next_cursor=or_null(TEXT))),
            ),
        ),
        problems=(problems.bad_inputs([problems.Fault("", "", "")]), _AWAY),
        parameters=tuple(
            {"name": name, "in": "query", "description": about, "schema": schema}
            for name, about, schema in (
                (
                    "limit",
                    "The most runs on the page.",
                    {**COUNT, "minimum": 1, "maximum": run_views.LIMIT_MAX},
                ),
                ("cursor", "The `next_cursor` of the previous page.", TEXT),
                ("pipeline", "Only runs of this pipeline.", TEXT),
                ("status", "Only runs with this status.", {"enum": list(STATUSES)}),
                ("tag", "Only runs with all of these tags, each as `name=value`.", listed(TEXT)),
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
            Answer(summary="The run has ended.", contents=_ONE),
            Answer(status=202, summary="The run is being cancelled.", contents=_ONE),
        ),
        problems=(_NOT_FOUND, _AWAY),
    ),
    ("follow-run", "GET"): Operation(
        tag="runs",
        answers=(
            Answer(
                summary="The events of the run, until its last one.", contents={sse.STREAM: EVENTS}
            ),
            _ENDED,
        ),
        problems=(
            problems.not_acceptable("", ()),
            run_views.bad_event_id(""),
            _NOT_FOUND,
            _NOT_KEPT,
            _AWAY,
        ),
        parameters=(
            _LAST,
            {
                "name": "after",
                "in": "query",
                "description": "Like `Last-Event-ID`.",
                "schema": TEXT,
            },
        ),
    ),
}
