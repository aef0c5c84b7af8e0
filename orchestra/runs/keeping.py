"""The stored part of a run that has ended, within its limit.

The first of these that fits: all events that the journal still has; the whole output and the last
event; the last event alone; nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from orchestra.events import Event
from orchestra.records import readable
from orchestra.runs.record import UNWRITABLE, EventLine, Record, ended, event_line_of, lost

if TYPE_CHECKING:
    from orchestra.engine.journal import Journal

Fit = Callable[[Event], Event]
"""A function that removes internal details from an event."""

EVENT_BYTES = 16
"""The bytes of an event in addition to its line: its number, its type, its end."""


class Final(msgspec.Struct, frozen=True):
    """The stored part of a run that has ended: its record, also encoded, and its events."""

    record: Record
    record_data: bytes
    events: tuple[EventLine, ...]
    size_bytes: int


def final(record: Record, journal: Journal, fit: Fit, limit_bytes: int, ended_s: float) -> Final:
    """The stored part of a run whose `journal` has ended; its events take at most `limit_bytes`.

    Raises:
        OverflowError: something in it cannot be written down.
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
    """The stored part of a run that has ended, and of which nothing can be written: it is lost."""
    over = lost(record, ended_s, UNWRITABLE)
    return Final(over, msgspec.msgpack.encode(over), (), 0)


def lines_within(
    events: Iterable[Event], request_id: str, limit_bytes: int
) -> tuple[EventLine, ...] | None:
    """These events as they are told; None where they take more. No more is encoded than fits."""
    all_told: list[EventLine] = []
    size_bytes = 0
    for event in events:
        one = event_line_of(event, request_id)
        size_bytes += len(one.data) + EVENT_BYTES
        if size_bytes > limit_bytes:
            return None
        all_told.append(one)
    return tuple(all_told)


def packed(events: tuple[EventLine, ...]) -> bytes:
    """The events as they are stored."""
    return msgspec.msgpack.encode(events)


def unpacked(data: bytes | None) -> tuple[EventLine, ...]:
    """The events that were stored; none where nothing is that can be read."""
    return readable(_EVENTS.decode, data, "what a run told") or ()


_EVENTS = msgspec.msgpack.Decoder(tuple[EventLine, ...])
