"""The description of an operation, and the schemas it is written with. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

import attrs

from orchestra.codecs.serving.errors import ServedError
from orchestra.server import sse
from orchestra.server.front.end_users import END_USER, NAME
from orchestra.server.front.tags import ABOUT
from orchestra.server.openapi.events import EVENT, reference
from orchestra.server.responses import problems
from orchestra.server.responses.caller_problems import TAGS
from orchestra.server.responses.problems import HttpProblem
from orchestra.values import Json

Refusal: TypeAlias = HttpProblem | ServedError

TEXT: Json = {"type": "string"}
TEXTS: Json = {"type": "object", "additionalProperties": TEXT}
"""Named texts."""
OBJECT: Json = {"type": "object", "additionalProperties": True}
"""Any object. Without `additionalProperties`, generators make a type of it that has no members."""
NUMBER: Json = {"type": "number"}
COUNT: Json = {"type": "integer", "minimum": 0}
HTML = "text/html"
_NONE: Mapping[str, Json] = MappingProxyType({})


@attrs.frozen
class Answer:
    """A response that is not a problem: its contents by media type, and its headers' names."""

    summary: str
    contents: Mapping[str, Json] = _NONE
    headers: tuple[str, ...] = ()
    status: int = attrs.field(default=200, kw_only=True)


class Operation:
    """The description of one method of a route, without what all routes share.

    `body` has the schema of the request's body, by media type; `extensions` are OpenAPI's, whose
    names begin with `x-`.
    """

    def __init__(
        self,
        tag: str,
        *answers: Answer,
        problems: tuple[Refusal, ...] = (),
        parameters: tuple[Json, ...] = (),
        body: Mapping[str, Json] = _NONE,
        extensions: Mapping[str, Json] = _NONE,
    ) -> None:
        self.tag = tag
        self.answers = answers
        self.problems = problems
        self.parameters = parameters
        self.body = body
        self.extensions = extensions


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


def query(name: str, summary: str, schema: Json) -> Json:
    """A variable of the query, as a parameter that is not required."""
    return {"name": name, "in": "query", "description": summary, "schema": schema}


OF_ANTHROPIC = header(
    "anthropic-version",
    "Sent by Anthropic's clients, which may send their key in `x-api-key`; any value is accepted.",
)
"""A request with this header is answered in Anthropic's format."""


OF_TAGS = header(TAGS, ABOUT)


OF_END_USER = {
    **header(
        END_USER,
        "The end user of the key's organisation that the request is made for; allowed for keys "
        "created with `--end-users`. Limits, budgets and runs are then those of this end user.",
    ),
    "schema": {**TEXT, "pattern": f"^{NAME}$"},
}


def events(name: str, *named: str) -> Json:
    """A stream of server-sent events, described as one event (OpenAPI 3.1 has no other way).

    `name` is the schema of its `data`, and `named` are its other fields.
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
"""The problems of request bodies of any kind."""
