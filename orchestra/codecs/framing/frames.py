"""Frames, and what every streamed answer has in common whatever it is framed in.

A framing cuts bytes into frames: a name (an SSE event's, an AWS event's; "" where there is
none) and a payload. A `FrameDecoder` makes events of frames, and keeps two promises for every
dialect at once. However the bytes are cut, the events are the same: so `feed` never raises, an
error waits behind the events that came before it, and `close` tells it. And a cut answer never
looks complete: an answer that has not said why it stopped is an error at its end; where it never
began, the error that the provider told in another shape than that of the stream, which may be JSON
where no frame can be.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Protocol, TypeVar

import msgspec

from orchestra.codecs.faults import error_in
from orchestra.codecs.withheld import BEGAN_WITH
from orchestra.errors import MalformedStreamError, ModelError, TruncatedStreamError
from orchestra.values import ModelEvent, Stopped, StopReason

FRAME_BYTES_MAX = 16 * 1024 * 1024
"""One frame of a stream: a Gemini event with an image in it has several megabytes."""
LARGE_BYTES = 1024 * 1024
"""A payload that is longer is looked at before it is unpacked: no token is."""
OBJECT_BYTES = 16
"""That a list or an object of a payload has at least, on average, where it is over 1 MiB: an empty
one takes two bytes here, and three hundred in memory."""
PIECE_BYTES = 64
"""That a piece of something takes beside its text, where pieces are kept until it is whole."""
BEGINNING_BYTES = 4 * 1024
"""Of what comes before the first event are kept: an error that is none of the stream's frames."""
BEFORE_JSON = b"\xef\xbb\xbf \t\r\n"
"""What may stand before JSON: a byte order mark and blanks."""
_SHOWN_BYTES = 200
_KEEP_ALIVES = frozenset({"ping", "heartbeat", "keepalive", "keep-alive", "keep_alive"})
"""Names of events that say only that the connection lives; what is in them need not be JSON."""
_DATA = re.compile(rb"^data:(.*)$", re.MULTILINE)

T = TypeVar("T")


class Framing(Protocol):
    """Cuts a stream of bytes into frames."""

    def feed(self, data: bytes) -> Iterable[tuple[str, bytes]]:
        """The frames that these bytes complete: name and payload.

        Raises:
            MalformedStreamError: there is no frame here; those before it have been given.
        """

    def close(self) -> Iterable[tuple[str, bytes]]:
        """The frame that the end of the stream completes, if there is one."""


