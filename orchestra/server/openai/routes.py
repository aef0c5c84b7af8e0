"""The routes of OpenAI's API.

The dialect is imported with the first request: it would take a tenth of the server's start.
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
    """The handlers, opened when first used; chat-shaped `pipelines` are offered as models."""

    def open_api() -> OpenAi:
        from orchestra.server.openai.chat import open_api

        return open_api(runs, pipelines)

    api = Later(open_api)
    bindings = runs.engine.shared.bindings
    if not {*bindings.names("model"), *bindings.names("embedder")}.isdisjoint(pipelines):
        api.get()  # warns at the start about pipelines that are not offered as models
    return api


def openai_routes(runs: Runs, api: Later[OpenAi]) -> list[Route]:
    """All routes of OpenAI's API."""

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
            "OpenAI's API: an answer from a model or a chat-shaped pipeline, whole or streamed.",
            methods=("POST",),
        ),
        api.route(
            "embeddings",
            "/v1/embeddings",
            lambda it: it.embeddings,
            "OpenAI's API: the embeddings of texts.",
            methods=("POST",),
        ),
    ]


def _model_routes(api: Later[OpenAi]) -> list[Route]:
    every = "OpenAI's API: list all models, routes, embedders and chat-shaped pipelines."
    stays = "OpenAI's API: deletes nothing, since models are defined in the configuration."
    one = "/v1/models/<path:model>"
    return [
        api.route("list-models", "/v1/models", lambda it: it.models, every),
        api.route("describe-model", one, lambda it: it.model, "OpenAI's API: show one model."),
        api.route("keep-model", one, lambda it: it.keep_model, stays, methods=("DELETE",)),
    ]


def _stored_routes(api: Later[StoredApi]) -> list[Route]:
    every = "OpenAI's API: list the stored completions."
    read = "OpenAI's API: show a stored completion."
    rename = "OpenAI's API: change the metadata of a stored completion."
    forget = "OpenAI's API: delete a stored completion."
    asked = "OpenAI's API: list the messages that a stored completion answers."
    one = f"{_CHATS}/<completion>"
    return [
        api.route("list-completions", _CHATS, lambda it: it.list, every),
        api.route("read-completion", one, lambda it: it.read, read),
        api.route("rename-completion", one, lambda it: it.rename, rename, methods=("POST",)),
        api.route("delete-completion", one, lambda it: it.delete, forget, methods=("DELETE",)),
        api.route("completion-messages", f"{one}/messages", lambda it: it.messages, asked),
    ]


def _response_routes(api: Later[ResponsesApi]) -> list[Route]:
    create = "OpenAI's API: an answer as items, whole or streamed; may continue an earlier one."
    read, forget = "OpenAI's API: show a stored response.", "OpenAI's API: delete it."
    asked = "OpenAI's API: list the items that a stored response answers."
    one = f"{_RESPONSES}/<response>"
    return [
        api.route("responses", _RESPONSES, lambda it: it.create, create, methods=("POST",)),
        api.route("read-response", one, lambda it: it.read, read),
        api.route("delete-response", one, lambda it: it.delete, forget, methods=("DELETE",)),
        api.route("response-items", f"{one}/input_items", lambda it: it.items, asked),
    ]
