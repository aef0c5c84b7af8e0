"""Reads Server-Sent Events: bytes to frames, by the HTML standard (9.2.6), leniently.

Providers also send: comments as keep-alives, `data: : ping` for a comment that a proxy has broken,
a last event without a blank line after it, and zero bytes at the beginning, which fill the buffer
of a proxy that holds small answers back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from orchestra.codecs.framing.frames import FRAME_BYTES_MAX
from orchestra.errors import MalformedStreamError

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DATA = b"data: "
_COLON = ord(":")


class SseFraming:
    """Cuts an event stream into events: name ("" if it has none) and data.

    The data of an event and its current line have at most `limit_bytes` together.
    """

    __slots__ = (
        "_began",
        "_between",
        "_data",
        "_data_bytes",
        "_ending",
        "_limit_bytes",
        "_name",
        "_rest",
        "_rest_bytes",
    )

    def __init__(self, limit_bytes: int = FRAME_BYTES_MAX) -> None:
        self._limit_bytes = limit_bytes
        self._rest: list[bytes] = []  # of an incomplete line, in the pieces in which it arrived
        self._rest_bytes = 0
        self._ending = False  # whether the rest ends in a \r, whose \n may be in the next bytes
        self._name = ""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._began = False
        self._between = False  # whether the last event has ended, and nothing has arrived since

    def feed(self, data: bytes) -> Iterable[tuple[str, bytes]]:
        """The events that these bytes complete.

        Raises:
            MalformedStreamError: an event exceeds the limit.
        """
        if self._is_event(data):
            return (("", data[len(_DATA) : -2]),)
        return self._lines(data)

    def close(self) -> Iterable[tuple[str, bytes]]:
        """The last event, if no blank line follows it."""
        return self._lines(b"\n\n")

    def _is_event(self, data: bytes) -> bool:
        """Whether these bytes are one complete event of one line, as most tokens are."""
        end = data.find(b"\n")
        return (
            len(_DATA) < end == len(data) - 2
            and self._between
            and data.startswith(_DATA)
            and data.endswith(b"\n")
            and b"\r" not in data
            and data[len(_DATA)] != _COLON
            and end <= self._limit_bytes
        )

    def _lines(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        self._between = False
        if not self._ending and b"\n" not in data and b"\r" not in data:
            self._keep(data)
            return
        self._rest.append(data)
        *lines, rest = self._cut(b"".join(self._rest))
        self._rest.clear()
        self._rest_bytes = 0
        for line in lines:
            self._check(len(line))
            if not self._began:
                self._began = True
                line = line.lstrip(b"\0").removeprefix(_BYTE_ORDER_MARK)  # noqa: PLW2901 - the same line
            if line:
                self._field(line)
            elif (event := self._dispatched())[1]:
                yield event
        self._keep(rest)
        self._between = self._began and not (rest or self._data or self._name)

    def _cut(self, data: bytes) -> list[bytes]:
        """The complete lines, and the rest."""
        if b"\r" not in data:
            self._ending = False
            return data.split(b"\n")
        self._ending = data.endswith(b"\r")
        lines = _LINE_END.split(data)
        if self._ending:
            lines[-2:] = [lines[-2] + b"\r"]
        return lines

    def _keep(self, rest: bytes) -> None:
        if rest:
            self._rest.append(rest)
            self._rest_bytes += len(rest)
            self._check(self._rest_bytes - self._ending)

    def _check(self, line_bytes: int) -> None:
        if self._data_bytes + line_bytes > self._limit_bytes:
            raise MalformedStreamError(
                f"an event of the stream is over {self._limit_bytes} bytes: it is not an event, or "
                "has content that was not requested"
            )

    def _field(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data" and not value.startswith(b":"):
            self._data.append(value)
            self._data_bytes += len(value) + 1
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")

    def _dispatched(self) -> tuple[str, bytes]:
        data, name = b"\n".join(self._data), self._name
        self._data.clear()
        self._name, self._data_bytes = "", 0
        return name, data
