"""Usage records in OpenAI's format: reading them as `Usage`, and writing them."""

from __future__ import annotations

from collections.abc import Mapping

from orchestra.accounts import Certainty, Usage
from orchestra.codecs.raw_json import object_at
from orchestra.codecs.usage_counts import input_usage, token_count
from orchestra.values import Json


def usage_of(record: object, certainty: Certainty = Certainty.EXACT) -> Usage | None:
    """The usage in a `usage` record; None if it is not a record, or has neither count.

    If one count is missing, the usage is partial. Cached tokens are looked for in the fields of
    OpenAI, DeepSeek, Moonshot, Mistral and gateways to Anthropic. If the total shows that reasoning
    was counted separately from the answer (xAI), it is added to the answer's count.
    """
    if not isinstance(record, dict):
        return None
    asked, answered = _count(record, "prompt_tokens"), _count(record, "completion_tokens")
    if asked is None and answered is None:
        return None
    if asked is None or answered is None:
        certainty = Certainty.PARTIAL
    asked, answered = asked or 0, answered or 0
    prompt = object_at(record, "prompt_tokens_details")
    answer = object_at(record, "completion_tokens_details")
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
    created = _first((record, "cache_creation_input_tokens"))
    if not written and cached + created <= asked:  # otherwise the prompt's count excludes it
        written = created
    return Usage(asked, answered, certainty, cached, written, reasoned)


def counts_all(record: object) -> bool:
    """Whether a record has both counts, of the prompt and of the answer."""
    if not isinstance(record, dict) or _count(record, "prompt_tokens") is None:
        return False
    return _count(record, "completion_tokens") is not None


def embedding_usage_of(record: object) -> Usage | None:
    """The usage in an embedding's `usage` record, which counts only the input, or the total."""
    found = record if isinstance(record, dict) else {}
    return input_usage(found.get("prompt_tokens"), found.get("total_tokens"))  # the latter: Voyage


def usage_record(usage: Usage) -> Json:
    """The record of a usage in OpenAI's format; `usage_of` reads it, without the certainty."""
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


def _first(*places: tuple[Mapping[str, object], str]) -> int:
    """The first count that is present, even if it is 0; 0 if none is."""
    for record, key in places:
        if key in record and (found := token_count(record[key])) is not None:
            return found
    return 0


def _count(record: Mapping[str, object], key: str) -> int | None:
    return token_count(record.get(key))
