"""What is stored of an ended run, within a limit of bytes.

It is the first of these that fits: all events that the journal still has; the whole output and the
last event; the last event alone; no event.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from orchestra.events import Event
from orchestra.records import readable
from orchestra.runs.record import UNWRITABLE, EventLine, Fit, Record, ended, event_line_of, lost

if TYPE_CHECKING:
    from orchestra.engine.journal import Journal

EVENT_BYTES = 16
"""The overhead of an event in addition to its line: its number, its type, its end."""


class Final(msgspec.Struct, frozen=True):
    """What is stored of an ended run: its record, also in encoded form, and its events."""

    record: Record
    record_data: bytes
    events: tuple[EventLine, ...]
    size_bytes: int


def final(record: Record, journal: Journal, fit: Fit, limit_bytes: int, ended_s: float) -> Final:
    """What to store of a run whose `journal` has ended; its events take at most `limit_bytes`.

    Raises:
        Exception: something in it cannot be encoded, such as an integer over 64 bits
            (OverflowError), or a step's value whose own code raises.
    """
    last = fit(journal.last)
    fitting = partial(lines_within, request_id=record.request_id, limit_bytes=limit_bytes)
    events = fitting(chain(map(fit, journal.newer(0)[:-1]), [last]))
    if events is None and journal.output.size_bytes < limit_bytes:
        events = fitting([fit(journal.whole()), last])
    if events is None:
        events = fitting([last]) or ()
    size_bytes = sum([len(event.data) + EVENT_BYTES for event in events])
    over = ended(record, last, ended_s)
    return Final(over, msgspec.msgpack.encode(over), events, size_bytes)


def unwritable(record: Record, ended_s: float) -> Final:
    """What to store of an ended run whose events cannot be encoded: a record that it is lost."""
    over = lost(record, ended_s, UNWRITABLE)
    return Final(over, msgspec.msgpack.encode(over), (), 0)


def lines_within(
    events: Iterable[Event], request_id: str, limit_bytes: int
) -> tuple[EventLine, ...] | None:
    """The lines of these events; None if they are larger than the limit. Stops encoding there."""
    lines: list[EventLine] = []
    size_bytes = 0
    for event in events:
        one = event_line_of(event, request_id)
        size_bytes += len(one.data) + EVENT_BYTES
        if size_bytes > limit_bytes:
            return None
        lines.append(one)
    return tuple(lines)


def packed(events: tuple[EventLine, ...]) -> bytes:
    """The events as they are stored."""
    return msgspec.msgpack.encode(events)


def unpacked(data: bytes | None) -> tuple[EventLine, ...]:
    """The stored events; empty if there are none, or they cannot be read."""
    return readable(_EVENTS.decode, data, "the events of a run") or ()


_EVENTS = msgspec.msgpack.Decoder(tuple[EventLine, ...])
