"""Token counts of Anthropic's answers as our `UsageReport`. Pure."""

from __future__ import annotations

from orchestra.accounts import Certainty, Usage
from orchestra.codecs.usage_counts import certainty_of, count
from orchestra.values import Json, UsageReport

_COUNTS = (
    *("input_tokens", "output_tokens"),
    *("cache_read_input_tokens", "cache_creation_input_tokens"),
)


def usage_report(record: Json, certainty: Certainty) -> UsageReport:
    """The report; Anthropic's input count excludes tokens read from and written to its cache."""
    cached, written = (
        count(record, "cache_read_input_tokens"),
        count(record, "cache_creation_input_tokens"),
    )
    details = record.get("output_tokens_details")
    certainty = certainty_of(record, _COUNTS, certainty)
    usage = Usage(
        count(record, "input_tokens") + cached + written,
        count(record, "output_tokens"),
        certainty,
        cached,
        written,
        count(details, "thinking_tokens") if isinstance(details, dict) else 0,
    )
    return UsageReport(usage, record)
