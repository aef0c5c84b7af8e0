"""Answers with their bodies decompressed, for their readers."""

from __future__ import annotations

from collections.abc import Mapping

from orchestra.errors import MalformedStreamError, ModelConnectionError
from orchestra.protocols import HttpReply
from orchestra.providers.connections.inflate import CODINGS, Inflater, unknown

OK = range(200, 300)
"""The statuses of success."""


def readable(reply: HttpReply, where: str, limit_bytes: int) -> HttpReply:
    """The reply with its body decompressed, to at most `limit_bytes`.

    Raises:
        MalformedStreamError: the body has an unknown encoding. For an answer with an error status,
            it is raised by `receive` instead, since the status is enough to decide.
    """
    coding = reply.headers.get("content-encoding", "").strip().lower()
    if coding in ("", "identity"):
        return reply
    if coding not in CODINGS and reply.status in OK:
        raise _malformed(where, unknown(coding))
    return InflatedReply(reply, Inflater(coding, limit_bytes), where)


class InflatedReply(HttpReply):
    """A reply with a compressed body."""

    def __init__(self, reply: HttpReply, undone: Inflater, where: str) -> None:
        self._reply = reply
        self._inflater = undone
        self._where = where

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._reply.status

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name; values of a repeated header are joined by commas."""
        return self._reply.headers

    def forget_headers(self) -> None:
        """Free the headers."""
        self._reply.forget_headers()

    async def receive(self) -> bytes:
        """All of the body that has arrived, waiting for some; empty after the last byte."""
        while data := await self._reply.receive():
            try:
                found = self._inflater.feed(data)
            except ValueError as error:
                raise _malformed(self._where, error) from error
            if found:
                return found
        if not self._inflater.end():
            raise ModelConnectionError(
                f"the body from {self._where} ends in the middle of its compressed data",
                code="cut",
            )
        return b""


def _malformed(where: str, error: ValueError) -> MalformedStreamError:
    return MalformedStreamError(f"{where} sent an invalid answer: {error}", retryable=False)


async def read(reply: HttpReply, limit_bytes: int, begun: bytes = b"") -> bytes:
    """The complete body, whose beginning is `begun`.

    Raises:
        MalformedStreamError: the body exceeds the limit.
        ModelError: the connection failed.
    """
    pieces, size = [begun], len(begun)
    while size <= limit_bytes and (data := await reply.receive()):
        pieces.append(data)
        size += len(data)
    if size > limit_bytes:
        pieces.clear()  # the raised error keeps this frame alive
        raise MalformedStreamError(f"the answer is over {limit_bytes} bytes; ask for less at once")
    return b"".join(pieces)
