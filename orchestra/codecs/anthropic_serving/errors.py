"""Errors in Anthropic's format. Pure.

Clients choose their exception by the status, and `type` is Anthropic's word for it. Our own code,
which says who has to act, is in `details`, where Anthropic puts its specific codes, too.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestra.codecs.serving.errors import INTERNAL, ServedError
from orchestra.surrogates import escaped
from orchestra.values import Json

_STATUSES: Mapping[str | None, int] = {
    "insufficient_quota": 402,
    **dict.fromkeys(("overloaded", "model_unavailable", "too_busy"), 529),
}
"""The codes for which Anthropic's status differs from OpenAI's."""
_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_FIELDS: Mapping[str, str] = {
    "response_format": "output_config.format",
    "reasoning_effort": "thinking or output_config.effort",
    "max_completion_tokens": "max_tokens",
    "stop": "stop_sequences",
}
"""Anthropic's names of the fields of a chat request, where they differ."""
_VALUES: Mapping[str, str] = {
    "parallel_tool_calls=False": "tool_choice.disable_parallel_tool_use=True",
    "tool_choice='required'": "tool_choice.type='any'",
}
"""Anthropic's form of field values that messages name."""
_TOO_LONG = "prompt is too long"
"""Clients recognize by this text that they have to shorten a conversation."""


def anthropic_status(error: ServedError) -> int:
    """The HTTP status that Anthropic uses for the error."""
    return _STATUSES.get(error.code, error.status)


def anthropic_error(error: ServedError, request_id: str = "") -> Json:
    """The body of an error response, or the data of an `error` event of a stream."""
    status = anthropic_status(error)
    usual = "api_error" if status >= INTERNAL else "invalid_request_error"
    message = _message(error.worded(_FIELDS))
    record: Json = {"type": _TYPES.get(status, usual), "message": message}
    if error.code:
        record["details"] = {"error_code": error.code}
    return {"type": "error", "error": record, "request_id": request_id or None}


def _message(error: ServedError) -> str:
    message = escaped(error.message)
    if not error.quoted:
        for ours, theirs in _VALUES.items():
            message = message.replace(ours, theirs)
    if error.code == "invalid_value" and error.param and error.param not in message:
        return f"{error.param}: {message}"  # Anthropic has no field for it
    if error.code == "context_length_exceeded" and _TOO_LONG not in message.lower():
        return f"{_TOO_LONG}: {message}"
    return message
