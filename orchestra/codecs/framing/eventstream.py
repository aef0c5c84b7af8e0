"""Reads the AWS event stream (`application/vnd.amazon.eventstream`): bytes to frames.

A frame is two lengths and their CRC (the prelude), headers, a payload, and the CRC of it all;
numbers are big-endian. Both CRCs are checked. The name of a frame is its event's type; the name of
an exception begins with `exception:`, and that of an error with `error:`, so that no event can be
taken for one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from zlib import crc32

from orchestra.codecs.framing.frames import FRAME_BYTES_MAX
from orchestra.errors import MalformedStreamError

EXCEPTION = "exception:"
"""The prefix of the names of frames with an exception of the service's API."""
ERROR = "error:"
"""The prefix of the names of frames with an error outside the service's API."""
HEADERS_BYTES_MAX = 128 * 1024
"""The most bytes of one frame's headers; the limit of Amazon's own clients."""

_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_PRELUDE_BYTES = _PRELUDE.size
_AROUND_BYTES = _PRELUDE_BYTES + _CRC.size
_VALUE_BYTES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a value by type: true, false, byte, short, int, long, timestamp, UUID."""
_LENGTH_BYTES = 2
_BYTES, _STRING = 6, 7


class EventStreamFraming:
    """Cuts an event stream into frames: name and payload.

    The payload of an `error:` frame without one is its `:error-message`. Keeps at most one
    incomplete frame, of at most `limit_bytes`.
    """

    def __init__(self, limit_bytes: int = FRAME_BYTES_MAX) -> None:
        self._limit_bytes = limit_bytes
        self._rest = bytearray()
        self._total_bytes = 0  # of the first frame, 0 before its prelude has arrived
        self._headers_bytes = 0
        # Nearly all frames of an answer have the same headers, so the last ones are kept.
        self._seen = b""
        self._name = ""
        self._message = b""

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """The frames that these bytes complete.

        Raises:
            MalformedStreamError: a CRC or a length is wrong, or a frame exceeds the limit.
        """
        self._rest += data
        while True:
            if not self._total_bytes:
                if len(self._rest) < _PRELUDE_BYTES:
                    return
                self._begin()
            if len(self._rest) < self._total_bytes:
                return
            yield self._frame()

    def close(self) -> Iterator[tuple[str, bytes]]:
        """No frames: every frame has its length."""
        return iter(())

    def _begin(self) -> None:
        total, headers, crc = _PRELUDE.unpack_from(self._rest)
        if crc32(self._rest[: _PRELUDE_BYTES - _CRC.size]) != crc:
            raise MalformedStreamError(
                f"the CRC of a frame's prelude is wrong: {self._rest[:_PRELUDE_BYTES].hex()}; this "
                "is not an AWS event stream, or it was damaged on the way"
            )
        if total > self._limit_bytes or headers > min(total - _AROUND_BYTES, HEADERS_BYTES_MAX):
            raise MalformedStreamError(
                f"a frame has {total} bytes, of which {headers} are headers; the limits are "
                f"{self._limit_bytes} and {HEADERS_BYTES_MAX}"
            )
        self._total_bytes, self._headers_bytes = total, headers

    def _frame(self) -> tuple[str, bytes]:
        total, self._total_bytes = self._total_bytes, 0
        frame = bytes(memoryview(self._rest)[:total])
        del self._rest[:total]  # moves an offset, not the bytes
        end = total - _CRC.size
        if crc32(memoryview(frame)[:end]) != _CRC.unpack_from(frame, end)[0]:
            raise MalformedStreamError(
                f"the CRC of a frame of {total} bytes is wrong: it was damaged"
            )
        headers_end = _PRELUDE_BYTES + self._headers_bytes
        headers = frame[_PRELUDE_BYTES:headers_end]
        if headers != self._seen:
            self._name, self._message = _name_and_payload(_headers(headers))
            self._seen = headers
        return self._name, frame[headers_end:end] or self._message


def _name_and_payload(headers: dict[str, str]) -> tuple[str, bytes]:
    match headers.get(":message-type"):
        case "exception":
            return EXCEPTION + headers.get(":exception-type", ""), b""
        case "error":
            message = headers.get(":error-message", "")
            return ERROR + headers.get(":error-code", ""), message.encode()
    return headers.get(":event-type", ""), b""


def _headers(data: bytes) -> dict[str, str]:
    """The headers with string values; others are ignored."""
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(data):
            name_end = at + 1 + data[at]
            kind, value_at = data[name_end], name_end + 1
            if kind in (_BYTES, _STRING):
                value_at += _LENGTH_BYTES
                value_end = value_at + int.from_bytes(data[name_end + 1 : value_at], "big")
            else:
                value_end = value_at + _VALUE_BYTES[kind]
            if kind == _STRING:
                name = data[at + 1 : name_end].decode("utf-8", "replace")
                found[name] = data[value_at:value_end].decode("utf-8", "replace")
            at = value_end
    except (IndexError, KeyError) as error:
        raise _bad_headers(data) from error
    if at > len(data):
        raise _bad_headers(data)
    return found


def _bad_headers(data: bytes) -> MalformedStreamError:
    return MalformedStreamError(f"the headers of a frame are invalid: {data[:100]!r}")
