"""What can be asked of each route, and what it answers: statuses, content types, schemas. Pure.

By the name of the route and the method, since a route is told where it is served and described
here; a test finds what has no description. Problems are told by the functions that make them, so
that what is documented is what is answered.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from orchestra.errors import BudgetExceededError, LimitReachedError
from orchestra.events import RunCancelled
from orchestra.server import caller_problems, problems, sse
from orchestra.server.front import Admission
from orchestra.server.openapi_events import EVENT, USAGE, reference
from orchestra.server.problems import HttpProblem
from orchestra.server.run_problems import FAILED, KINDS, failed_run
from orchestra.server.settings import Settings
from orchestra.values import Json

TEXT: Json = {"type": "string"}
NUMBER: Json = {"type": "number"}
COUNT: Json = {"type": "integer", "minimum": 0}
HTML = "text/html"
EVENTS: Json = {
    "schema": {**TEXT, "description": "Server-sent events; the `data` of each is an `Event`."},
    "x-orchestra-event": reference(EVENT),
}
"""OpenAPI 3.1 has no word for what is in a stream."""


@attrs.frozen(kw_only=True)
class Answer:
    """One answer that is no problem: by media type what it holds, and what its headers are."""

    summary: str
    status: int = 200
    contents: Mapping[str, Json] = attrs.field(factory=dict)
    headers: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Operation:
    """One method of one route, as far as the route itself decides."""

    tag: str
    answers: tuple[Answer, ...]
    problems: tuple[HttpProblem, ...] = ()
    parameters: tuple[Json, ...] = ()
    body: Mapping[str, Json] = attrs.field(factory=dict)
    """By media type what is sent."""


def json(schema: Json) -> dict[str, Json]:
    """A JSON body of this schema."""
    return {sse.JSON: {"schema": schema}}


def closed(**members: Json) -> Json:
    """An object with these members and no others."""
    return {
        "type": "object",
        "properties": members,
        "required": list(members),
        "additionalProperties": False,
    }


def listed(schema: Json) -> Json:
    """An array of these."""
    return {"type": "array", "items": schema}


def or_null(schema: Json) -> Json:
    """This, or nothing."""
    return {"anyOf": [schema, {"type": "null"}]}


def header(name: str, summary: str, schema: Json = TEXT) -> Json:
    """A header that may be sent."""
    return {"name": name, "in": "header", "description": summary, "schema": schema}


RUN_RESULT = "RunResult"
SCHEMAS: Mapping[str, Json] = {
    RUN_RESULT: {"title": RUN_RESULT, "description": "What a run gave, whole."}
    | closed(
        run_id=TEXT,
        result={"description": "What the pipeline gives; of a stream, its chunks joined."},
        timings_s={"type": "object", "additionalProperties": NUMBER},
        usage=or_null(reference(USAGE)),
    ),
}
"""The schemas of what several routes answer, by name."""

UNKNOWN = problems.unknown_pipeline("", ())
UNREADABLE = (
    problems.bad_body(""),
    problems.bad_media_type(""),
    problems.by_status(408, "Request Timeout", "the body took too long"),
)
FAILURES = (
    *(HttpProblem(kind.status, kind.code, kind.title, "") for kind in (*KINDS, FAILED)),
    failed_run("", RunCancelled(1, 0.0, "")),
)
"""Whatever can become of a run whose client waits for its result."""
RUN_PROBLEMS = (
    UNKNOWN,
    problems.not_acceptable("", ()),
    problems.bad_inputs([problems.Fault("", "", "")]),
    problems.too_busy(""),
    *FAILURES,
)
RUN_ANSWER = Answer(
    summary="The result of the run; or its events as they happen, the last of which tells the end.",
    contents={**json(reference(RUN_RESULT)), sse.STREAM: EVENTS},
)
RESUMED = header("Last-Event-ID", "What a browser's `EventSource` sends when it comes back.")

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("list-pipelines", "GET"): Operation(
        tag="pipelines",
        answers=(
            Answer(
                summary="Those that you may run.",
                contents=json(closed(pipelines=listed(closed(name=TEXT, summary=TEXT)))),
            ),
        ),
    ),
    ("describe-pipeline", "GET"): Operation(
        tag="pipelines",
        answers=(
            Answer(
                summary="The pipeline; `inputs` is a JSON Schema.",
                contents=json(
                    closed(name=TEXT, doc=TEXT, inputs={"type": "object"}, graph={"type": "object"})
                ),
            ),
        ),
        problems=(UNKNOWN,),
    ),
    ("start-run", "POST"): Operation(
        tag="runs",
        answers=(RUN_ANSWER,),
        problems=(*RUN_PROBLEMS, *UNREADABLE),
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
        answers=(
            RUN_ANSWER,
            Answer(status=204, summary="The run has ended; there is nothing behind it."),
        ),
        problems=RUN_PROBLEMS,
        parameters=(RESUMED,),
    ),
    ("models-health", "GET"): Operation(
        tag="health",
        answers=(
            Answer(
                summary="Each model that was asked since the server began.",
                contents=json(
                    closed(
                        models=listed(
                            closed(
                                name=TEXT,
                                breaker={"enum": ["closed", "open", "half-open", None]},
                                next_probe_s=or_null(NUMBER),
                                running=COUNT,
                                waiting=COUNT,
                                at_once=or_null(COUNT),
                            )
                        )
                    )
                ),
            ),
        ),
    ),
    ("openapi", "GET"): Operation(
        tag="documents",
        answers=(
            Answer(
                summary="What is served to you, as OpenAPI 3.1.",
                contents=json({"type": "object"}),
            ),
        ),
    ),
    ("docs", "GET"): Operation(
        tag="documents",
        answers=(Answer(summary="A page to read it.", contents={HTML: {"schema": TEXT}}),),
    ),
}


def of_all(settings: Settings) -> tuple[HttpProblem, ...]:
    """What any request can be answered, whatever is asked."""
    return (
        problems.too_large(settings.body_limit_bytes),
        problems.target_too_long(settings.target_limit_bytes),
        problems.too_many_headers(settings.headers_max),
        problems.by_status(500, "Internal Server Error", "the server's log says why"),
    )


def of_callers(admission: Admission) -> tuple[HttpProblem, ...]:
    """What a caller can be answered before any route is asked."""
    found: list[HttpProblem] = []
    if admission.keyring is not None:
        reasons = ("unknown", "expired", "revoked", "malformed")
        found += [caller_problems.key_refused(each) for each in reasons]
        found.append(caller_problems.keys_unreachable())
    if admission.rates is not None:
        found.append(caller_problems.your_rate(LimitReachedError("")))
    if admission.purse is not None:
        found.append(caller_problems.your_budget(_SPENT))
    return tuple(found)


_SPENT = BudgetExceededError("")
