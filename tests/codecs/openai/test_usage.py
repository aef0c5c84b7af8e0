"""What OpenAI-shaped servers count."""

from __future__ import annotations

import pytest

from orchestra.accounts import Certainty, Usage
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.openai.usage import usage_of
from orchestra.values import Json, UsageReport
from tests.codecs.openai_streams import USAGE, chunk, decode, stream


def reports(*chunks: Json) -> list[UsageReport]:
    return [each for each in decode([stream(*chunks)]) if isinstance(each, UsageReport)]


def test_the_last_complete_record_counts() -> None:
    first = {"prompt_tokens": 5, "completion_tokens": 1}
    found = reports(
        chunk({"content": "x"}, usage=first),
        chunk({"content": "y"}, usage={"prompt_tokens": 5, "completion_tokens": None}),
        chunk({}, "stop", usage={}),
    )
    assert [each.usage.certainty for each in found] == [Certainty.PARTIAL, Certainty.EXACT]
    assert [each.raw for each in found] == [first, first]


def test_what_was_counted_before_a_cut_is_partial() -> None:
    decoder = OpenAiDialect().decoder()
    events = decoder.feed(stream(chunk({"content": "x"}, usage=USAGE), done=False))
    assert UsageReport(Usage(5, 2, Certainty.PARTIAL), USAGE) in events


def test_a_count_of_zero_is_one() -> None:
    zero = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    found = reports(chunk({"content": "x"}, usage=USAGE), chunk({}, "stop", usage=zero))
    assert found[-1] == UsageReport(Usage(0, 0), zero)


def test_usage_is_found_wherever_servers_put_it() -> None:
    in_choice = chunk({}, "stop")
    in_choice["choices"][0]["usage"] = USAGE
    assert reports(in_choice) == [UsageReport(Usage(5, 2), {})], "Moonshot"
    assert reports(in_choice | {"usage": USAGE}) == [UsageReport(Usage(5, 2), USAGE)]
    groq = chunk({}, "stop", x_groq={"usage": USAGE})
    assert reports(groq) == [UsageReport(Usage(5, 2), {})]
    assert reports(groq | {"usage": USAGE}) == [UsageReport(Usage(5, 2), USAGE)]


@pytest.mark.parametrize(
    ("more", "usage"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 4}}, Usage(5, 2, cached_input_tokens=4)),
        ({"prompt_cache_hit_tokens": 4}, Usage(5, 2, cached_input_tokens=4)),
        ({"cached_tokens": 4}, Usage(5, 2, cached_input_tokens=4)),
        ({"num_cached_tokens": 4}, Usage(5, 2, cached_input_tokens=4)),
        ({"prompt_tokens_details": {"cached_tokens": 0}, "cached_tokens": 4}, Usage(5, 2)),
        (
            {"prompt_tokens_details": {"cache_write_tokens": 3}},
            Usage(5, 2, cache_write_input_tokens=3),
        ),
        (
            {"prompt_tokens_details": {"cached_tokens": 1, "cache_creation_tokens": 3}},
            Usage(5, 2, cached_input_tokens=1, cache_write_input_tokens=3),
        ),
        ({"cache_creation_input_tokens": 3}, Usage(5, 2, cache_write_input_tokens=3)),
        ({"cache_creation_input_tokens": 6}, Usage(5, 2)),
        ({"prompt_tokens_details": None}, Usage(5, 2)),
        ({"completion_tokens_details": {"reasoning_tokens": 1}}, Usage(5, 2, reasoning_tokens=1)),
        # xAI counts what it reasoned apart from the answer; the total tells.
        (
            {"completion_tokens_details": {"reasoning_tokens": 90}, "total_tokens": 97},
            Usage(5, 92, reasoning_tokens=90),
        ),
    ],
)
def test_the_parts_of_a_count(more: Json, usage: Usage) -> None:
    assert reports(chunk({}, "stop", usage=USAGE | more)) == [UsageReport(usage, USAGE | more)]


@pytest.mark.parametrize("count", [-1, True, 1.5, "5", None])
def test_of_half_a_record_the_half_is_told(count: object) -> None:
    """It is partial, so that budgets reckon with the estimate of the rest."""
    known = {"prompt_tokens": Usage(0, 2, Certainty.PARTIAL)}
    known["completion_tokens"] = Usage(5, 0, Certainty.PARTIAL)
    for name, usage in known.items():
        record = USAGE | {name: count}
        assert reports(chunk({}, "stop", usage=record)) == [UsageReport(usage, record)]
        del record[name]
        assert reports(chunk({}, "stop", usage=record)) == [UsageReport(usage, record)]
    assert reports(chunk({}, "stop", usage=dict.fromkeys(USAGE, count))) == []


def test_half_a_record_stands_until_a_whole_one_comes() -> None:
    half, other = {"prompt_tokens": 5}, {"prompt_tokens": 6, "completion_tokens": None}
    found = reports(chunk({}, usage=half), chunk({}, usage=other), chunk({}, "stop", usage=USAGE))
    assert [each.raw for each in found] == [half, other, USAGE]
    assert found[-1].usage == Usage(5, 2)
    early = reports(chunk({}, usage=half), chunk({}, "stop"))
    assert early == [UsageReport(Usage(5, 0, Certainty.PARTIAL), half)]


@pytest.mark.parametrize("record", [None, [1], "3 tokens", 3, {}, {"prompt_tokens": "three"}])
def test_what_is_no_record_of_usage_counts_nothing(record: object) -> None:
    assert usage_of(record) is None
