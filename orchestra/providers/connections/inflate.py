"""Bodies that a server has compressed, though it was asked not to. Sans-I/O.

A few bytes can hold gigabytes, so what comes out has a limit, and never more than that is made.
"""

from __future__ import annotations

import zlib

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS
_ZLIB_METHOD = 8  # the low half of the first byte of what has a zlib header


class Inflater:
    """Undoes gzip or deflate, as bytes arrive, cut anywhere."""

    def __init__(self, coding: str, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._gzip = coding != "deflate"
        self._made_bytes = 0
        self._stream: zlib._Decompress | None = None

    def feed(self, data: bytes) -> bytes:
        """What these bytes hold.

        Raises:
            ValueError: they are not compressed as they should be, or hold more than the limit.
        """
        parts: list[bytes] = []
        while data:
            stream = self._stream or self._begun(data)
            left_bytes = self._limit_bytes - self._made_bytes + 1
            try:
                # of a stream whose limit has been passed already: nothing, and not 0, which is all
                parts.append(stream.decompress(data, left_bytes) if left_bytes > 0 else b"")
            except zlib.error as error:
                raise ValueError(f"the body is not compressed as its head says: {error}") from error
            self._made_bytes += len(parts[-1])
            if self._made_bytes > self._limit_bytes:
                raise ValueError(
                    f"the body holds more than {self._limit_bytes} bytes when inflated"
                )
            # gzip may have several members, one behind the other
            data = stream.unused_data if self._gzip else b""
            self._stream = None if data else stream
        return b"".join(parts)

    def end(self) -> bool:
        """Whether it is whole, now that the body has ended."""
        return self._stream is None or self._stream.eof

    def _begun(self, data: bytes) -> zlib._Decompress:
        # "deflate" is meant to have a zlib header, and is often sent without one.
        headed = self._gzip or data[0] & 15 == _ZLIB_METHOD
        self._stream = zlib.decompressobj(_GZIP_OR_ZLIB if headed else _RAW)
        return self._stream


class UnknownCoding:
    """Stands for what undoes an encoding that nobody here can undo."""

    def __init__(self, why: ValueError) -> None:
        self._why = why

    def feed(self, data: bytes) -> bytes:
        """Nothing. Raises ValueError."""
        del data
        raise self._why

    def end(self) -> bool:
        """Whether it is whole: nothing of it came."""
        return True


def inflater(coding: str, limit_bytes: int) -> Inflater | None:
    """What undoes a content-encoding; None where there is nothing to undo.

    Raises:
        ValueError: nobody here can undo it.
    """
    plain = coding.strip().lower()
    if plain in ("", "identity"):
        return None
    if plain in ("gzip", "x-gzip", "deflate"):
        return Inflater(plain, limit_bytes)
    raise ValueError(
        f"the body is encoded as {coding!r}, though only `identity` was asked for; "
        "only gzip and deflate can be undone"
    )
