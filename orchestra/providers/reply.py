"""The answer as its reader sees it: status, headers, and a body without its encoding."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from orchestra.errors import MalformedStreamError, ModelConnectionError
from orchestra.protocols import HttpReply
from orchestra.providers.http1 import Head
from orchestra.providers.inflate import Inflater, inflater


class Reply(HttpReply):
    """An `HttpReply` whose body `receive` gives; at most `limit_bytes` of it when inflated.

    Raises:
        MalformedStreamError: the body is encoded in a way that cannot be undone.
    """

    def __init__(
        self, head: Head, receive: Callable[[], Awaitable[bytes]], where: str, limit_bytes: int
    ) -> None:
        self._status = head.status
        self._headers = head.named()
        self._receive = receive
        self._where = where
        try:
            coding = self._headers.get("content-encoding", "")
            self._inflater: Inflater | None = inflater(coding, limit_bytes)
        except ValueError as error:
            raise self._malformed(error) from error

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._status

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name; of one that came twice, both, with a comma between."""
        return self._headers

    async def receive(self) -> bytes:
        """All of the body that is here, waiting for something; empty after the last byte."""
        if self._inflater is None:
            return await self._receive()
        while data := await self._receive():
            try:
                found = self._inflater.feed(data)
            except ValueError as error:
                raise self._malformed(error) from error
            if found:
                return found
        if not self._inflater.end():
            raise ModelConnectionError(
                f"the body from {self._where} ends in the middle of what it holds compressed",
                code="cut",
            )
        return b""

    def _malformed(self, error: ValueError) -> MalformedStreamError:
        return MalformedStreamError(
            f"{self._where} does not answer as it should: {error}", retryable=False
        )
