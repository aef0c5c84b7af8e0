"""Decompresses bodies that a server has compressed, although it was asked not to. Sans-I/O.

A few bytes can expand to gigabytes, so the output has a limit, and never exceeds it in memory.
"""

from __future__ import annotations

import zlib

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS
_ZLIB_METHOD = 8  # the low half of the first byte of a zlib header


CODINGS = ("gzip", "x-gzip", "deflate")
"""The content-encodings that are decompressed."""


class Inflater:
    """Decompresses a body in pieces of any size; one that is encoded otherwise is an error."""

    def __init__(self, coding: str, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._coding = coding
        self._gzip = coding != "deflate"
        self._made_bytes = 0
        self._stream: zlib._Decompress | None = None

    def feed(self, data: bytes) -> bytes:
        """The decompressed bytes.

        Raises:
            ValueError: the encoding is unknown, the bytes are invalid, or their content exceeds the
                limit.
        """
        parts: list[bytes] = []
        while data:
            stream = self._stream or self._begun(data)
            left_bytes = self._limit_bytes - self._made_bytes + 1
            try:
                # past the limit nothing is decompressed: 0 would mean no limit
                parts.append(stream.decompress(data, left_bytes) if left_bytes > 0 else b"")
            except zlib.error as error:
                raise ValueError(f"the body is not compressed as its head says: {error}") from error
            self._made_bytes += len(parts[-1])
            if self._made_bytes > self._limit_bytes:
                raise ValueError(
                    f"the body has more than {self._limit_bytes} bytes when decompressed"
                )
            # gzip may have several members in a row
            data = stream.unused_data if self._gzip else b""
            self._stream = None if data else stream
        return b"".join(parts)

    def end(self) -> bool:
        """Whether it is complete, called when the body has ended."""
        return self._stream is None or self._stream.eof

    def _begun(self, data: bytes) -> zlib._Decompress:
        if self._coding not in CODINGS:
            raise unknown(self._coding)
        # "deflate" should have a zlib header, but is often sent without one.
        headed = self._gzip or data[0] & 15 == _ZLIB_METHOD
        self._stream = zlib.decompressobj(_GZIP_OR_ZLIB if headed else _RAW)
        return self._stream


def unknown(coding: str) -> ValueError:
    """The error for an encoding that is not one of `CODINGS`."""
    return ValueError(
        f"the body is encoded as {coding!r}, though only `identity` was accepted; only gzip and "
        "deflate are supported"
    )
