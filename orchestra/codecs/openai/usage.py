"""What an OpenAI-shaped server counted, both ways: its record as `Usage`, and `Usage` as one."""

from __future__ import annotations

from collections.abc import Mapping

from orchestra.accounts import Certainty, Usage
from orchestra.codecs.usage_counts import token_count
from orchestra.values import Json


def usage_of(record: object, certainty: Certainty = Certainty.EXACT) -> Usage | None:
    """What a `usage` record says; None where it is not one, or neither of its counts is there.

    Where one of them is missing, it is partial. Cached tokens are looked for where OpenAI,
    DeepSeek, Moonshot, Mistral and gateways before Anthropic put them. Where the total shows that
    reasoning was counted apart from the answer (xAI), it is added to it.
    """
    if not isinstance(record, dict):
        return None
    asked, answered = _count(record, "prompt_tokens"), _count(record, "completion_tokens")
    if asked is None and answered is None:
        return None
    if asked is None or answered is None:
        certainty = Certainty.PARTIAL
    asked, answered = asked or 0, answered or 0
    prompt, answer = (
        _details(record, key) for key in ("prompt_tokens_details", "completion_tokens_details")
    )
    reasoned = _first((answer, "reasoning_tokens"), (record, "reasoning_tokens"))
    if reasoned and _count(record, "total_tokens") == asked + answered + reasoned:
        answered += reasoned
    cached = _first(
        (prompt, "cached_tokens"),
        (record, "prompt_cache_hit_tokens"),
        (record, "cached_tokens"),
        (record, "num_cached_tokens"),
    )
    written = _first((prompt, "cache_write_tokens"), (prompt, "cache_creation_tokens"))
    told = _first((record, "cache_creation_input_tokens"))
    if not written and cached + told <= asked:  # else it is counted beside the prompt
        written = told
    return Usage(asked, answered, certainty, cached, written, reasoned)


def counts_all(record: object) -> bool:
    """Whether a record says both what went in and what came out."""
    keys = ("prompt_tokens", "completion_tokens")
    return isinstance(record, dict) and all(_count(record, key) is not None for key in keys)


def embedding_usage_of(record: object) -> Usage | None:
    """What the `usage` record of an embedding says: only the input is counted, or the total."""
    found = record if isinstance(record, dict) else {}
    asked = _count(found, "prompt_tokens")
    if asked is None:
        asked = _count(found, "total_tokens")  # Voyage
    return None if asked is None else Usage(asked)


def usage_record(usage: Usage) -> Json:
    """`usage` as OpenAI would write it; `usage_of` gives it back, but for its certainty."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_input_tokens,
            "cache_write_tokens": usage.cache_write_input_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _details(record: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = record.get(key)
    return found if isinstance(found, dict) else {}


def _first(*places: tuple[Mapping[str, object], str]) -> int:
    """The first count that is there; 0 is one."""
    for record, key in places:
        if key in record and (found := token_count(record[key])) is not None:
            return found
    return 0


def _count(record: Mapping[str, object], key: str) -> int | None:
    return token_count(record.get(key))
