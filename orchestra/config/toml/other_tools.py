"""The names of our keys in the configuration files of other tools, such as LiteLLM."""

from __future__ import annotations

from collections.abc import Collection, Mapping

_THERE: Mapping[str, str] = {
    "base_url": "api_base endpoint",
    "limits.requests_per_minute": "rpm",
    "limits.tokens_per_minute": "tpm",
    "limits.concurrency": "max_parallel_requests",
    "requests_per_minute": "rpm rpm_limit",
    "tokens_per_minute": "tpm tpm_limit",
    "concurrency": "max_parallel_requests",
    "timeouts.total_s": "timeout request_timeout",
    "timeouts.first_byte_s": "stream_timeout",
    "prices.input, for a million tokens": "input_cost_per_token",
    "prices.output, for a million tokens": "output_cost_per_token",
    "breaker.open_s": "cooldown_time",
    "by": "routing_strategy",
    "month": "max_budget",
    "organisation": "team",
    "organisations": "teams",
}
"""Our key, and its names in other tools."""


def of_other_tools(key: str, known: Collection[str]) -> str:
    """The advice for a key of another tool, if ours is a known key, or is in a known table."""
    for here, there in _THERE.items():
        if key in there.split() and here.partition(",")[0].partition(".")[0] in known:
            return f"write {here}"
    return ""
