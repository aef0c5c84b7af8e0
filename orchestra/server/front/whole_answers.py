"""Answers whose body is here, and headers whose form is known to be right.

Werkzeug looks for a line end in each value that is put into its headers. Those of a request were
read by the server's parser, and those of an answer are looked at where they are written.
"""

from __future__ import annotations

from collections.abc import Mapping

from quart.wrappers.response import DataBody
from quart_trio.wrappers import TrioResponse as Response
from werkzeug.datastructures import Headers


class Pairs(Headers):
    """Headers of these names and values, which it keeps as its own."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._list = pairs


def whole(body: bytes, status: int, media_type: str, headers: Mapping[str, str]) -> Response:
    """The answer of this body, and how long it is."""
    of_body = ("content-type", media_type), ("content-length", str(len(body)))
    return Response(DataBody(body), status, Pairs([*headers.items(), *of_body]))
