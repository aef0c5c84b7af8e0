"""The OpenAPI description of OpenAI's responses API. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from orchestra.codecs.openai_serving.responses_body import ResponsesBody
from orchestra.server import sse
from orchestra.server.models.stream import COST, FIRST, MODEL, RUN_ID
from orchestra.server.openapi.events import reference
from orchestra.server.openapi.openai import (
    AWAY,
    INVALID,
    PAGING,
    RUN_PROBLEMS,
    TAG,
    asked_as,
    deletion,
    not_kept,
    opened,
    paged,
)
from orchestra.server.openapi.words import (
    COUNT,
    OBJECT,
    OF_TAGS,
    TEXT,
    TEXTS,
    Answer,
    Operation,
    events,
    json,
    listed,
    or_null,
)
from orchestra.values import Json

RESPONSE, ITEM, EVENT, USAGE = "OpenAiResponse", "ResponseItem", "ResponseEvent", "ResponseUsage"
_STATUS: Json = {"enum": ["in_progress", "completed", "incomplete", "failed"]}
_NOT_KEPT = not_kept("response_id")

SCHEMAS: Mapping[str, Json] = {
    **asked_as(ResponsesBody, "Responses"),
    USAGE: opened(
        "input_tokens output_tokens total_tokens",
        input_tokens=COUNT,
        output_tokens=COUNT,
        total_tokens=COUNT,
    ),
    ITEM: opened(
        "id type",
        id=TEXT,
        type={**TEXT, "description": "message, reasoning or function_call."},
        status=_STATUS,
        role=TEXT,
        content={"anyOf": [TEXT, listed(OBJECT)]},
        summary=listed(OBJECT),
        call_id=TEXT,
        name=TEXT,
        arguments=TEXT,
    ),
    RESPONSE: opened(
        "id object created_at status model output",
        id=TEXT,
        object={"const": "response"},
        created_at=COUNT,
        status=_STATUS,
        model=TEXT,
        output=listed(reference(ITEM)),
        usage=or_null(reference(USAGE)),
        error=or_null(opened("code message", code=TEXT, message=TEXT)),
        incomplete_details=or_null(opened("reason", reason=TEXT)),
        metadata=TEXTS,
    ),
    EVENT: opened("type sequence_number", type=TEXT, sequence_number=COUNT)
    | {"description": "A part of an answer, or its end, as one of OpenAI's events."},
}

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("responses", "POST"): Operation(
        TAG,
        Answer(
            "The answer, whole; or, with `stream`, as it is generated.",
            {**json(reference(RESPONSE)), sse.STREAM: events(EVENT, "event")},
            (RUN_ID, MODEL, COST, FIRST),
        ),
        problems=(*RUN_PROBLEMS, AWAY),
        parameters=(OF_TAGS,),
        body=json(reference("ResponsesBody")),
    ),
    ("read-response", "GET"): Operation(
        TAG, Answer("The response.", json(reference(RESPONSE))), problems=(_NOT_KEPT, AWAY)
    ),
    ("delete-response", "DELETE"): Operation(
        TAG,
        deletion("The response was deleted.", "response", deleted=True),
        problems=(_NOT_KEPT, AWAY),
    ),
    ("response-items", "GET"): Operation(
        TAG,
        Answer("The items that the response answers.", json(paged(reference(ITEM)))),
        problems=(_NOT_KEPT, INVALID, AWAY),
        parameters=PAGING,
    ),
}
