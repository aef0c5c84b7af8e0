"""Frames, and the common part of all decoders of streamed answers.

A framing cuts bytes into frames: a name (of an SSE event or an AWS event; "" if there is none)
and a payload. A `FrameDecoder` makes events from frames, and keeps two promises for every
dialect. First, the events do not depend on how the bytes are cut: so `feed` never raises, and
`close` raises an error after the events before it. Second, a cut answer never looks complete: an
answer without a stop reason is an error at its end. If no answer began, that error is the one that
the provider sent in another format, which may be JSON outside any frame.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Protocol, TypeVar

import msgspec

from orchestra.codecs.faults import as_error, error_in, read_error
from orchestra.codecs.raw_json import NOT_JSON
from orchestra.codecs.withheld import BEGAN_WITH
from orchestra.errors import MalformedStreamError, ModelError, TruncatedStreamError
from orchestra.values import ModelEvent, Stopped

FRAME_BYTES_MAX = 16 * 1024 * 1024
"""The most bytes of one frame: a Gemini event with an image has several megabytes."""
LARGE_BYTES = 1024 * 1024
"""A longer payload is checked before it is decoded; no token is that long."""
OBJECT_BYTES = 16
"""The least average size of the lists and objects in a payload over 1 MiB: an empty one takes two
bytes in JSON, and three hundred in memory."""
PIECE_BYTES = 64
"""The memory overhead of a piece of text, where pieces are kept until the text is complete."""
BEGINNING_BYTES = 4 * 1024
"""Bytes kept before the first event: they may be an error outside the frames."""
BEFORE_JSON = b"\xef\xbb\xbf \t\r\n"
"""Bytes that may precede JSON: a byte order mark and blanks."""
_SHOWN_BYTES = 200
_KEEP_ALIVES = frozenset({"ping", "heartbeat", "keepalive", "keep-alive", "keep_alive"})
"""Names of events that only keep the connection alive; their data may not be JSON."""
_DATA = re.compile(rb"^data:(.*)$", re.MULTILINE)
_STRINGS = msgspec.json.Decoder(str)

T = TypeVar("T")


class Framing(Protocol):
    """Cuts a stream of bytes into frames."""

    def feed(self, data: bytes) -> Iterable[tuple[str, bytes]]:
        """The frames that these bytes complete: name and payload.

        Raises:
            MalformedStreamError: the bytes are not a frame; earlier frames have been yielded.
        """

    def close(self) -> Iterable[tuple[str, bytes]]:
        """The last frame, if the end of the stream completes one."""


class FrameDecoder(ABC):
    """A decoder of one streamed answer; a dialect interprets frames in `_take`."""

    __slots__ = ("_beginning", "_error", "_events", "_framing", "_last", "_stopped", "done")

    def __init__(self, framing: Framing) -> None:
        self.done = False
        self._framing: Framing | None = framing
        self._events: list[ModelEvent] = []
        self._stopped = False
        self._error: ModelError | None = None
        self._beginning: bytes | None = b""
        self._last = b""  # the payload of the last frame

    def feed(self, data: bytes) -> list[ModelEvent]:
        """The events that these bytes complete; none once the answer is done. Never raises."""
        if self.done:
            return []
        if self._framing is not None:
            try:
                self._take_all(self._framing.feed(data))
            except ModelError as error:
                self._fail(error)
        events, self._events = self._events, []
        if self._beginning is not None:
            self._beginning = None if events else (self._beginning + data)[:BEGINNING_BYTES]
            if self._error is not None:
                self.done = not self._error_may_continue()
        return events

    def close(self) -> list[ModelEvent]:
        """The remaining events, at the end of the body.

        Raises:
            TruncatedStreamError: the answer has no stop reason.
            ModelError: an error that the provider sent in the stream, or in place of it.
        """
        if not self.done and self._framing is not None:
            try:
                self._take_all(self._framing.close())
            except MalformedStreamError:  # a partial frame
                self._error = None if self._stopped else self._cut()
            except ModelError as error:
                self._fail(error)
        if self._error is not None:
            raise self._error_in_place() or self._error
        self._end()
        if not self._stopped:
            raise self._cut()
        events, self._events = self._events, []
        return events

    @abstractmethod
    def _take(self, name: str, payload: bytes) -> None:
        """Pass the events of a frame to `_emit`; set `done` after the last needed one.

        Raises:
            ModelError: the frame is an error, or is not of this dialect.
        """

    def _end(self) -> None:  # noqa: B027 - most dialects have none
        """Pass on events that depend on the end of the body."""

    def _cut(self) -> ModelError:
        """The error for an answer without a stop reason."""
        beginning = b"" if self.done or self._events else self._beginning or b""
        for payload in (beginning, *_DATA.findall(beginning), self._last[:LARGE_BYTES]):
            if (error := self._error_in(payload)) is not None:
                return error
        return _truncated(beginning)

    def _error_in(self, payload: bytes) -> ModelError | None:
        """The error in place of an answer, in another format than the stream; None if none."""
        return error_in(payload)

    def _error_of(self, payload: bytes) -> ModelError:
        """The error in an event named `error`; some gateways write it as plain text."""
        return as_error(read_error(payload))

    def _emit(self, *events: ModelEvent) -> None:
        """Pass events on; of several stop reasons, the first counts."""
        for event in events:
            if isinstance(event, Stopped):
                if self._stopped:
                    continue
                self._stopped = True
            self._events.append(event)

    def _take_all(self, frames: Iterable[tuple[str, bytes]]) -> None:
        for name, payload in frames:
            if name == "error":
                raise self._error_of(payload[:LARGE_BYTES])
            try:
                self._take(name, payload)
            except MalformedStreamError:
                # Some servers send data of their own after an answer, or pings in it.
                may_ignore = self._stopped or name in _KEEP_ALIVES
                if payload.lstrip().startswith(b"{") or not may_ignore:
                    raise
            if self.done:
                return
            self._last = payload

    def _fail(self, error: ModelError) -> None:
        self._error = error
        self._framing = None  # frees the bytes that it keeps; all further bytes are ignored
        self.done = True

    def _error_in_place(self) -> ModelError | None:
        """The error that was sent as JSON in place of frames, or before one that is malformed."""
        if not isinstance(self._error, MalformedStreamError):
            return None
        beginning = b"" if self._events else self._beginning or b""
        return self._error_in(beginning) or self._error_in(self._last[:LARGE_BYTES])

    def _error_may_continue(self) -> bool:
        """Whether JSON in place of frames may be incomplete, so that more of an error may come."""
        if self._beginning is None or len(self._beginning) == BEGINNING_BYTES:
            return False
        began = self._beginning.lstrip(BEFORE_JSON)
        return isinstance(self._error, MalformedStreamError) and began[:1] in (b"", b"{", b"[")


def decoded(decoder: msgspec.json.Decoder[T], payload: bytes, what: str) -> T:
    """A JSON payload, decoded to its expected type.

    Raises:
        MalformedStreamError: the payload is not JSON of this type, or is hollow.
    """
    if len(payload) > LARGE_BYTES:
        refuse_hollow(payload, what)
    try:
        return decoder.decode(payload)
    except NOT_JSON as error:
        shown = payload[:200].decode("utf-8", "replace")
        raise MalformedStreamError(f"{what} is invalid: {error}: {shown!r}") from error


def json_text(found: msgspec.Raw) -> str:
    """The text in a JSON string; for any other value, its JSON text. "" for null or no value.

    Raises:
        MalformedStreamError: the string is invalid JSON.
    """
    text = bytes(found)
    if text.startswith(b'"'):
        return decoded(_STRINGS, text, "the arguments of a tool call")
    return "" if text == b"null" else text.decode("utf-8", "replace")


def refuse_hollow(payload: bytes, what: str) -> None:
    """Refuse a hollow payload: one that is mostly brackets, with little content.

    Raises:
        MalformedStreamError: the payload is hollow.
    """
    begun = payload.count(b"{") + payload.count(b"[")
    if begun * OBJECT_BYTES > len(payload):
        raise MalformedStreamError(
            f"{what} has {begun} lists and objects in {len(payload)} bytes, nearly all of them "
            f"empty: {payload[:_SHOWN_BYTES]!r}"
        )


def _truncated(beginning: bytes) -> TruncatedStreamError:
    message = "the answer ended without a stop reason: it was cut"
    if shown := beginning[:_SHOWN_BYTES].decode("utf-8", "replace").strip():
        message += f"{BEGAN_WITH}{shown!r}"
    return TruncatedStreamError(message)
