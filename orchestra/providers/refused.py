"""The error in a provider's response: its status and what arrives of its body; a redirect, too."""

from __future__ import annotations

import re
import time
from contextlib import suppress

import trio

from orchestra.codecs.dialect import Dialect
from orchestra.errors import ModelConnectionError, ModelError
from orchestra.protocols import HttpReply
from orchestra.providers.connections.reply import OK

ERROR_BYTES_MAX = 64 * 1024
"""The most bytes that are read of an error response's body; only web pages are longer."""
ERROR_BODY_S = 1.0
"""Seconds to wait for an error response's body; without the body, the status decides."""
_ELSEWHERE = range(300, 400)
_ORIGIN = re.compile(r"(https?://[\w.-]{1,253}(?::\d{1,5})?)(?:[/?#]|$)", re.ASCII | re.IGNORECASE)
"""The part of a URL before its path, which may contain a key; no match if it has a user name."""


async def refuse(dialect: Dialect, reply: HttpReply) -> None:
    """Raise the error in a response, unless its status is a success.

    Raises:
        ModelError: the provider's error, decoded from what arrives of the body in `ERROR_BODY_S`.
    """
    if reply.status in OK:
        return
    if reply.status in _ELSEWHERE:
        raise _redirect_error(reply)
    raise dialect.error(reply.status, reply.headers, await _error_body(reply), time.time())


async def _error_body(reply: HttpReply) -> bytes:
    """The part of an error response's body that arrives in time; the status is known anyway."""
    body = b""
    with suppress(ModelError), trio.move_on_after(ERROR_BODY_S):
        while len(body) <= ERROR_BYTES_MAX and (data := await reply.receive()):
            body += data
    return body[:ERROR_BYTES_MAX]


def _redirect_error(reply: HttpReply) -> ModelConnectionError:
    """The error for a redirect; following one would send the key and the request elsewhere."""
    found = _ORIGIN.match(reply.headers.get("location", ""))
    where = f" to {found[1]}" if found else ""
    return ModelConnectionError(
        f"the provider responded with a redirect{where}, which is not followed; correct base_url",
        retryable=False,
        status=reply.status,
        code="redirect",
    )
