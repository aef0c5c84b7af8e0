"""Decompresses bodies that a server has compressed, although it was asked not to. Sans-I/O.

A few bytes can expand to gigabytes, so the output is limited, and memory never holds more than the
limit.
"""

from __future__ import annotations

import zlib

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS
_ZLIB_METHOD = 8  # the low half of the first byte of a zlib header


CODINGS = ("gzip", "x-gzip", "deflate")
"""The values of `Content-Encoding` that are supported."""


class Inflater:
    """Decompresses a body, which may be fed in pieces of any size, up to `limit_bytes`."""

    def __init__(self, coding: str, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._coding = coding
        self._gzip = coding != "deflate"
        self._made_bytes = 0
        self._stream: zlib._Decompress | None = None

    def feed(self, data: bytes) -> bytes:
        """Decompress these bytes.

        Raises:
            ValueError: the encoding is not supported, the bytes are invalid, or the decompressed
                body exceeds the limit.
        """
        parts: list[bytes] = []
        while data:
            stream = self._stream or self._begun(data)
            left_bytes = self._limit_bytes - self._made_bytes + 1
            try:
                # at the limit, zlib is not called: to zlib, 0 means unlimited
                parts.append(stream.decompress(data, left_bytes) if left_bytes > 0 else b"")
            except zlib.error as error:
                raise ValueError(
                    f"the body is not valid {self._coding}, which its head announces: {error}"
                ) from error
            self._made_bytes += len(parts[-1])
            if self._made_bytes > self._limit_bytes:
                raise ValueError(f"the decompressed body is longer than {self._limit_bytes} bytes")
            # a gzip body may consist of several members in a row
            data = stream.unused_data if self._gzip else b""
            self._stream = None if data else stream
        return b"".join(parts)

    def end(self) -> bool:
        """Note that the body has ended; returns whether the compressed data is complete."""
        return self._stream is None or self._stream.eof

    def _begun(self, data: bytes) -> zlib._Decompress:
        if self._coding not in CODINGS:
            raise unknown(self._coding)
        # "deflate" should have a zlib header, but is often sent without one.
        headed = self._gzip or data[0] & 15 == _ZLIB_METHOD
        self._stream = zlib.decompressobj(_GZIP_OR_ZLIB if headed else _RAW)
        return self._stream


def unknown(coding: str) -> ValueError:
    """The error for a content encoding that is not one of `CODINGS`."""
    return ValueError(
        f"the body is encoded as {coding!r}, although the request accepts only `identity`; only "
        "gzip and deflate are supported"
    )
