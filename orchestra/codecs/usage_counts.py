"""The counts of tokens in the usage records of providers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestra.accounts import Certainty, Usage
from orchestra.errors import MalformedStreamError
from orchestra.values import Json

TOKENS_MAX = 100_000_000
"""A larger count is a fault of the provider, and would use up a budget: the longest known context
has ten million tokens, and a provider that runs tools counts it once for each round."""
COUNTS_MAX = 100
"""The most counts in a usage record, which is copied whenever an event adds to it."""


def token_count(value: object) -> int | None:
    """A number of tokens, which some servers write as `3.0`; None for any other value."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= TOKENS_MAX else None


def input_usage(*counts: object) -> Usage | None:
    """The usage of an embedding, by the first of these that is a number of tokens; else None."""
    for each in counts:
        if (tokens := token_count(each)) is not None:
            return Usage(tokens)
    return None


def count(record: Mapping[str, object], key: str) -> int:
    """A number of tokens in a usage record; 0 if it is missing."""
    return token_count(record.get(key)) or 0


def certainty_of(
    record: Mapping[str, object], keys: Iterable[str], certainty: Certainty
) -> Certainty:
    """The certainty of a usage record: partial if one of its counts is not a number of tokens."""
    for key in keys:
        if record.get(key) is not None and token_count(record[key]) is None:
            return Certainty.PARTIAL
    return certainty


def latest_counts(before: Json, record: Json) -> Json:
    """The latest value of each count of a usage record; a count that is null keeps its value.

    Raises:
        MalformedStreamError: there are more than `COUNTS_MAX` counts.
    """
    found = before | {name: value for name, value in record.items() if value is not None}
    if len(found) > COUNTS_MAX:
        raise MalformedStreamError(
            f"the usage of the answer has over {COUNTS_MAX} counts, "
            f"such as {list(found)[-1]!r:.100}"
        )
    return found
