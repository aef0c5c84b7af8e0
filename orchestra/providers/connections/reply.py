"""The answer as its reader sees it: with a body that has lost its encoding."""

from __future__ import annotations

from collections.abc import Mapping

from orchestra.errors import MalformedStreamError, ModelConnectionError
from orchestra.protocols import HttpReply
from orchestra.providers.connections.inflate import Inflater, UnknownCoding, inflater

OK = range(200, 300)
"""The statuses of success."""


def readable(reply: HttpReply, where: str, limit_bytes: int) -> HttpReply:
    """The reply with its body as it was meant; at most `limit_bytes` of it when inflated.

    Raises:
        MalformedStreamError: the body is encoded in a way that cannot be undone. Of an error's
            body that is told on receive: its status says what to do already.
    """
    coding = reply.headers.get("content-encoding")
    if coding is None:
        return reply
    try:
        undone = inflater(coding, limit_bytes)
    except ValueError as error:
        if reply.status not in OK:
            return InflatedReply(reply, UnknownCoding(error), where)
        raise _malformed(where, error) from error
    return reply if undone is None else InflatedReply(reply, undone, where)


class InflatedReply(HttpReply):
    """A reply whose body came compressed."""

    def __init__(self, reply: HttpReply, undone: Inflater | UnknownCoding, where: str) -> None:
        self._reply = reply
        self._inflater = undone
        self._where = where

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._reply.status

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name; of one that came twice, both, with a comma between."""
        return self._reply.headers

    def forget_headers(self) -> None:
        """Keep no headers any more."""
        self._reply.forget_headers()

    async def receive(self) -> bytes:
        """All of the body that is here, waiting for something; empty after the last byte."""
        while data := await self._reply.receive():
            try:
                found = self._inflater.feed(data)
            except ValueError as error:
                raise _malformed(self._where, error) from error
            if found:
                return found
        if not self._inflater.end():
            raise ModelConnectionError(
                f"the body from {self._where} ends in the middle of what it holds compressed",
                code="cut",
            )
        return b""


def _malformed(where: str, error: ValueError) -> MalformedStreamError:
    return MalformedStreamError(f"{where} does not answer as it should: {error}", retryable=False)
