"""Problems in the formats of providers' APIs.

Problems with the caller's key, rate or budget have OpenAI's codes, so that its clients raise their
usual exceptions. All other problems keep their own code, with `_` instead of `-`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from orchestra.codecs.anthropic_serving.errors import anthropic_error, anthropic_status
from orchestra.codecs.openai_serving.errors import OF_RESPONSES, openai_error_body
from orchestra.codecs.serving.errors import NO_RETRY, ServedError
from orchestra.server.responses.problems import Encoded, HttpProblem

_SPENT = 402
_OWN: Mapping[str, tuple[int, str]] = {
    "budget-exceeded": (429, "insufficient_quota"),
    "rate-limited": (429, "rate_limit_exceeded"),
    **{
        f"key-{what}": (401, "invalid_api_key")
        for what in ("missing", "unknown", "expired", "revoked", "malformed")
    },
}
"""The status and code of problems with the caller's key, rate or budget."""


def as_openai(error: ServedError) -> Encoded:
    """An error in OpenAI's format."""
    return Encoded(error.status, openai_error_body(error), error.headers)


def as_response(error: ServedError) -> Encoded:
    """An error in the format of OpenAI's responses API, whose fields have other names."""
    return as_openai(error.worded(OF_RESPONSES))


def as_anthropic(error: ServedError, request_id: str) -> Encoded:
    """An error in Anthropic's format."""
    body = msgspec.json.encode(anthropic_error(error, request_id))
    return Encoded(anthropic_status(error), body, error.headers)


def as_served(problem: HttpProblem | ServedError) -> ServedError:
    """Any problem as an error of a provider's API."""
    if isinstance(problem, ServedError):
        return problem
    status, code = _OWN.get(problem.code, (problem.status, problem.code.replace("-", "_")))
    error = ServedError(status, problem.detail, code, headers=problem.headers)
    return error.beside(NO_RETRY) if problem.status == _SPENT else error
