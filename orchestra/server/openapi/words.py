"""What an operation is in an OpenAPI document, and the schemas that it is written with. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import attrs

from orchestra.codecs.serving.errors import ServedError
from orchestra.server import sse
from orchestra.server.front.end_users import END_USER, NAME
from orchestra.server.openapi.events import EVENT, reference
from orchestra.server.responses import problems
from orchestra.server.responses.problems import HttpProblem
from orchestra.values import Json

Refusal: TypeAlias = HttpProblem | ServedError

TEXT: Json = {"type": "string"}
NUMBER: Json = {"type": "number"}
COUNT: Json = {"type": "integer", "minimum": 0}
HTML = "text/html"


@attrs.frozen(kw_only=True)
class Answer:
    """An answer that is not a problem: its contents by media type, and its headers' names."""

    summary: str
    status: int = 200
    contents: Mapping[str, Json] = attrs.field(factory=dict)
    headers: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Operation:
    """One method of one route, as far as the route itself decides."""

    tag: str
    answers: tuple[Answer, ...]
    problems: tuple[Refusal, ...] = ()
    parameters: tuple[Json, ...] = ()
    body: Mapping[str, Json] = attrs.field(factory=dict)
    """By media type what is sent."""
    extensions: Mapping[str, Json] = attrs.field(factory=dict)
    """What OpenAPI has no word for: names begin with `x-`."""


def json(schema: Json) -> dict[str, Json]:
    """A JSON body of this schema."""
    return {sse.JSON: {"schema": schema}}


def closed(**members: Json) -> Json:
    """An object with these members and no others."""
    return {
        "type": "object",
        "properties": members,
        "required": list(members),
        "additionalProperties": False,
    }


def listed(schema: Json) -> Json:
    """An array whose items have this schema."""
    return {"type": "array", "items": schema}


def or_null(schema: Json) -> Json:
    """The schema, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def header(name: str, summary: str) -> Json:
    """A request header, as a parameter that is not required."""
    return {"name": name, "in": "header", "description": summary, "schema": TEXT}


OF_ANTHROPIC = header(
    "anthropic-version",
    "Sent by Anthropic's clients, whose key may stand in `x-api-key`; any value will do.",
)
"""Who sends it is answered in Anthropic's form."""


OF_END_USER = {
    **header(
        END_USER,
        "For whom the request is, if its key was made with `--end-users`: limits, budgets and runs "
        "are then those of this user of the key's organisation.",
    ),
    "schema": {**TEXT, "pattern": f"^{NAME}$"},
}


def events(name: str, *named: str) -> Json:
    """A stream of server-sent events, described as one event: OpenAPI before 3.2 has no other way.

    `named` are its fields beside `data`.
    """
    data = {**TEXT, "contentMediaType": sse.JSON, "contentSchema": reference(name)}
    return {
        "schema": {
            "type": "object",
            "properties": {**dict.fromkeys(named, TEXT), "data": data},
            "required": ["data", *named],
        }
    }


EVENTS = events(EVENT, "id", "event")
UNREADABLE = (
    problems.bad_body(""),
    problems.bad_media_type(""),
    problems.bad_coding(""),
    problems.by_status(408, "Request Timeout", "the body took too long"),
)
"""What is wrong with a body of any kind."""
