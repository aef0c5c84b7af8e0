"""The routes of OpenAI's API.

The dialect is imported with the first request: it is a tenth of a start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestra.server.front.routes import Later, Route

if TYPE_CHECKING:
    from orchestra.graph.pipelines import Pipeline
    from orchestra.server.openai.chat import OpenAi
    from orchestra.server.openai.responses import ResponsesApi
    from orchestra.server.openai.stored_chats import StoredApi
    from orchestra.server.runs.pipelines import Runs

_CHATS = "/v1/chat/completions"
_RESPONSES = "/v1/responses"


def openai_api(runs: Runs, pipelines: Mapping[str, Pipeline[..., Any]]) -> Later[OpenAi]:
    """Its handlers; of the pipelines, those that are shaped like a chat are offered as models."""

    def open_api() -> OpenAi:
        from orchestra.server.openai.chat import open_api

        return open_api(runs, pipelines)

    api = Later(open_api)
    bindings = runs.engine.shared.bindings
    if not {*bindings.names("model"), *bindings.names("embedder")}.isdisjoint(pipelines):
        api.get()  # it warns of those that are not offered, while somebody looks at the log
    return api


def openai_routes(runs: Runs, api: Later[OpenAi]) -> list[Route]:
    """All of them."""

    def open_stored() -> StoredApi:
        from orchestra.server.openai.stored_chats import StoredApi

        return StoredApi(api.get().stored)

    def open_responses() -> ResponsesApi:
        from orchestra.server.openai.responses import ResponsesApi

        return ResponsesApi(runs, api.get().catalog, api.get().stored.beside("response"))

    stored, responses = Later(open_stored), Later(open_responses)
    return [
        *_model_routes(api),
        *_stored_routes(stored),
        *_response_routes(responses),
        api.route(
            "chat-completions",
            _CHATS,
            lambda it: it.chat,
            "OpenAI's: an answer of a model or a chat-shaped pipeline, whole or streamed.",
            methods=("POST",),
        ),
        api.route(
            "embeddings",
            "/v1/embeddings",
            lambda it: it.embeddings,
            "OpenAI's: the vectors of texts.",
            methods=("POST",),
        ),
    ]


def _model_routes(api: Later[OpenAi]) -> list[Route]:
    every = "OpenAI's: every model, route, embedder and chat-shaped pipeline."
    stays = "OpenAI's: a model stays, since it is the configuration that has it."
    one = "/v1/models/<path:model>"
    return [
        api.route("list-models", "/v1/models", lambda it: it.models, every),
        api.route("describe-model", one, lambda it: it.model, "OpenAI's: one model."),
        api.route("keep-model", one, lambda it: it.keep_model, stays, methods=("DELETE",)),
    ]


def _stored_routes(api: Later[StoredApi]) -> list[Route]:
    every = "OpenAI's: the completions that you asked to be kept."
    rename, forget = "OpenAI's: give it other metadata.", "OpenAI's: forget it."
    asked = "OpenAI's: what was asked for it."
    one = f"{_CHATS}/<completion>"
    return [
        api.route("list-completions", _CHATS, lambda it: it.list, every),
        api.route("read-completion", one, lambda it: it.read, "OpenAI's: one of them."),
        api.route("rename-completion", one, lambda it: it.rename, rename, methods=("POST",)),
        api.route("delete-completion", one, lambda it: it.delete, forget, methods=("DELETE",)),
        api.route("completion-messages", f"{one}/messages", lambda it: it.messages, asked),
    ]


def _response_routes(api: Later[ResponsesApi]) -> list[Route]:
    create = "OpenAI's: an answer as items, whole or streamed; it may go on from another."
    read, forget = "OpenAI's: a response that was kept.", "OpenAI's: forget it."
    asked = "OpenAI's: what was asked for it."
    one = f"{_RESPONSES}/<response>"
    return [
        api.route("responses", _RESPONSES, lambda it: it.create, create, methods=("POST",)),
        api.route("read-response", one, lambda it: it.read, read),
        api.route("delete-response", one, lambda it: it.delete, forget, methods=("DELETE",)),
        api.route("response-items", f"{one}/input_items", lambda it: it.items, asked),
    ]
