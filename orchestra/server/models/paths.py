"""The paths of providers' APIs, whose clients expect problems in the provider's format.

The formats are imported with the first problem, to keep the server's start fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.server.front.arrival import is_anthropic
from orchestra.server.responses.problems import Encoded, HttpProblem, Told

if TYPE_CHECKING:
    from orchestra.codecs.serving.errors import ServedError
    from orchestra.server.front.arrival import Arrival

RESPONSES = "/v1/responses"
PATHS = ("/v1/models", "/v1/chat", RESPONSES, "/v1/embeddings")
ELSEWHERE = (
    *("/v1/completions", "/v1/audio", "/v1/images", "/v1/moderations"),
    *("/v1/files", "/v1/batches", "/v1/vector_stores", "/v1/fine_tuning", "/v1/conversations"),
    *("/v1/realtime", "/v1/videos", "/v1/uploads", "/v1/evals", "/v1/containers", "/v1/skills"),
    *("/v1/assistants", "/v1/threads", "/v1/chatkit", "/v1/organization", "/v1/engines"),
    # for clients whose base URL has no /v1
    *("/models", "/chat/completions", "/completions", "/embeddings", "/responses"),
)
"""Paths of OpenAI's API that are not served here; their clients still need its error format."""


def is_openai(path: str) -> bool:
    """Whether a path belongs to OpenAI's API."""
    return any(_under(path, each) for each in (*PATHS, *ELSEWHERE))


def shaped(arrival: Arrival, early: Told | ServedError) -> Told:
    """The problem in the format that the request's client expects."""
    request_id = arrival.request_id
    return shaped_at(arrival.path, early, anthropic=arrival.of_anthropic, request_id=request_id)


def shaped_at(
    path: str, early: Told | ServedError, *, anthropic: bool = False, request_id: str = ""
) -> Told:
    """The problem in the format of this path, or in Anthropic's if the client asks for that."""
    if isinstance(early, Encoded):
        return early
    anthropic = anthropic or is_anthropic(path)
    if isinstance(early, HttpProblem) and not anthropic and not is_openai(path):
        return early
    from orchestra.server.models.shapes import as_anthropic, as_openai, as_response, as_served

    error = as_served(early)
    if anthropic:
        return as_anthropic(error, request_id)
    return as_response(error) if _under(path, RESPONSES) else as_openai(error)


def _under(path: str, root: str) -> bool:
    return path == root or path.startswith(f"{root}/")
