"""Errors of servers with OpenAI's dialect; some mark certain errors in their own way.

A mark counts wherever the error is: in an answer with an error status, or with 200.
"""

from __future__ import annotations

import msgspec

from orchestra.codecs.faults import as_error, read_error
from orchestra.codecs.openai.quirks import Quirks
from orchestra.errors import ModelError, QuotaError, RateLimitError
from orchestra.values import Json


def error_of(told: bytes | Json, quirks: Quirks) -> ModelError:
    """The error in an answer with status 200, from its JSON or its decoded value."""
    return as_error(read_error(told), kind_by_marks(told, quirks))


def kind_by_marks(told: bytes | Json, quirks: Quirks) -> type[ModelError] | None:
    """The class of an error by the marks of its server, whatever its status; None without marks."""
    if not (quirks.busy_marks or quirks.spent_marks):
        return None
    body = told if isinstance(told, bytes) else msgspec.json.encode(told)
    if any(mark.encode() in body for mark in quirks.busy_marks):
        return RateLimitError
    return QuotaError if any(mark.encode() in body for mark in quirks.spent_marks) else None
