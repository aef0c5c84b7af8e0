"""A run as Server-Sent Events: the bytes of its events, and the media type that a client accepts.

Pure. A frame's `id` is the event's sequence number, its `event` the event's type, and its `data`
the event as JSON. JSON escapes all line breaks, so one `data` line is always enough.
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
    "Cache-Control": "no-store, no-transform",  # a proxy that compresses holds back events
    "X-Accel-Buffering": "no",  # for nginx, and proxies that copied this header from it
}

# No blank line after it: several clients take one for the end of an empty event.
HEARTBEAT = b": ping\n"

_RUN_ID = r"[0-9a-f]{32}"
_EVENT_ID = r"(?:(?P<run>[0-9a-f]{32})\.)?(?P<seq>[0-9]{1,16})"
_QUALITY = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")


def frames(batch: Iterable[Event], request_id: str = "", prefix: bytes = b"") -> bytes:
    """The frames of a batch of events, joined: events that are ready together are sent together.

    `request_id` is in each event, and `prefix` comes before each sequence number in a frame's `id`.
    """
    return b"".join(
        [_frame(each.seq, each.type, encode(each, request_id), prefix) for each in batch]
    )


def line_frames(batch: Iterable[EventLine], prefix: bytes) -> bytes:
    """As `frames`, for events that are encoded already, as they are stored and published."""
    return b"".join([_frame(each.seq, each.type, each.data, prefix) for each in batch])


def _frame(seq: int, kind: str, data: bytes, prefix: bytes) -> bytes:
    return b"id: %b%d\nevent: %b\ndata: %b\n\n" % (prefix, seq, kind.encode(), data)


def is_run_id(text: str) -> bool:
    """Whether a text has the form of a run's id."""
    return re.fullmatch(_RUN_ID, text, re.ASCII) is not None


def resuming_at(run_id: str) -> bytes:
    """The prefix of frames' ids for clients that resume: their `Last-Event-ID` then has the run."""
    return run_id.encode() + b"."


def event_id(given: str) -> tuple[str, int] | None:
    """The run ("" if it is not named) and the sequence number in a `Last-Event-ID` header.

    None if it is neither `SEQ` nor `RUN.SEQ`.
    """
    found = re.fullmatch(_EVENT_ID, given.strip(), re.ASCII)
    return (found["run"] or "", int(found["seq"])) if found else None


def choose(accept: str | None, offers: Sequence[str] = (JSON, STREAM)) -> str | None:
    """The media type for the response, or None if the client accepts none of `offers`.

    The highest `q` wins; then the most exact range, so that `text/event-stream, */*` gives a
    stream; then the earlier offer, so that `*/*` (which curl sends) and no header at all give JSON.
    Ranges that cannot be parsed are ignored.
    """
    if accept is None or not accept.strip():
        return offers[0]
    ranges = [_range(part) for part in accept.split(",")]
    wishes = {offer: max((_match(r, offer) for r in ranges), default=(0, 0.0)) for offer in offers}
    best = max(offers, key=lambda offer: (wishes[offer][1], wishes[offer][0]))
    return best if wishes[best][1] > 0 else None


def _range(text: str) -> tuple[str, str, float]:
    """One range of an `Accept` header: type, subtype and quality."""
    name, *parameters = text.split(";")
    kind, _, subtype = name.strip().lower().partition("/")
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "q":
            readable = _QUALITY.fullmatch(value.strip())
            return (kind, subtype, float(readable[0])) if readable else ("", "", 0.0)
    return kind, subtype, 1.0


def _match(wanted: tuple[str, str, float], offer: str) -> tuple[int, float]:
    """How exactly a range matches the offer (0: not at all), and its quality.

    The most exact range decides about an offer, also if its quality is `q=0`.
    """
    kind, subtype, quality = wanted
    mine = offer.split("/")
    if [kind, subtype] == mine:
        return 3, quality
    if [kind, "*"] == [mine[0], subtype]:
        return 2, quality
    return (1, quality) if (kind, subtype) == ("*", "*") else (0, 0.0)
