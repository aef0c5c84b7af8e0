"""The OpenAPI description of the routes of runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from orchestra.errors import ModelError, StateError
from orchestra.events import RunCancelled
from orchestra.runs.record import STATUSES
from orchestra.server import sse
from orchestra.server.openapi.events import BY_MODEL, USAGE, failure, reference
from orchestra.server.openapi.words import (
    EVENTS,
    NUMBER,
    OBJECT,
    OF_TAGS,
    TEXT,
    TEXTS,
    UNREADABLE,
    Answer,
    Operation,
    closed,
    header,
    json,
    listed,
    or_null,
    query,
)
from orchestra.server.responses import problems
from orchestra.server.responses.caller_problems import bad_tags
from orchestra.server.responses.problems import HttpProblem
from orchestra.server.runs import preferences
from orchestra.server.runs import views as run_views
from orchestra.server.runs.durable import REPLAYED
from orchestra.server.runs.preferences import APPLIED
from orchestra.server.runs.problems import FAILED, KINDS, Kind, failed_run
from orchestra.values import Json

RUN, RUN_RESULT = "Run", "RunResult"
_VIEW = closed(
    id=TEXT,
    pipeline=TEXT,
    model=or_null(
        {**TEXT, "description": "The requested name, if a model was called; `pipeline` is `relay`."}
    ),
    status={"enum": list(STATUSES)},
    created_s=NUMBER,
    ended_s=or_null(NUMBER),
    user=TEXT,
    key=TEXT,
    request_id=TEXT,
    tags=TEXTS,
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
            **failure(),
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
_BAD_INPUTS = problems.bad_inputs([problems.Fault("", "", "")])
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
    _BAD_INPUTS,
    bad_tags(""),
    problems.too_busy(),
    _NOT_KEPT,
    _AWAY,
    *FAILURES,
)
_ANSWER = Answer(
    "The result of the run; or its events as they happen, the last of which ends the run.",
    {**json(reference(RUN_RESULT)), sse.STREAM: EVENTS},
    (APPLIED, REPLAYED),
)
_ENDED = Answer("The client has all events of the run.", status=204)
_LAST = header("Last-Event-ID", "To resume a stream of events: the last `id` that was received.")
_SHORTER = f"With `{preferences.MINIMAL}`, `run.finished` does not repeat a stream as its `result`."
_LATER = f"With `{preferences.BACKGROUND}`, do not wait for the run."
_PREFER = header("Prefer", _SHORTER)
_LIMIT: Json = {"type": "integer", "minimum": 1, "maximum": run_views.LIMIT_MAX}
_ONE = json(reference(RUN))

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("start-run", "POST"): Operation(
        "runs",
        _ANSWER,
        Answer(
            "The run was started; `Location` is its path.",
            _ONE,
            ("Location", APPLIED, REPLAYED),
            status=202,
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
            header("Prefer", f"{_LATER} {_SHORTER}"),
        ),
        body=json(
            {
                "type": "object",
                "properties": {"inputs": OBJECT},
                "additionalProperties": False,
            }
        ),
    ),
    ("start-run", "GET"): Operation(
        "runs",
        _ANSWER,
        _ENDED,
        problems=(*_STARTING, _NOT_FOUND),
        parameters=(_LAST, OF_TAGS, _PREFER),
    ),
    ("list-runs", "GET"): Operation(
        "runs",
        Answer(
            "A page of runs, newest first.",
            json(closed(runs=listed(reference(RUN)), next_cursor=or_null(TEXT))),
        ),
        problems=(_BAD_INPUTS, _AWAY),
        parameters=(
            query("limit", "The most runs on the page.", _LIMIT),
            query("cursor", "The `next_cursor` of the previous page.", TEXT),
            query("pipeline", "Only runs of this pipeline.", TEXT),
            query("status", "Only runs with this status.", {"enum": list(STATUSES)}),
            query("tag", "Only runs with all of these tags, each as `name=value`.", listed(TEXT)),
        ),
    ),
    ("show-run", "GET"): Operation("runs", Answer("The run.", _ONE), problems=(_NOT_FOUND, _AWAY)),
    ("cancel-run", "DELETE"): Operation(
        "runs",
        Answer("The run has ended.", _ONE),
        Answer("The run is being cancelled.", _ONE, status=202),
        problems=(_NOT_FOUND, _AWAY),
    ),
    ("follow-run", "GET"): Operation(
        "runs",
        Answer("The events of the run, until its last one.", {sse.STREAM: EVENTS}, (APPLIED,)),
        _ENDED,
        problems=(
            problems.not_acceptable("", ()),
            run_views.bad_event_id(""),
            _NOT_FOUND,
            _NOT_KEPT,
            _AWAY,
        ),
        parameters=(_LAST, _PREFER, query("after", "Like `Last-Event-ID`.", TEXT)),
    ),
}
