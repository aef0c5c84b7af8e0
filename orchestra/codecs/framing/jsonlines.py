"""Reads JSON lines (`application/x-ndjson`): bytes to frames, one for each line."""

from __future__ import annotations

from collections.abc import Iterator

from orchestra.codecs.framing.frames import FRAME_BYTES_MAX
from orchestra.errors import MalformedStreamError


class JsonLinesFraming:
    """Cuts a stream into lines; empty lines are skipped, and the name of every frame is ""."""

    def __init__(self, limit_bytes: int = FRAME_BYTES_MAX) -> None:
        self._limit_bytes = limit_bytes
        self._rest: list[bytes] = []
        self._size_bytes = 0

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """The lines that these bytes complete.

        Raises:
            MalformedStreamError: a line exceeds the limit.
        """
        *lines, rest = data.split(b"\n")
        for line in lines:
            if line or self._rest:
                self._keep(line)
                yield from self.close()
        self._keep(rest)

    def close(self) -> Iterator[tuple[str, bytes]]:
        """The last line, if it has no line end."""
        line = b"".join(self._rest).strip()
        self._rest.clear()
        self._size_bytes = 0
        if line:
            yield "", line

    def _keep(self, part: bytes) -> None:
        if part:
            self._rest.append(part)
            self._size_bytes += len(part)
        if self._size_bytes > self._limit_bytes:
            raise MalformedStreamError(
                f"a line of the stream is over {self._limit_bytes} bytes: it is not a JSON line, "
                "or has content that was not requested"
            )
