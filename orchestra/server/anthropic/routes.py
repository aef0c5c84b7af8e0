"""The routes of Anthropic's API. The dialect is imported with the first request."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestra.server.front.arrival import MESSAGES
from orchestra.server.front.routes import Later, Route

if TYPE_CHECKING:
    from orchestra.server.anthropic.messages import MessagesApi
    from orchestra.server.models.catalog import Catalog
    from orchestra.server.runs.pipelines import Runs


def anthropic_routes(runs: Runs, catalog: Callable[[], Catalog]) -> list[Route]:
    """All routes of Anthropic's API except `/v1/models`, which it shares with OpenAI's."""

    def open_api() -> MessagesApi:
        from orchestra.server.anthropic.messages import MessagesApi

        return MessagesApi(runs, catalog())

    api = Later(open_api)
    create = "Anthropic's API: an answer from a model or a chat-shaped pipeline, whole or streamed."
    count = "Anthropic's API: estimate the number of input tokens of a request."
    at = f"{MESSAGES}/count_tokens"
    return [
        api.route("messages", MESSAGES, lambda it: it.create, create, methods=("POST",)),
        api.route("count-tokens", at, lambda it: it.count, count, methods=("POST",)),
    ]
