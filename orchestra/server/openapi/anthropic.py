"""The OpenAPI description of Anthropic's API. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from orchestra.codecs.anthropic_serving.body import MessagesBody
from orchestra.server import sse
from orchestra.server.models.stream import COST, FIRST, MODEL, RUN_ID
from orchestra.server.openapi.events import reference
from orchestra.server.openapi.openai import (
    ANTHROPIC_MODEL,
    ANTHROPIC_MODELS,
    INVALID,
    NO_MODEL,
    RUN_PROBLEMS,
    asked_as,
    opened,
)
from orchestra.server.openapi.words import (
    COUNT,
    OF_ANTHROPIC,
    OF_TAGS,
    TEXT,
    UNREADABLE,
    Answer,
    Operation,
    events,
    json,
    listed,
    or_null,
)
from orchestra.values import Json

ERROR, MESSAGE, EVENT = "AnthropicError", "AnthropicMessage", "AnthropicEvent"
USAGE, TOKENS = "AnthropicUsage", "AnthropicTokens"
TAG = "Anthropic API"

SCHEMAS: Mapping[str, Json] = {
    **asked_as(MessagesBody, "Messages"),
    ERROR: opened(
        "type error",
        type={"const": "error"},
        error=opened(
            "type message",
            type=TEXT,
            message=TEXT,
            details=opened(
                "error_code", error_code={**TEXT, "description": "Stable: programs can rely on it."}
            ),
        ),
        request_id=or_null(TEXT),
    ),
    USAGE: opened(
        "input_tokens output_tokens",
        input_tokens=COUNT,
        output_tokens=COUNT,
        cache_read_input_tokens=COUNT,
        cache_creation_input_tokens=COUNT,
    ),
    MESSAGE: opened(
        "id type role model content stop_reason usage",
        id=TEXT,
        type={"const": "message"},
        role={"const": "assistant"},
        model=TEXT,
        content=listed(opened("type", type=TEXT)),
        stop_reason=or_null(TEXT),
        stop_sequence=or_null(TEXT),
        stop_details=or_null(
            opened(
                "type category explanation",
                type={"const": "refusal"},
                category=or_null(TEXT),
                explanation=or_null(TEXT),
            )
        ),
        usage=reference(USAGE),
    ),
    EVENT: opened("type", type=TEXT)
    | {"description": "A part of an answer, or its end, as one of Anthropic's events."},
    TOKENS: opened("input_tokens", input_tokens=COUNT),
    ANTHROPIC_MODEL: opened(
        "type id display_name created_at lifecycle",
        type={"const": "model"},
        id=TEXT,
        display_name=TEXT,
        created_at=TEXT,
        lifecycle={"const": "active"},
    ),
    ANTHROPIC_MODELS: opened(
        "data has_more first_id last_id",
        data=listed(reference(ANTHROPIC_MODEL)),
        has_more={"const": False},
        first_id=or_null(TEXT),
        last_id=or_null(TEXT),
    ),
}

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("messages", "POST"): Operation(
        TAG,
        Answer(
            "The answer, whole; or, with `stream`, as it is generated.",
            {**json(reference(MESSAGE)), sse.STREAM: events(EVENT, "event")},
            (RUN_ID, MODEL, COST, FIRST),
        ),
        problems=RUN_PROBLEMS,
        parameters=(OF_ANTHROPIC, OF_TAGS),
        body=json(reference("MessagesBody")),
    ),
    ("count-tokens", "POST"): Operation(
        TAG,
        Answer("The estimated number of input tokens.", json(reference(TOKENS))),
        problems=(NO_MODEL, INVALID, *UNREADABLE),
        parameters=(OF_ANTHROPIC,),
        body=json(reference("MessagesBody")),
    ),
}
