"""The OpenAPI description of the routes of pipelines, health checks and documents. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from orchestra.observe.exposition import OPEN_METRICS
from orchestra.server.openapi.words import (
    COUNT,
    HTML,
    NUMBER,
    OBJECT,
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
        "pipelines",
        Answer(
            "The pipelines that you may run.",
            json(closed(pipelines=listed(closed(name=TEXT, summary=TEXT)))),
        ),
    ),
    ("describe-pipeline", "GET"): Operation(
        "pipelines",
        Answer(
            "The pipeline; `inputs` is a JSON Schema.",
            json(closed(name=TEXT, doc=TEXT, inputs=OBJECT, graph=OBJECT)),
        ),
        problems=(problems.unknown_pipeline("", ()), problems.pipeline_only_as_model("")),
    ),
    ("live", "GET"): Operation(
        "health", Answer("The process responds.", json(closed(status={"const": "live"})))
    ),
    ("ready", "GET"): Operation(
        "health",
        Answer("The server is ready for requests.", json(_READINESS)),
        Answer("The server should not receive requests.", json(_READINESS), status=503),
    ),
    ("models-health", "GET"): Operation(
        "health",
        Answer(
            "The models that were called since the server started.",
            json(
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
    ("metrics", "GET"): Operation(
        "health",
        Answer(
            "Counters, histograms and gauges, in one of Prometheus's formats.",
            {kind: {"schema": TEXT} for kind in ("text/plain", OPEN_METRICS)},
        ),
    ),
    ("openapi", "GET"): Operation(
        "documents",
        Answer("The OpenAPI 3.1 document of what you may use.", json(OBJECT)),
    ),
    ("docs", "GET"): Operation(
        "documents", Answer("A page that shows the document.", {HTML: {"schema": TEXT}})
    ),
}
