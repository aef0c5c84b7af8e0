"""Token counts of Anthropic's answers as our `UsageReport`. Pure."""

from __future__ import annotations

from orchestra.accounts import Certainty, Usage
from orchestra.codecs.raw_json import object_at
from orchestra.codecs.usage_counts import certainty_of, count
from orchestra.values import Json, UsageReport

_COUNTS = (
    *("input_tokens", "output_tokens"),
    *("cache_read_input_tokens", "cache_creation_input_tokens"),
)


def usage_report(record: Json, certainty: Certainty) -> UsageReport:
    """The report; Anthropic's input count excludes tokens read from and written to its cache."""
    asked, answered, cached, written = (count(record, key) for key in _COUNTS)
    certainty = certainty_of(record, _COUNTS, certainty)
    thought = count(object_at(record, "output_tokens_details"), "thinking_tokens")
    usage = Usage(asked + cached + written, answered, certainty, cached, written, thought)
    return UsageReport(usage, record)
