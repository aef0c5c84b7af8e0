"""The OpenAPI description of OpenAI's API. Pure.

Request bodies are described by the fields that the server reads. Clients may send further fields,
which are passed on to the provider.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from orchestra.codecs.openai_serving.body import ChatBody
from orchestra.codecs.openai_serving.embeddings import EmbeddingsBody
from orchestra.codecs.serving.errors import ServedError, error_reply, every_reply
from orchestra.errors import StateError
from orchestra.server import sse
from orchestra.server.models.stream import COST, FIRST, MODEL, RUN_ID
from orchestra.server.openapi.events import BY_MODEL, reference
from orchestra.server.openapi.events import SCHEMAS as AT
from orchestra.server.openapi.words import (
    COUNT,
    NUMBER,
    OBJECT,
    OF_ANTHROPIC,
    OF_TAGS,
    TEXT,
    TEXTS,
    UNREADABLE,
    Answer,
    Operation,
    Refusal,
    events,
    json,
    listed,
    or_null,
    query,
)
from orchestra.server.responses import problems
from orchestra.values import Json

ERROR, CHAT, CHUNK = "OpenAiError", "ChatCompletion", "ChatCompletionChunk"
USAGE, MODEL_RECORD, EMBEDDINGS = "OpenAiUsage", "OpenAiModel", "OpenAiEmbeddings"
MODELS, ANTHROPIC_MODEL, ANTHROPIC_MODELS = "OpenAiModels", "AnthropicModel", "AnthropicModels"


def opened(needed: str, **members: Json) -> Json:
    """An object with these members and possibly others; `needed` names the required ones."""
    return {"type": "object", "properties": members, "required": needed.split()}


def asked_as(kind: type[Any], prefix: str) -> dict[str, Json]:
    """The schemas of a request body and of all classes in it, under unique names with a prefix.

    Generated clients use these names for their classes.
    """
    _, found = msgspec.json.schema_components(
        (kind,), schema_hook=_anything, ref_template=f"{AT}{prefix}.{{name}}"
    )
    text = msgspec.json.encode({f"{prefix}.{name}": each for name, each in found.items()}).decode()
    named = re.sub(rf"\b{prefix}\._?(?:{prefix})?", prefix, text)
    schemas = msgspec.json.decode(named, type=dict[str, dict[str, Any]])
    return {name: {**each, "title": name} for name, each in schemas.items()}


def _anything(kind: type) -> Json:
    """The schema of a field whose type is `object`."""
    del kind
    return {"description": "Any JSON."}


def either_form(ours: str, anthropics: str) -> Json:
    """OpenAI's format of a response, or Anthropic's if the client sends `anthropic-version`."""
    return {"anyOf": [reference(ours), reference(anthropics)]}


_USAGE = reference(USAGE)
_LIKELY = or_null(opened("", content=or_null(listed(OBJECT))))
_CALL = opened(
    "", id=TEXT, type={"const": "function"}, function=opened("", name=TEXT, arguments=TEXT)
)
_SAID = {
    "content": or_null(TEXT),
    "refusal": or_null(TEXT),
    "reasoning_content": TEXT,
    "annotations": listed(OBJECT),
}
_FINISH: Json = {"enum": ["stop", "length", "tool_calls", "content_filter"]}
_OF_ALL = {"id": TEXT, "created": COUNT, "model": TEXT}

SCHEMAS: Mapping[str, Json] = {
    **asked_as(ChatBody, "Chat"),
    **asked_as(EmbeddingsBody, "Embed"),
    ERROR: opened(
        "error",
        error=opened(
            "message type param code",
            message=TEXT,
            type=TEXT,
            param=or_null(TEXT),
            code=or_null({**TEXT, "description": "Stable: programs can rely on it."}),
        ),
    ),
    USAGE: opened(
        "prompt_tokens total_tokens",
        prompt_tokens=COUNT,
        completion_tokens=COUNT,
        total_tokens=COUNT,
        orchestra=opened(
            "run_id model cost_nanodollars",
            run_id=TEXT,
            model=TEXT,
            cost_nanodollars=COUNT,
            time_to_first_token_s=or_null(NUMBER),
            usage_by_model=BY_MODEL,
        ),
    ),
    MODEL_RECORD: opened(
        "id object created owned_by",
        id=TEXT,
        object={"const": "model"},
        created=COUNT,
        owned_by=TEXT,
        orchestra=opened("kind", kind={"enum": ["model", "embedder", "pipeline"]}),
    ),
    MODELS: opened("object data", object={"const": "list"}, data=listed(reference(MODEL_RECORD))),
    CHAT: opened(
        "id object created model choices",
        **_OF_ALL,
        object={"const": "chat.completion"},
        choices=listed(
            opened(
                "index message finish_reason",
                index=COUNT,
                message=opened(
                    "role content", role={"const": "assistant"}, tool_calls=listed(_CALL), **_SAID
                ),
                logprobs=_LIKELY,
                finish_reason=_FINISH,
            )
        ),
        usage=_USAGE,
    ),
    CHUNK: opened(
        "id object created model choices",
        **_OF_ALL,
        object={"const": "chat.completion.chunk"},
        choices=listed(
            opened(
                "index delta",
                index=COUNT,
                delta=opened("", role=TEXT, tool_calls=listed(_CALL), **_SAID),
                logprobs=_LIKELY,
                finish_reason=or_null(_FINISH),
            )
        ),
        usage=or_null(_USAGE),
    )
    | {"description": "A chunk of the answers. The last `data` of a stream is `[DONE]`, not JSON."},
    EMBEDDINGS: opened(
        "object data model usage",
        object={"const": "list"},
        data=listed(
            opened(
                "object index embedding",
                object={"const": "embedding"},
                index=COUNT,
                embedding={
                    "anyOf": [listed(NUMBER), TEXT],
                    "description": "Numbers, or base64 of little-endian float32.",
                },
            )
        ),
        model=TEXT,
        usage=_USAGE,
    ),
}

NO_MODEL = ServedError(404, "", "model_not_found", "model")
_FAILURES = tuple(each.beside((RUN_ID, "")) for each in every_reply())
"""All errors with which the run behind an answer can fail."""
RUN_PROBLEMS: tuple[Refusal, ...] = (NO_MODEL, *UNREADABLE, problems.too_busy(), *_FAILURES)
INVALID = ServedError(400, "", "invalid_value")
AWAY = error_reply(StateError(""))
TAG = "OpenAI API"
PAGING = (
    query("after", "Only entries after the one with this id.", TEXT),
    query("limit", "The most entries on the page.", COUNT),
    query("order", "The order by time.", {"enum": ["asc", "desc"]}),
)


def not_kept(field: str) -> Refusal:
    """The error that nothing is stored under an id; `field` is the parameter with the id."""
    return ServedError(404, "", "not_found", field)


_NOT_KEPT = not_kept("completion_id")


def paged(schema: Json) -> Json:
    """The schema of a page whose entries have this schema."""
    return opened(
        "object data first_id last_id has_more",
        object={"const": "list"},
        data=listed(schema),
        first_id=or_null(TEXT),
        last_id=or_null(TEXT),
        has_more={"type": "boolean"},
    )


_KEPT: Json = {
    "allOf": [reference(CHAT), opened("metadata", metadata=OBJECT)],
    "description": "A stored completion, with its metadata.",
}


def deletion(summary: str, kind: str, *, deleted: bool) -> Answer:
    """The response to a deletion; `deleted` is whether something was deleted."""
    const: dict[str, Json] = {"object": {"const": kind}, "deleted": {"const": deleted}}
    return Answer(summary, json(opened("id object deleted", id=TEXT, **const)))


OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("list-models", "GET"): Operation(
        TAG,
        Answer(
            "The names you may use; with `anthropic-version`, in Anthropic's format.",
            json(either_form(MODELS, ANTHROPIC_MODELS)),
        ),
        parameters=(OF_ANTHROPIC,),
    ),
    ("describe-model", "GET"): Operation(
        TAG,
        Answer(
            "The model; with `anthropic-version`, in Anthropic's format.",
            json(either_form(MODEL_RECORD, ANTHROPIC_MODEL)),
        ),
        problems=(NO_MODEL,),
        parameters=(OF_ANTHROPIC,),
    ),
    ("keep-model", "DELETE"): Operation(
        TAG,
        deletion(
            "The model was not deleted: to remove it, change the configuration.",
            "model",
            deleted=False,
        ),
        problems=(NO_MODEL,),
    ),
    ("chat-completions", "POST"): Operation(
        TAG,
        Answer(
            "The answers, whole; or, with `stream`, as they are generated.",
            {**json(reference(CHAT)), sse.STREAM: events(CHUNK)},
            (RUN_ID, MODEL, COST, FIRST),
        ),
        problems=RUN_PROBLEMS,
        parameters=(OF_TAGS,),
        body=json(reference("ChatBody")),
    ),
    ("embeddings", "POST"): Operation(
        TAG,
        Answer(
            "A vector for each text.", json(reference(EMBEDDINGS)), (RUN_ID, MODEL, COST, FIRST)
        ),
        problems=RUN_PROBLEMS,
        parameters=(OF_TAGS,),
        body=json(reference("EmbeddingsBody")),
    ),
    ("list-completions", "GET"): Operation(
        TAG,
        Answer("A page of the stored completions.", json(paged(_KEPT))),
        problems=(INVALID, AWAY),
        parameters=(*PAGING, {"name": "model", "in": "query", "schema": TEXT}),
    ),
    ("read-completion", "GET"): Operation(
        TAG, Answer("The completion.", json(_KEPT)), problems=(_NOT_KEPT, AWAY)
    ),
    ("rename-completion", "POST"): Operation(
        TAG,
        Answer("The completion, with its new metadata.", json(_KEPT)),
        problems=(_NOT_KEPT, INVALID, AWAY, *UNREADABLE),
        body=json(opened("metadata", metadata=TEXTS)),
    ),
    ("delete-completion", "DELETE"): Operation(
        TAG,
        deletion("The completion was deleted.", "chat.completion.deleted", deleted=True),
        problems=(_NOT_KEPT, AWAY),
    ),
    ("completion-messages", "GET"): Operation(
        TAG,
        Answer("The messages.", json(paged(opened("id role", id=TEXT, role=TEXT)))),
        problems=(_NOT_KEPT, INVALID, AWAY),
        parameters=PAGING,
    ),
}
