"""Errors of servers that speak OpenAI's dialect, of which some have marks of their own for two.

A mark counts wherever the error stands: in an answer with a status for errors, or with 200.
"""

from __future__ import annotations

import msgspec

from orchestra.codecs.faults import as_error, read_error
from orchestra.codecs.openai.quirks import Quirks
from orchestra.errors import ModelError, QuotaError, RateLimitError
from orchestra.values import Json


def error_of(told: bytes | Json, quirks: Quirks) -> ModelError:
    """The error in an answer whose status was 200: its JSON, or what was made of that already."""
    return as_error(read_error(told), kind_by_marks(told, quirks))


def kind_by_marks(told: bytes | Json, quirks: Quirks) -> type[ModelError] | None:
    """What an error is by the marks of its server, whatever its status; None where it has none."""
    if not (quirks.busy_marks or quirks.spent_marks):
        return None
    body = told if isinstance(told, bytes) else msgspec.json.encode(told)
    if any(mark.encode() in body for mark in quirks.busy_marks):
        return RateLimitError
    return QuotaError if any(mark.encode() in body for mark in quirks.spent_marks) else None
