"""Problems in OpenAI's shape, for the paths that its clients ask.

The codes of what is wrong with the caller's key, rate and budget are OpenAI's own, so that its
clients raise what they always raise; all others are those of the problem, with `_` for `-`.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from orchestra.codecs.openai_serving.errors import (
    BAD_REQUEST,
    NO_RETRY,
    SERVER_ERROR,
    ServedError,
    reply,
)
from orchestra.server import sse
from orchestra.server.front.problems import HttpProblem

_SPENT = 402
_SERVER = 500
_TYPES: Mapping[int, str] = {401: "authentication_error", 403: "permission_error"}
_OWN: Mapping[str, tuple[int, str, str]] = {
    "budget-exceeded": (429, "insufficient_quota", "insufficient_quota"),
    "rate-limited": (429, "rate_limit_error", "rate_limit_exceeded"),
    **{
        f"key-{what}": (401, "authentication_error", "invalid_api_key")
        for what in ("missing", "unknown", "expired", "revoked", "malformed")
    },
}
"""Status, type and code of what is wrong with the caller."""


@attrs.frozen
class OpenAiProblem:
    """A problem as OpenAI's clients read it, in place of an `HttpProblem`."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    media_type: str = sse.JSON

    def encode(self) -> bytes:
        """Its body."""
        return self.body


def told(error: ServedError, *headers: tuple[str, str]) -> OpenAiProblem:
    """An error as an answer, with more headers."""
    return OpenAiProblem(error.status, error.body, (*error.headers, *headers))


def as_openai(problem: HttpProblem) -> OpenAiProblem:
    """Any problem in their shape."""
    status, headers = problem.status, problem.headers
    usual = SERVER_ERROR if status >= _SERVER else _TYPES.get(status, BAD_REQUEST)
    status, kind, code = _OWN.get(problem.code, (status, usual, problem.code.replace("-", "_")))
    if problem.status == _SPENT:
        headers = (*headers, NO_RETRY)
    return told(reply(status, problem.detail, kind, code=code, headers=headers))
