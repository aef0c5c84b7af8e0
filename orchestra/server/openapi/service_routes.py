"""The OpenAPI description of the routes of pipelines, health checks and documents. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from orchestra.observe.exposition import OPEN_METRICS
from orchestra.server.openapi.words import (
    COUNT,
    HTML,
    NUMBER,
    TEXT,
    Answer,
    Operation,
    closed,
    json,
    listed,
    or_null,
)
from orchestra.server.responses import problems

_READINESS = closed(
    status={"enum": ["ready", "not ready", "stopping"]},
    checks={"type": "object", "additionalProperties": {"enum": ["ok", "failed", "slow"]}},
)

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("list-pipelines", "GET"): Operation(
        tag="pipelines",
        answers=(
            Answer(
                summary="The pipelines that you may run.",
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
        problems=(problems.unknown_pipeline("", ()), problems.pipeline_only_as_model("")),
    ),
    ("live", "GET"): Operation(
        tag="health",
        answers=(
            Answer(
                summary="The process responds.", contents=json(closed(status={"const": "live"}))
            ),
        ),
    ),
    ("ready", "GET"): Operation(
        tag="health",
        answers=(
            Answer(summary="The server is ready for requests.", contents=json(_READINESS)),
            Answer(
                status=503,
                summary="The server should not receive requests.",
                contents=json(_READINESS),
            ),
        ),
    ),
    ("models-health", "GET"): Operation(
        tag="health",
        answers=(
            Answer(
                summary="The models that were called since the server started.",
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
    ("metrics", "GET"): Operation(
        tag="health",
        answers=(
            Answer(
                summary="Counters, histograms and gauges, in one of Prometheus's formats.",
                contents={kind: {"schema": TEXT} for kind in ("text/plain", OPEN_METRICS)},
            ),
        ),
    ),
    ("openapi", "GET"): Operation(
        tag="documents",
        answers=(
            Answer(
                summary="The OpenAPI 3.1 document of what you may use.",
                contents=json({"type": "object"}),
            ),
        ),
    ),
    ("docs", "GET"): Operation(
        tag="documents",
        answers=(
            Answer(summary="A page that shows the document.", contents={HTML: {"schema": TEXT}}),
        ),
    ),
}
