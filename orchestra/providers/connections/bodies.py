"""Decodes the body of an HTTP/1.1 response from its framing. Sans-I/O.

h11 is not used because of its cost for each streamed token: it needs about 20 us for a chunk, and
this module a tenth of that if one read contains many chunks. A body may be fed in pieces of any
size. After its last byte, `done` is True, and `rest` has the bytes after the body.
"""

from __future__ import annotations

import re
from typing import Protocol

LINE_BYTES_MAX = 8 * 1024
"""The longest allowed line with a chunk's size and its extensions."""
TRAILER_BYTES_MAX = 64 * 1024
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,20})(?:;[^\n]*|[ \t]*)\r\n")
_BLANK_LINE = re.compile(rb"\n\r?\n")
_CRLF = b"\r\n"


class Body(Protocol):
    """Decodes a body that has one of HTTP's three framings."""

    done: bool
    rest: bytes

    def feed(self, data: bytes) -> bytes:
        """The part of the body in these bytes.

        Raises:
            ValueError: the bytes violate the framing.
        """

    def end(self) -> bool:
        """Note that the connection has ended; returns whether the body is complete."""


class SizedBody:
    """A body whose length is given in the head (`Content-Length`)."""

    __slots__ = ("_left", "done", "rest")

    def __init__(self, size_bytes: int) -> None:
        self.done = size_bytes == 0
        self.rest = b""
        self._left = size_bytes

    def feed(self, data: bytes) -> bytes:
        """The part of the body in these bytes."""
        left = self._left = self._left - len(data)
        if left > 0:
            return data
        self.done = True
        if left == 0:
            return data
        self._left = 0
        self.rest += data[left:]
        return data[:left]

    def end(self) -> bool:
        """Note that the connection has ended; returns whether all of the body has arrived."""
        return self.done


class EndlessBody:
    """A body without a length, which ends with the connection; a cut body looks complete."""

    __slots__ = ("done", "rest")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Return all of these bytes: they are all part of the body."""
        return data

    def end(self) -> bool:
        """Note that the connection has ended; returns True, since that is the end of the body."""
        self.done = True
        return True


class ChunkedBody:
    """A chunked body (`Transfer-Encoding: chunked`). Trailers are ignored.

    As lenient as h11: extensions and blanks after a chunk's size are skipped.
    """

    __slots__ = ("_between", "_kept", "_left", "_owing", "_trailing", "done", "rest")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self._left = 0  # bytes of the current chunk that have not arrived yet
        self._owing = False  # whether the line end after the chunk has not arrived yet
        self._trailing = False  # whether the last chunk, which is empty, has arrived
        self._kept = b""  # the beginning of an incomplete line
        self._between = True  # whether a chunk has ended, and nothing of the next has arrived

    def feed(self, data: bytes) -> bytes:
        """The part of the body in these bytes.

        Raises:
            ValueError: the bytes are not chunks.
        """
        if (whole := self._whole(data)) is not None:
            return whole
        data, self._kept = self._kept + data, b""
        if self.done or self._trailing:
            self._trailer(data)
            return b""
        parts: list[bytes] = []
        self._chunks(data, parts)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def end(self) -> bool:
        """Note that the connection has ended; returns whether the last chunk has arrived."""
        return self.done

    def _whole(self, data: bytes) -> bytes | None:
        """The content if these bytes are exactly one chunk, as for most tokens; else None."""
        if not self._between or (size := _SIZE.match(data)) is None:
            return None
        at = size.end()
        end = at + int(size[1], 16)
        if end == at or end + len(_CRLF) != len(data) or not data.endswith(_CRLF):
            return None
        return data[at:end]

    def _chunks(self, data: bytes, parts: list[bytes]) -> None:
        at, left, owing = 0, self._left, self._owing
        while True:
            if left:
                part = data[at : at + left]
                parts.append(part)
                at += len(part)
                left -= len(part)
                if left:
                    break
                owing = True
            if owing:
                footer = data[at : at + 2]
                if footer != _CRLF:
                    self._kept = _begun(footer)
                    break
                at += 2
                owing = False
            if at == len(data):
                break
            size = _SIZE.match(data, at)
            if size is None:
                self._kept = _unfinished(data[at:])
                break
            at = size.end()
            left = int(size[1], 16)
            if not left:
                self._trailing = True
                self._trailer(data[at:])
                break
        self._left, self._owing = left, owing
        self._between = not (left or owing or self._trailing or self._kept)

    def _trailer(self, data: bytes) -> None:
        if self.done:
            self.rest += data
        elif data.startswith((_CRLF, b"\n")):
            self._finish(data[data.index(b"\n") + 1 :])
        elif blank := _BLANK_LINE.search(data):
            self._finish(data[blank.end() :])
        elif len(data) > TRAILER_BYTES_MAX:
            raise ValueError(f"the trailers of the body are longer than {TRAILER_BYTES_MAX} bytes")
        else:
            self._kept = data

    def _finish(self, rest: bytes) -> None:
        self.done = True
        self.rest = rest


def _begun(footer: bytes) -> bytes:
    """The part of the line end after a chunk that has arrived. Raises ValueError if it is none."""
    if footer not in (b"", b"\r"):
        raise ValueError(f"a chunk of the body is longer than its size: {footer!r} follows it")
    return footer


def _unfinished(line: bytes) -> bytes:
    """The incomplete line with a chunk's size. Raises ValueError if it cannot become one."""
    if b"\n" in line or len(line) > LINE_BYTES_MAX:
        raise ValueError(f"expected the size of a chunk, found {line[:40]!r}")
    return line
