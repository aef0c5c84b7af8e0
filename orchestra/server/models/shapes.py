"""Problems in the form in which clients of a provider's API read them.

The codes of what is wrong with the caller's key, rate and budget are OpenAI's own, so that its
clients raise what they always raise; all others are those of the problem, with `_` for `-`.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import msgspec

from orchestra.codecs.anthropic_serving.errors import anthropic_error, anthropic_status
from orchestra.codecs.openai_serving.errors import OF_RESPONSES, openai_error_body
from orchestra.codecs.serving.errors import NO_RETRY, ServedError
from orchestra.server import sse
from orchestra.server.front.problems import HttpProblem

_SPENT = 402
_OWN: Mapping[str, tuple[int, str]] = {
    "budget-exceeded": (429, "insufficient_quota"),
    "rate-limited": (429, "rate_limit_exceeded"),
    **{
        f"key-{what}": (401, "invalid_api_key")
        for what in ("missing", "unknown", "expired", "revoked", "malformed")
    },
}
"""Status and code of what is wrong with the caller."""


@attrs.frozen
class ShapedProblem:
    """A problem as clients of such an API read it, in place of an `HttpProblem`."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    media_type: str = sse.JSON

    def encode(self) -> bytes:
        """Its body."""
        return self.body


def as_openai(error: ServedError) -> ShapedProblem:
    """An error as OpenAI tells it."""
    return ShapedProblem(error.status, openai_error_body(error), error.headers)


def as_response(error: ServedError) -> ShapedProblem:
    """An error as OpenAI tells it of a response, whose fields have names of their own."""
    return as_openai(error.worded(OF_RESPONSES))


def as_anthropic(error: ServedError, request_id: str = "") -> ShapedProblem:
    """An error as Anthropic tells it."""
    body = msgspec.json.encode(anthropic_error(error, request_id))
    return ShapedProblem(anthropic_status(error), body, error.headers)


def as_served(problem: HttpProblem | ServedError) -> ServedError:
    """Any problem, as those of a model's answer are told."""
    if isinstance(problem, ServedError):
        return problem
    status, code = _OWN.get(problem.code, (problem.status, problem.code.replace("-", "_")))
    error = ServedError(status, problem.detail, code, headers=problem.headers)
    return error.beside(NO_RETRY) if problem.status == _SPENT else error
