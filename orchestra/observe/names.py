"""The names of all metrics, and of span attributes that conventions define. Pure.

The names for model calls are those of OpenTelemetry's conventions for generative AI, as Prometheus
spells them. The conventions are changing: by default, the names are those of v1.41.0, the last
release; `OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental` selects the upcoming names. A
name that no convention defines begins with `orchestra_`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from orchestra.eventclass import frozen
from orchestra.policies import observed

LATEST = "gen_ai_latest_experimental"
SWITCH = "OTEL_SEMCONV_STABILITY_OPT_IN"

Kind = Literal["counter", "histogram", "gauge"]

OPERATION_S = tuple(0.01 * 2**n for n in range(14))
"""0.01 to 81.92, as the conventions for generative AI advise."""
RUN_S = (*OPERATION_S, *(0.01 * 2**n for n in range(14, 17)))
"""Up to 655.36, as a run may take minutes: with several calls, or with a reasoning model."""
TOKENS = tuple(float(4**n) for n in range(14))
HTTP_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
REQUEST_S = (*HTTP_S, 30.0, 60.0, 120.0, 300.0, 600.0)
"""As the conventions for HTTP advise, and beyond, as a stream takes longer than a page."""


@frozen(eq=False)
class Family:
    """One metric: its name (without `_total` for a counter), its help text, and its labels.

    A count is multiplied by `unit` when it is shown: money is counted in whole nano-dollars.
    """

    name: str
    kind: Kind
    about: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    unit: float = 1.0


def _seconds(
    name: str, about: str, *labels: str, bounds: tuple[float, ...] = OPERATION_S
) -> Family:
    return Family(f"{name}_seconds", "histogram", about, labels, bounds)


def _count(name: str, about: str, *labels: str) -> Family:
    return Family(name, "counter", about, labels)


RUN_DURATION = _seconds(
    "orchestra_run_duration",
    "How long runs took, from start to end.",
    *("pipeline", "status"),
    bounds=RUN_S,
)
RUN_FAILURES = _count(
    "orchestra_run_failures", "Runs that failed, by the class of the error.", "pipeline", "error"
)
RUN_COST = Family(
    "orchestra_run_cost_dollars",
    "counter",
    "The cost of the model calls of runs, including losing arms, as far as prices are known.",
    ("pipeline",),
    unit=1e-9,
)
STEP_DURATION = _seconds(
    "orchestra_step_duration",
    "How long finished steps took.",
    *("pipeline", "step"),
    bounds=RUN_S,
)
STEP_FIRST_CHUNK = _seconds(
    "orchestra_step_time_to_first_chunk",
    "From a step's start to the first chunk of its stream.",
    *("pipeline", "step"),
)
STEP_FAILURES = _count("orchestra_step_failures", "Steps that raised.", "pipeline", "step", "error")
STEP_RETRIES = _count(
    "orchestra_step_retries",
    "Attempts of steps that failed and were retried.",
    "pipeline",
    "step",
    "error",
)
TOOL_DURATION = _seconds(
    "orchestra_tool_duration",
    "How long the tools that a model called took, if they finished.",
    *("pipeline", "step", "tool"),
    bounds=RUN_S,
)
TOOL_FAILURES = _count(
    "orchestra_tool_failures",
    "Tools that raised, or exceeded their time limit, when a model called them.",
    *("pipeline", "step", "tool", "error"),
)
ARM_COMMITS = _count(
    "orchestra_arm_commits",
    "Arms that a race, fallback or quorum chose.",
    "pipeline",
    "step",
    "arm",
)
ARM_FAILURES = _count(
    "orchestra_arm_failures", "Arms that failed.", "pipeline", "step", "arm", "error"
)
ARM_RESTARTS = _count(
    "orchestra_arm_restarts", "Outputs that restarted with another arm.", "pipeline", "step", "arm"
)
CACHE_HITS = _count("orchestra_cache_hits", "Answers that came from the cache.", "model")
COALESCED = _count("orchestra_coalesced", "Calls that shared another call in flight.", "model")
ROUTED = _count(
    "orchestra_routed", "Answers of a route, by the model that gave them.", "route", "model"
)
BUDGET_THRESHOLDS = _count(
    "orchestra_budget_thresholds", "Thresholds of budgets that were reached.", "percent"
)
BUDGET_REFUSALS = _count(
    "orchestra_budget_refusals",
    "Calls and requests that a budget refused, and answers that it stopped.",
    *("payer", "period"),
)
MODEL_COST = Family(
    "orchestra_model_cost_dollars",
    "counter",
    "The cost of a model's calls, as far as its price is known.",
    ("model",),
    unit=1e-9,
)
UNPRICED = _count("orchestra_unpriced_calls", "Calls whose price is unknown.", "model")
HTTP_DURATION = _seconds(
    "http_server_request_duration",
    "How long requests took; for a stream, until its last byte.",
    *("http_request_method", "url_scheme", "http_route", "http_response_status_code"),
    bounds=REQUEST_S,
)
_OF_SERVED = ("gen_ai_operation_name", "gen_ai_request_model")
SERVED_DURATION = _seconds(
    "gen_ai_server_request_duration",
    "How long runs of a model or route took that a client asked for by its name.",
    *(*_OF_SERVED, "error_type"),
    bounds=RUN_S,
)
SERVED_FIRST_TOKEN = _seconds(
    "gen_ai_server_time_to_first_token",
    "From the start of such a run to the first chunk of a streamed answer, if it was completed.",
    *_OF_SERVED,
)

RUNS_LOST = _count("orchestra_runs_lost", "Runs in flight in a worker that was killed.")
WORKER_ENDS = _count(
    "orchestra_worker_ends",
    "Workers that ended while the server kept running, by how they ended.",
    "how",
)
RELOADS_REFUSED = _count(
    "orchestra_reloads_refused",
    "Reloads that a process refused; it continues to serve what it served before.",
)
SPANS_MADE = _count("orchestra_spans_made", "Spans queued to be sent.")
SPANS_SENT = _count("orchestra_spans_sent", "Spans that the collector has accepted.")

RUNS_RUNNING = Family("orchestra_runs_running", "gauge", "Runs in progress.")
CALLS_RUNNING = Family(
    "orchestra_model_calls_running", "gauge", "Calls of a model in progress.", ("model",)
)
CALLS_WAITING = Family(
    "orchestra_model_calls_waiting",
    "gauge",
    "Calls that wait for a model's limits.",
    ("model",),
)
CALLER_CALLS_WAITING = Family(
    "orchestra_caller_calls_waiting",
    "gauge",
    "Calls that wait for limits of their key, user or organisation.",
)
BREAKERS = Family(
    "orchestra_breakers",
    "gauge",
    "The number of processes in which a model's breaker is in this state.",
    ("model", "state"),
)

CALL = (
    *("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"),
    *("orchestra_model", "error_type"),
)
"""The labels of a model call; `orchestra_model` is the model's name in `orchestra.toml`."""
_OF_TOKENS = CALL[:-1]


