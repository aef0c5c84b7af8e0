"""The counts of tokens in the usage records of providers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestra.accounts import Certainty
from orchestra.errors import MalformedStreamError
from orchestra.values import Json

TOKENS_MAX = 2**32
"""More is no count but a fault of whoever counted: the longest context known has ten million, and
one such number would be a debt of thousands of dollars."""
COUNTS_MAX = 100
"""Of a usage record, by their names; a record that grows with each event is copied each time."""


def token_count(value: object) -> int | None:
    """A number of tokens, which some servers write as `3.0`; None for what is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= TOKENS_MAX else None


def count(record: Mapping[str, object], key: str) -> int:
    """A number of tokens in a usage record; 0 where there is none."""
    return token_count(record.get(key)) or 0


def certainty_of(
    record: Mapping[str, object], keys: Iterable[str], certainty: Certainty
) -> Certainty:
    """How certain a usage record is: partial where one of its counts is no number of tokens."""
    for key in keys:
        if record.get(key) is not None and token_count(record[key]) is None:
            return Certainty.PARTIAL
    return certainty


def latest_counts(before: Json, told: Json) -> Json:
    """The counts of a usage record, each as it was told last; null tells nothing.

    Raises:
        MalformedStreamError: they have more names than any provider has for what it counts.
    """
    found = before | {name: value for name, value in told.items() if value is not None}
    if len(found) > COUNTS_MAX:
        raise MalformedStreamError(
            f"the usage of the answer has over {COUNTS_MAX} counts, "
            f"such as {list(found)[-1]!r:.100}"
        )
    return found