class FrameDecoder(ABC):
    """A decoder of one streamed answer; a dialect says what a frame means in `_take`."""

    __slots__ = ("_beginning", "_error", "_events", "_framing", "_stopped", "done")

    def __init__(self, framing: Framing) -> None:
        self.done = False
        self._framing = framing
        self._events: list[ModelEvent] = []
        self._stopped = False
        self._error: ModelError | None = None
        self._beginning: bytes | None = b""

    def feed(self, data: bytes) -> list[ModelEvent]:
        """The events that these bytes complete; none once the answer is done. Never raises."""
        if self.done:
            return []
        try:
            self._take_all(self._framing.feed(data))
        except ModelError as error:
            self._fail(error)
        events, self._events = self._events, []
        if self._beginning is not None:
            self._beginning = None if events else (self._beginning + data)[:BEGINNING_BYTES]
            if self._error is not None:
                self.done = not self._may_be_told_yet()
        return events

    def close(self) -> list[ModelEvent]:
        """What is left at the end of the body.

        Raises:
            TruncatedStreamError: the answer never said why it stopped.
            ModelError: an error in the stream, or in its place, by its class.
        """
        if not self.done:
            try:
                self._take_all(self._framing.close())
            except MalformedStreamError:  # what the cut left of a frame
                self._error = None if self._stopped else self._cut()
            except ModelError as error:
                self._fail(error)
        if self._error is not None:
            raise self._told_in_place() or self._error
        self._end()
        if not self._stopped:
            raise self._cut()
        events, self._events = self._events, []
        return events

    @abstractmethod
    def _take(self, name: str, payload: bytes) -> None:
        """Give the events of a frame by `_emit`; set `done` after the last one that matters.

        Raises:
            ModelError: the frame is an error, or is none of this dialect.
        """

    def _end(self) -> None:  # noqa: B027 - most dialects have none
        """Give the events that only the end of the body tells of."""

    def _cut(self) -> ModelError:
        """What an answer is that never said why it stopped."""
        beginning = b"" if self.done or self._events else self._beginning or b""
        for payload in (beginning, *_DATA.findall(beginning)):
            if (error := self._error_in(payload)) is not None:
                return error
        return _truncated(beginning)

    def _error_in(self, payload: bytes) -> ModelError | None:
        """The error that came in place of an answer, in another shape than that of the stream."""
        return error_in(payload)

    def _emit(self, *events: ModelEvent) -> None:
        self._events += events

    def _stop(self, reason: StopReason, raw: str | None) -> None:
        """Say why the answer stops; the first reason counts."""
        if not self._stopped:
            self._stopped = True
            self._events.append(Stopped(reason, raw))

    def _take_all(self, frames: Iterable[tuple[str, bytes]]) -> None:
        for name, payload in frames:
            try:
                self._take(name, payload)
            except MalformedStreamError:
                # Some servers put a last word of their own behind an answer, or pings between.
                passed_over = self._stopped or name in _KEEP_ALIVES
                if payload.lstrip().startswith(b"{") or not passed_over:
                    raise
            if self.done:
                return

    def _fail(self, error: ModelError) -> None:
        self._error = error
        self._framing = _Unframed()
        self.done = True

    def _told_in_place(self) -> ModelError | None:
        """The error that is told by JSON in place of the frames."""
        malformed = isinstance(self._error, MalformedStreamError)
        return self._error_in(self._beginning or b"") if malformed and not self._events else None

    def _may_be_told_yet(self) -> bool:
        """Whether JSON in place of the frames goes on: an error, of which the rest is to come."""
        if self._beginning is None or len(self._beginning) == BEGINNING_BYTES:
            return False
        began = self._beginning.lstrip(BEFORE_JSON)
        return isinstance(self._error, MalformedStreamError) and began[:1] in (b"", b"{", b"[")


class _Unframed:
    """What comes behind a frame that was none."""

    def feed(self, data: bytes) -> Iterable[tuple[str, bytes]]:
        del data
        return ()

    def close(self) -> Iterable[tuple[str, bytes]]:
        return ()


def decoded(decoder: msgspec.json.Decoder[T], payload: bytes, what: str) -> T:
    """A JSON payload as what it has to be.

    Raises:
        MalformedStreamError: it is something else, or hollow.
    """
    if len(payload) > LARGE_BYTES:
        refuse_hollow(payload, what)
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        shown = payload[:200].decode("utf-8", "replace")
        raise MalformedStreamError(
            f"{what} is not what it has to be: {error}: {shown!r}"
        ) from error


def refuse_hollow(payload: bytes, what: str) -> None:
    """Nothing, unless a payload is made of brackets, more than of what is in them.

    Raises:
        MalformedStreamError: it is.
    """
    begun = payload.count(b"{") + payload.count(b"[")
    if begun * OBJECT_BYTES > len(payload):
        raise MalformedStreamError(
            f"{what} begins {begun} lists and objects in {len(payload)} bytes, with next to "
            f"nothing in them: {payload[:_SHOWN_BYTES]!r}"
        )


def _truncated(beginning: bytes) -> TruncatedStreamError:
    message = "the answer ended without saying why it stopped: it was cut"
    if shown := beginning[:_SHOWN_BYTES].decode("utf-8", "replace").strip():
        message += f"{BEGAN_WITH}{shown!r}"
    return TruncatedStreamError(message)
