"""What is counted and traced: every metric's and attribute's name, in one table. Pure.

The names of model calls are those of OpenTelemetry's conventions for generative AI, as Prometheus
spells them. They are being renamed: by default they are as of v1.41.0, the last that was released;
`OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental` takes the names that are to come. What no
convention has a name for begins with `orchestra_`.
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
"""As the conventions of generative AI advise: 0.01 to 81.92."""
RUN_S = (*OPERATION_S, *(0.01 * 2**n for n in range(14, 17)))
"""Up to 655.36: a run of several calls, or of one of a model that reasons, takes minutes."""
TOKENS = tuple(float(4**n) for n in range(14))
HTTP_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
REQUEST_S = (*HTTP_S, 30.0, 60.0, 120.0, 300.0, 600.0)
"""As the conventions of HTTP advise, and beyond: a stream is open for longer than a page."""


@frozen(eq=False)
class Family:
    """One metric: its name without the `_total` of a counter, what it tells, and its labels.

    What is counted is multiplied by `unit` where it is shown: money is counted in whole
    nano-dollars.
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
    "What the model calls of runs cost, losers included, as far as prices are known.",
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
    "How long tools took that a model called, if they finished.",
    *("pipeline", "step", "tool"),
    bounds=RUN_S,
)
TOOL_FAILURES = _count(
    "orchestra_tool_failures",
    "Tools that raised, or took too long, when a model called them.",
    *("pipeline", "step", "tool", "error"),
)
ARM_COMMITS = _count(
    "orchestra_arm_commits",
    "Arms that a race, fallback or quorum has chosen.",
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
    "orchestra_routed", "Answers of a route, by the model that gave it.", "route", "model"
)
BUDGET_THRESHOLDS = _count(
    "orchestra_budget_thresholds", "Thresholds of budgets that were reached.", "percent"
)
MODEL_COST = Family(
    "orchestra_model_cost_dollars",
    "counter",
    "What calls of a model cost, as far as its price is known.",
    ("model",),
    unit=1e-9,
)
UNPRICED = _count("orchestra_unpriced_calls", "Calls whose price is unknown.", "model")
HTTP_DURATION = _seconds(
    "http_server_request_duration",
    "How long requests took, a stream to its last byte.",
    *("http_request_method", "url_scheme", "http_route", "http_response_status_code"),
    bounds=REQUEST_S,
)

RUNS_LOST = _count("orchestra_runs_lost", "Runs in flight in a worker that was killed.")
WORKER_ENDS = _count(
    "orchestra_worker_ends", "Workers that ended while the server went on, by how.", "how"
)
SPANS_MADE = _count("orchestra_spans_made", "Spans of traces that were to be sent.")
SPANS_SENT = _count("orchestra_spans_sent", "Spans of traces that a collector has taken.")

RUNS_RUNNING = Family("orchestra_runs_running", "gauge", "Runs that go on.")
CALLS_RUNNING = Family(
    "orchestra_model_calls_running", "gauge", "Calls of a model in flight.", ("model",)
)
CALLS_WAITING = Family(
    "orchestra_model_calls_waiting",
    "gauge",
    "Calls that wait for a model's limits.",
    ("model",),
)
BREAKERS = Family(
    "orchestra_breakers",
    "gauge",
    "In how many processes a model's breaker is in a state.",
    ("model", "state"),
)

CALL = (
    *("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"),
    *("orchestra_model", "error_type"),
)
"""The labels of a model call; `orchestra_model` is the model's name in `orchestra.toml`."""
_OF_TOKENS = CALL[:-1]


@frozen(eq=False)
class CallNames:
    """The metrics of a model's calls; `each_*` are of single calls, the others their sums."""

    duration: Family
    first_chunk: Family
    each_input: Family
    each_output: Family
    sums: Mapping[str, Family]
    """By the field of `Usage` that is summed."""
    token_type: bool
    """Whether input and output are one metric, which a label tells apart."""


def _released() -> CallNames:
    tokens = Family(
        "gen_ai_client_token_usage",
        "histogram",
        "Tokens that calls of models consumed; those from a cache are part of the input.",
        (*_OF_TOKENS, "gen_ai_token_type"),
        TOKENS,
    )
    return CallNames(
        _seconds("gen_ai_client_operation_duration", "How long calls of models took.", *CALL),
        _seconds(
            "gen_ai_client_operation_time_to_first_chunk",
            "From the request to the first sign of a streamed answer.",
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
    )


def _coming() -> CallNames:
    usage = "gen_ai_client_inference_usage"
    each = "gen_ai_client_inference_operation"
    about = "Tokens of single calls of models, "
    return CallNames(
        _seconds("gen_ai_client_inference_duration", "How long calls of models took.", *CALL),
        _seconds(
            "gen_ai_client_inference_time_to_first_chunk",
            "From the request to the first sign of a streamed answer.",
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
    )


def _tokens(name: str, what: str) -> Family:
    return _count(name, f"Tokens that were {what}.", *_OF_TOKENS)


RELEASED, COMING = _released(), _coming()


def names(environ: Mapping[str, str]) -> CallNames:
    """Those that the environment asks for."""
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
"""What the conventions call providers that we call otherwise."""


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
"""All of them, by name."""


_CALLED_OTHERWISE = {
    "output_tokens_max": "gen_ai.request.max_tokens",
    "dimensions": "gen_ai.embeddings.dimension.count",
}
SETTINGS: Mapping[str, str] = {
    name: _CALLED_OTHERWISE.get(name, f"gen_ai.request.{name}") for name in observed.SETTINGS
}
"""What the conventions call the numbers that a request sets."""


@frozen(eq=False)
class SpanNames:
    """What spans of runs and of calls call their attributes, where the conventions say it."""

    workflow: str
    cache_write_tokens: str


RELEASED_SPANS = SpanNames("gen_ai.workflow.name", "gen_ai.usage.cache_creation.input_tokens")
COMING_SPANS = SpanNames("gen_ai.agent.name", "gen_ai.usage.cache_write.input_tokens")


def span_names(environ: Mapping[str, str]) -> SpanNames:
    """Those that the environment asks for."""
    return COMING_SPANS if names(environ) is COMING else RELEASED_SPANS
