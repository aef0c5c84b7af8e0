"""Errors in OpenAI's format. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from orchestra.codecs.serving.errors import INTERNAL, ServedError
from orchestra.surrogates import escaped
from orchestra.values import Json

_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
_QUOTAS = ("insufficient_quota", "provider_quota")
OF_RESPONSES: Mapping[str, str] = {
    "messages": "input",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "max_completion_tokens": "max_output_tokens",
    "logprobs": "top_logprobs",
}
"""The fields of the responses API whose names differ from those of a chat, by their chat names."""


def openai_error(error: ServedError) -> Json:
    """The value of `error` in the body."""
    usual = "server_error" if error.status >= INTERNAL else "invalid_request_error"
    kind = "insufficient_quota" if error.code in _QUOTAS else _TYPES.get(error.status, usual)
    return {
        "message": escaped(error.message),
        "type": kind,
        "param": error.param,
        "code": error.code,
    }


def openai_error_body(error: ServedError) -> bytes:
    """The body of an error response."""
    return msgspec.json.encode({"error": openai_error(error)})
