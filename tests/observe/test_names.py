"""The table of metrics: names that Prometheus takes, and those of the conventions."""

from __future__ import annotations

import re

import pytest

from orchestra.observe.names import (
    COMING,
    FAMILIES,
    HTTP_DURATION,
    OPERATION_S,
    RELEASED,
    RUN_DURATION,
    STEP_DURATION,
    SWITCH,
    TOKENS,
    TOOL_DURATION,
    Convention,
    Family,
    convention,
)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_every_metric_has_names_that_prometheus_takes(family: Family) -> None:
    for name in (family.name, *family.labels):
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    assert len(set(family.labels)) == len(family.labels)
    assert not family.name.endswith("_total"), "Prometheus adds it to counters"
    assert bool(family.bounds) == (family.kind == "histogram")
    assert list(family.bounds) == sorted(set(family.bounds))
    assert family.about.endswith(".")


@pytest.mark.parametrize(
    ("said", "names_of"),
    [
        ({}, RELEASED),
        ({SWITCH: "http"}, RELEASED),
        ({SWITCH: "http, gen_ai_latest_experimental"}, COMING),
        ({SWITCH: "gen_ai_latest_experimental"}, COMING),
    ],
)
def test_the_environment_says_which_names_of_the_conventions(
    said: dict[str, str], names_of: Convention
) -> None:
    assert convention(said) is names_of


def test_the_names_are_those_of_the_conventions() -> None:
    """`wire-formats.md` section 2, with dots as underscores and the unit behind."""
    assert RELEASED.duration.name == "gen_ai_client_operation_duration_seconds"
    assert RELEASED.first_chunk.name == "gen_ai_client_operation_time_to_first_chunk_seconds"
    assert RELEASED.each_input is RELEASED.each_output
    assert RELEASED.each_input.name == "gen_ai_client_token_usage"
    assert COMING.duration.name == "gen_ai_client_inference_duration_seconds"
    assert {each.name for each in COMING.sums.values()} == {
        f"gen_ai_client_inference_usage_{what}"
        for what in (
            *("input_tokens", "output_tokens", "cache_read_input_tokens"),
            *("cache_write_input_tokens", "reasoning_output_tokens"),
        )
    }
    assert (OPERATION_S[0], OPERATION_S[-1]) == (0.01, 81.92)
    assert RELEASED.duration.bounds == RELEASED.first_chunk.bounds == OPERATION_S
    assert (TOKENS[0], TOKENS[-1]) == (1, 67_108_864)


@pytest.mark.parametrize("family", [RUN_DURATION, STEP_DURATION, TOOL_DURATION, HTTP_DURATION])
def test_what_may_take_minutes_is_told_apart_up_to_ten(family: Family) -> None:
    """Of a model that reasons a quantile would be 81.92 s for ever."""
    assert family.bounds[-1] >= 600
    assert sum(each > 60 for each in family.bounds) >= 3
