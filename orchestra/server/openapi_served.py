"""The routes of pipelines, runs, health and documents, as OpenAPI tells them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from orchestra.events import RunCancelled
from orchestra.server import problems, sse
from orchestra.server.openapi_events import USAGE, reference
from orchestra.server.openapi_words import (
    COUNT,
    EVENTS,
    HTML,
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
from orchestra.server.problems import HttpProblem
from orchestra.server.run_problems import FAILED, KINDS, failed_run
from orchestra.values import Json

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

_READINESS = closed(
    status={"enum": ["ready", "not ready", "stopping"]},
    checks={"type": "object", "additionalProperties": {"enum": ["ok", "failed", "slow"]}},
)

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
    ("live", "GET"): Operation(
        tag="health",
        answers=(Answer(summary="It does.", contents=json(closed(status={"const": "live"}))),),
    ),
    ("ready", "GET"): Operation(
        tag="health",
        answers=(
            Answer(summary="It should.", contents=json(_READINESS)),
            Answer(status=503, summary="It should not.", contents=json(_READINESS)),
        ),
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
