"""A run as Server-Sent Events: content negotiation, and the encoding of a batch. Pure.

A frame has the event's sequence number as `id`, its type as `event`, and the event as one line of
JSON as `data`: JSON escapes all line breaks, so one `data` line always holds the whole event.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from orchestra.event_lines import encode
from orchestra.events import Event
from orchestra.runs.record import EventLine

STREAM = "text/event-stream"
JSON = "application/json"
HEADERS = {
    "Content-Type": f"{STREAM}; charset=utf-8",
    "Cache-Control": "no-store, no-transform",  # a proxy that compresses delays events
    "X-Accel-Buffering": "no",  # for nginx, and proxies that adopted its header
}

# Without a blank line at its end: several clients take that for the end of an empty event.
HEARTBEAT = b": ping\n"

_RUN_ID = r"[0-9a-f]{32}"
_EVENT_ID = r"(?:(?P<run>[0-9a-f]{32})\.)?(?P<seq>[0-9]{1,16})"
_QUALITY = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")


def frames(batch: Iterable[Event], request_id: str = "", prefix: bytes = b"") -> bytes:
    """The events as consecutive frames, so that a batch is sent in one write.

    Each event includes `request_id`; `prefix` precedes the sequence number in each frame's id.
    """
    return b"".join(
        [_frame(each.seq, each.type, encode(each, request_id), prefix) for each in batch]
    )


def line_frames(batch: Iterable[EventLine], prefix: bytes = b"") -> bytes:
    """Like `frames`, for events that are encoded already, as they are stored and published."""
    return b"".join([_frame(each.seq, each.type, each.data, prefix) for each in batch])


def _frame(seq: int, kind: str, data: bytes, prefix: bytes) -> bytes:
    return b"id: %b%d\nevent: %b\ndata: %b\n\n" % (prefix, seq, kind.encode(), data)


def is_run_id(text: str) -> bool:
    """Whether the text has the form of a run's id."""
    return re.fullmatch(_RUN_ID, text, re.ASCII) is not None


def resuming_at(run_id: str) -> bytes:
    """The prefix of frame ids with which a client can resume this run: see `event_id`."""
    return run_id.encode() + b"."


def event_id(given: str) -> tuple[str, int] | None:
    """The event that a `Last-Event-ID` names, as (run, number); the run is "" if it names none.

    None if the header is neither `SEQ` nor `RUN.SEQ`.
    """
    found = re.fullmatch(_EVENT_ID, given.strip(), re.ASCII)
    return (found["run"] or "", int(found["seq"])) if found else None


def choose(accept: str | None, offers: Sequence[str] = (JSON, STREAM)) -> str | None:
    """The media type to answer with; None if the client accepts none of `offers`.

    The highest `q` wins; then the type that is named most exactly, so that
    `text/event-stream, */*` means a stream; then the earlier offer, so that `*/*`, which curl
    sends, and a missing header mean JSON. Media ranges that cannot be parsed are ignored.
    """
    if accept is None or not accept.strip():
        return offers[0]
    ranges = [_range(part) for part in accept.split(",")]
    wishes = {offer: max((_match(r, offer) for r in ranges), default=(0, 0.0)) for offer in offers}
    best = max(offers, key=lambda offer: (wishes[offer][1], wishes[offer][0]))
    return best if wishes[best][1] > 0 else None


def _range(text: str) -> tuple[str, str, float]:
    """One media range of an `Accept` header: type, subtype and quality."""
    name, *parameters = text.split(";")
    kind, _, subtype = name.strip().lower().partition("/")
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "q":
            readable = _QUALITY.fullmatch(value.strip())
            return (kind, subtype, float(readable[0])) if readable else ("", "", 0.0)
    return kind, subtype, 1.0


def _match(wanted: tuple[str, str, float], offer: str) -> tuple[int, float]:
    """How exactly a media range names the offer (0 if not at all), and its quality.

    For each offer, the most exact range decides, even if it has `q=0`.
    """
    kind, subtype, quality = wanted
    offered = offer.split("/")
    if [kind, subtype] == offered:
        return 3, quality
    if [kind, "*"] == [offered[0], subtype]:
        return 2, quality
    return (1, quality) if (kind, subtype) == ("*", "*") else (0, 0.0)
