"""The routes that OpenAI's clients ask, and the shape in which they read problems.

Nothing of the dialect is imported before one of them asks: it is a tenth of a start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from orchestra.server.front.access import KNOWN
from orchestra.server.front.problems import HttpProblem, NoContent
from orchestra.server.front.routes import Route, later

if TYPE_CHECKING:
    from orchestra.graph.pipelines import Pipeline
    from orchestra.server.openai.chat import OpenAi
    from orchestra.server.openai.errors import OpenAiProblem
    from orchestra.server.openai.responses import ResponsesApi
    from orchestra.server.openai.stored_chats import StoredApi
    from orchestra.server.runs.pipelines import Runs

PATHS = ("/v1/models", "/v1/chat", "/v1/responses", "/v1/embeddings")
ELSEWHERE = (
    *("/v1/completions", "/v1/audio", "/v1/images", "/v1/moderations"),
    *("/v1/files", "/v1/batches", "/v1/vector_stores", "/v1/fine_tuning", "/v1/conversations"),
    *("/v1/realtime", "/v1/videos", "/v1/uploads", "/v1/evals", "/v1/containers", "/v1/skills"),
    *("/v1/assistants", "/v1/threads", "/v1/chatkit", "/v1/organization", "/v1/engines"),
    *(
        "/models",
        "/chat/completions",
        "/completions",
        "/embeddings",
        "/responses",
    ),  # of a base URL without /v1
)
"""What its clients ask in vain: they read why not in their own form only."""
_CHATS = "/v1/chat/completions"
_RESPONSES = "/v1/responses"


def openai_routes(runs: Runs, pipelines: Mapping[str, Pipeline[..., Any]]) -> list[Route]:
    """The routes that OpenAI's clients ask; of the pipelines, those that are shaped like a chat."""

    @cache
    def api() -> OpenAi:
        from orchestra.server.openai.chat import open_api

        return open_api(runs, pipelines)

    @cache
    def kept() -> StoredApi:
        from orchestra.server.openai.stored_chats import StoredApi

        return StoredApi(api().stored)

    @cache
    def responses() -> ResponsesApi:
        from orchestra.server.openai.responses import responses_api

        return responses_api(runs, api().catalog, api().stored)

    names = {*runs.engine.bindings.names("model"), *runs.engine.bindings.names("embedder")}
    if not names.isdisjoint(pipelines):
        api()  # it warns of those that are not offered, while somebody looks at the log
    return [
        *_model_routes(api),
        *_kept_routes(kept),
        *_responses_routes(responses),
        Route(
            name="chat-completions",
            path=_CHATS,
            handler=later(api, lambda it: it.chat),
            access=KNOWN,
            methods=("POST",),
            summary="OpenAI's: an answer of a model or a chat-shaped pipeline, whole or streamed.",
        ),
        Route(
            name="embeddings",
            path="/v1/embeddings",
            handler=later(api, lambda it: it.embeddings),
            access=KNOWN,
            methods=("POST",),
            summary="OpenAI's: the vectors of texts.",
        ),
    ]


def _model_routes(api: Callable[[], OpenAi]) -> list[Route]:
    """Those of what may be asked."""
    return [
        Route(
            name="list-models",
            path="/v1/models",
            handler=later(api, lambda it: it.models),
            access=KNOWN,
            summary="OpenAI's: every model, route, embedder and chat-shaped pipeline.",
        ),
        Route(
            name="describe-model",
            path="/v1/models/<path:model>",
            handler=later(api, lambda it: it.model),
            access=KNOWN,
            summary="OpenAI's: one model.",
        ),
        Route(
            name="keep-model",
            path="/v1/models/<path:model>",
            handler=later(api, lambda it: it.keep_model),
            access=KNOWN,
            methods=("DELETE",),
            summary="OpenAI's: a model stays, since it is the configuration that has it.",
        ),
    ]


def _kept_routes(kept: Callable[[], StoredApi]) -> list[Route]:
    """Those of completions that clients asked to be kept."""
    one = f"{_CHATS}/<completion>"
    return [
        Route(
            name="list-completions",
            path=_CHATS,
            handler=later(kept, lambda it: it.list),
            access=KNOWN,
            summary="OpenAI's: the completions that you asked to be kept.",
        ),
        Route(
            name="read-completion",
            path=one,
            handler=later(kept, lambda it: it.read),
            access=KNOWN,
            summary="OpenAI's: one of them.",
        ),
        Route(
            name="rename-completion",
            path=one,
            handler=later(kept, lambda it: it.rename),
            access=KNOWN,
            methods=("POST",),
            summary="OpenAI's: give it other metadata.",
        ),
        Route(
            name="delete-completion",
            path=one,
            handler=later(kept, lambda it: it.delete),
            access=KNOWN,
            methods=("DELETE",),
            summary="OpenAI's: forget it.",
        ),
        Route(
            name="completion-messages",
            path=f"{one}/messages",
            handler=later(kept, lambda it: it.messages),
            access=KNOWN,
            summary="OpenAI's: what was asked for it.",
        ),
    ]


def _responses_routes(api: Callable[[], ResponsesApi]) -> list[Route]:
    """Those of the responses API."""
    one = f"{_RESPONSES}/<response>"
    return [
        Route(
            name="responses",
            path=_RESPONSES,
            handler=later(api, lambda it: it.create),
            access=KNOWN,
            methods=("POST",),
            summary="OpenAI's: an answer as items, whole or streamed; it may go on from another.",
        ),
        Route(
            name="read-response",
            path=one,
            handler=later(api, lambda it: it.read),
            access=KNOWN,
            summary="OpenAI's: a response that was kept.",
        ),
        Route(
            name="delete-response",
            path=one,
            handler=later(api, lambda it: it.delete),
            access=KNOWN,
            methods=("DELETE",),
            summary="OpenAI's: forget it.",
        ),
        Route(
            name="response-items",
            path=f"{one}/input_items",
            handler=later(api, lambda it: it.items),
            access=KNOWN,
            summary="OpenAI's: what was asked for it.",
        ),
    ]


def is_openai(path: str) -> bool:
    """Whether a path is one of those that OpenAI's clients ask."""
    return any(path == each or path.startswith(f"{each}/") for each in (*PATHS, *ELSEWHERE))


def shaped(path: str, early: HttpProblem | NoContent) -> HttpProblem | NoContent | OpenAiProblem:
    """A problem as clients of this path read problems."""
    if not isinstance(early, HttpProblem) or not is_openai(path):
        return early
    from orchestra.server.openai.errors import as_openai

    return as_openai(early)
