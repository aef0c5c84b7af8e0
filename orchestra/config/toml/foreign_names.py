"""The names of our keys in the configuration files of other tools, such as LiteLLM."""

from __future__ import annotations

from collections.abc import Collection

from orchestra.eventclass import frozen


@frozen
class _Key:
    """A key of ours, its names in other tools, and its unit where theirs is another."""

    path: str
    foreign: tuple[str, ...]
    unit: str = ""


_KEYS = (
    _Key("base_url", ("api_base", "endpoint")),
    _Key("limits.requests_per_minute", ("rpm",)),
    _Key("limits.tokens_per_minute", ("tpm",)),
    _Key("limits.concurrency", ("max_parallel_requests",)),
    _Key("requests_per_minute", ("rpm", "rpm_limit")),
    _Key("tokens_per_minute", ("tpm", "tpm_limit")),
    _Key("concurrency", ("max_parallel_requests",)),
    _Key("timeouts.total_s", ("timeout", "request_timeout")),
    _Key("timeouts.first_byte_s", ("stream_timeout",)),
    _Key("prices.input", ("input_cost_per_token",), "for a million tokens"),
    _Key("prices.output", ("output_cost_per_token",), "for a million tokens"),
    _Key("input", ("input_cost_per_token",), "for a million tokens"),
    _Key("output", ("output_cost_per_token",), "for a million tokens"),
    _Key("cached_input", ("cache_read_input_token_cost",), "for a million tokens"),
    _Key("cache_write_input", ("cache_creation_input_token_cost",), "for a million tokens"),
    _Key("breaker.open_s", ("cooldown_time",)),
    _Key("by", ("routing_strategy",)),
    _Key("month", ("max_budget",)),
    _Key("organisation", ("team",)),
    _Key("organisations", ("teams",)),
    _Key("state", ("redis",)),
)


def our_name(foreign: str, known: Collection[str]) -> str:
    """The advice for a key of another tool, if ours or its table is among the `known` keys."""
    for key in _KEYS:
        if foreign in key.foreign and key.path.partition(".")[0] in known:
            return f"write {key.path}" + (f", {key.unit}" if key.unit else "")
    return ""
