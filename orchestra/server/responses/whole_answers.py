"""Responses with complete bodies, and headers that are known to be valid.

Werkzeug looks for line ends in each value of its headers. This is redundant: those of a request
were read by the server's parser, and those of a response are checked when they are written.
"""

from __future__ import annotations

from collections.abc import Mapping

from quart.wrappers.response import DataBody
from quart_trio.wrappers import TrioResponse as Response
from werkzeug.datastructures import Headers

from orchestra.event_lines import written
from orchestra.server import sse
from orchestra.server.responses.problems import Told


class Pairs(Headers):
    """Headers with these names and values; takes ownership of the list."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._list = pairs


def whole(body: bytes, status: int, media_type: str, headers: Mapping[str, str]) -> Response:
    """A response with this body and its length."""
    of_body = ("content-type", media_type), ("content-length", str(len(body)))
    return Response(DataBody(body), status, Pairs([*headers.items(), *of_body]))


def answer(problem: Told) -> Response:
    """The response for a problem."""
    return whole(problem.encode(), problem.status, problem.media_type, dict(problem.headers))


def as_json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response; wrap a value that is encoded already in `msgspec.Raw`."""
    return whole(written(value), status, sse.JSON, headers or {})