@frozen(eq=False)
class Convention:
    """The metrics of a model's calls, and the span attributes, that the conventions rename.

    `each_*` are distributions over calls, `sums` are totals.
    """

    duration: Family
    first_chunk: Family
    each_input: Family
    each_output: Family
    sums: Mapping[str, Family]
    """By the field of `Usage` that is summed."""
    token_type: bool
    """Whether input and output are one metric, distinguished by a label."""
    workflow: str
    """The span attribute for the name of a pipeline."""
    cache_write_tokens: str
    """The span attribute for the tokens written to a cache."""


def _released() -> Convention:
    tokens = Family(
        "gen_ai_client_token_usage",
        "histogram",
        "Tokens that calls of models consumed; those from a cache are part of the input.",
        (*_OF_TOKENS, "gen_ai_token_type"),
        TOKENS,
    )
    return Convention(
        _seconds("gen_ai_client_operation_duration", "How long calls of models took.", *CALL),
        _seconds(
            "gen_ai_client_operation_time_to_first_chunk",
            "From the request to the first chunk of a streamed answer.",
            *CALL,
        ),
        tokens,
        tokens,
        {
            "cached_input_tokens": _tokens("orchestra_cached_input_tokens", "read from a cache"),
            "cache_write_input_tokens": _tokens(
                "orchestra_cache_write_input_tokens", "written to a cache"
            ),
            "reasoning_tokens": _tokens("orchestra_reasoning_tokens", "reasoned with"),
        },
        token_type=True,
        workflow="gen_ai.workflow.name",
        cache_write_tokens="gen_ai.usage.cache_creation.input_tokens",
    )


def _upcoming() -> Convention:
    usage = "gen_ai_client_inference_usage"
    each = "gen_ai_client_inference_operation"
    about = "Tokens of single calls of models, "
    return Convention(
        _seconds("gen_ai_client_inference_duration", "How long calls of models took.", *CALL),
        _seconds(
            "gen_ai_client_inference_time_to_first_chunk",
            "From the request to the first chunk of a streamed answer.",
            *CALL,
        ),
        Family(f"{each}_input_tokens", "histogram", f"{about}read.", _OF_TOKENS, TOKENS),
        Family(f"{each}_output_tokens", "histogram", f"{about}written.", _OF_TOKENS, TOKENS),
        {
            "input_tokens": _tokens(f"{usage}_input_tokens", "read"),
            "output_tokens": _tokens(f"{usage}_output_tokens", "written"),
            "cached_input_tokens": _tokens(f"{usage}_cache_read_input_tokens", "read from a cache"),
            "cache_write_input_tokens": _tokens(
                f"{usage}_cache_write_input_tokens", "written to a cache"
            ),
            "reasoning_tokens": _tokens(f"{usage}_reasoning_output_tokens", "reasoned with"),
        },
        token_type=False,
        workflow="gen_ai.agent.name",
        cache_write_tokens="gen_ai.usage.cache_write.input_tokens",
    )


def _tokens(name: str, what: str) -> Family:
    return _count(name, f"Tokens that were {what}.", *_OF_TOKENS)


RELEASED, COMING = _released(), _upcoming()


def convention(environ: Mapping[str, str]) -> Convention:
    """The names that the environment selects: `RELEASED` or `COMING`."""
    wanted = environ.get(SWITCH, "")
    return COMING if LATEST in [each.strip() for each in wanted.split(",")] else RELEASED


PROVIDERS: Mapping[str, str] = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock-invoke": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex": "gcp.vertex_ai",
    "xai": "x_ai",
}
"""The conventions' names for providers that have other names here."""


def _families() -> tuple[Family, ...]:
    own = [each for each in globals().values() if isinstance(each, Family)]
    calls = [
        family
        for each in (RELEASED, COMING)
        for family in (
            *(each.duration, each.first_chunk, each.each_input, each.each_output),
            *each.sums.values(),
        )
    ]
    return tuple({family.name: family for family in (*own, *calls)}.values())


FAMILIES: Mapping[str, Family] = {each.name: each for each in _families()}
"""All metrics, by name."""


_OTHER_NAMES = {
    "output_tokens_max": "gen_ai.request.max_tokens",
    "dimensions": "gen_ai.embeddings.dimension.count",
}
SETTINGS: Mapping[str, str] = {
    name: _OTHER_NAMES.get(name, f"gen_ai.request.{name}") for name in observed.SETTINGS
}
"""The conventions' names for the numeric settings of a request."""
