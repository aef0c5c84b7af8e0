"""Reads the bodies of responses: decompressed, and whole if wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestra.errors import MalformedStreamError, ModelConnectionError
from orchestra.protocols import HttpReply
from orchestra.providers.connections.inflate import CODINGS, Inflater, unknown

OK = range(200, 300)
"""The HTTP statuses of success."""


def readable(reply: HttpReply, where: str, limit_bytes: int) -> HttpReply:
    """The reply, with its body decompressed as it is read, to at most `limit_bytes`.

    Raises:
        MalformedStreamError: the body has an unsupported content encoding. For a response with an
            error status, `receive` raises this instead, since the caller can do with the status.
    """
    coding = reply.headers.get("content-encoding", "").strip().lower()
    if coding in ("", "identity"):
        return reply
    if coding not in CODINGS and reply.status in OK:
        raise _malformed(where, unknown(coding))
    return InflatedReply(reply, Inflater(coding, limit_bytes), where)


class InflatedReply(HttpReply):
    """A reply whose compressed body is decompressed as it is read."""

    def __init__(self, reply: HttpReply, inflater: Inflater, where: str) -> None:
        self._reply = reply
        self._inflater = inflater
        self._where = where

    @property
    def status(self) -> int:
        return self._reply.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._reply.headers

    def forget_headers(self) -> None:
        self._reply.forget_headers()

    async def receive(self) -> bytes:
        """The decompressed part of the body that has arrived; empty after the last byte.

        Raises:
            MalformedStreamError: the body is not what its content encoding says, or is too long.
            ModelConnectionError: the compressed data was cut.
        """
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
    return MalformedStreamError(f"{where} sent an invalid response: {error}", retryable=False)


async def read(
    reply: HttpReply,
    limit_bytes: int,
    begun: bytes = b"",
    enough: Callable[[bytes], bool] | None = None,
) -> bytes:
    """Read the rest of a body, and return all of it; `begun` is what was read before.

    With `enough`, stop after the first piece, `begun` included, for which it returns True.

    Raises:
        MalformedStreamError: the body exceeds the limit.
        ModelError: the connection failed.
    """
    pieces, size, data = list[bytes](), 0, begun or await reply.receive()
    while data:
        pieces.append(data)
        size += len(data)
        if size > limit_bytes:
            pieces.clear()  # the raised error keeps this frame alive
            raise MalformedStreamError(
                f"the response is longer than {limit_bytes} bytes; ask for less at once"
            )
        if enough is not None and enough(data):
            break
        data = await reply.receive()
    return b"".join(pieces)
