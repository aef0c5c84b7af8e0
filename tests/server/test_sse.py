"""Frames that any SSE reader takes apart again, and the choice of the answer's form."""

from __future__ import annotations

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.event_lines import encode
from orchestra.events import Delta, Event, RunCancelled, RunFinished
from orchestra.server import sse
from orchestra.server.sse import HEARTBEAT, JSON, STREAM, choose, frames

text = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
    max_leaves=5,
)
events = st.one_of(
    st.builds(Delta, seq=st.integers(1), at_s=st.floats(0, 1e6), chunk=json_values),
    st.builds(RunCancelled, seq=st.integers(1), at_s=st.floats(0, 1e6), reason=text),
    st.builds(
        RunFinished,
        seq=st.integers(1),
        at_s=st.floats(0, 1e6),
        result=json_values,
        timings_s=st.dictionaries(text, st.floats(0, 1e6)),
    ),
)


@attrs.frozen
class Message:
    """What an EventSource dispatches."""

    id: str
    event: str
    data: str


def dispatched(raw: bytes) -> list[Message]:
    """The messages of a stream, after the letter of the HTML standard's section 9.2.6."""
    messages, fields, last_id = [], {"event": "", "data": ""}, ""
    for line in raw.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if fields["data"]:
                messages.append(Message(last_id, fields["event"], fields["data"][:-1]))
            fields = {"event": "", "data": ""}
        elif name == "id":
            last_id = value
        elif name == "data":
            fields["data"] += value + "\n"
        elif name == "event":
            fields["event"] = value
    return messages


@given(st.lists(st.lists(events), max_size=5), st.booleans())
def test_a_reader_takes_apart_what_was_put_together(
    batches: list[list[Event]], beats: bool
) -> None:
    """However the events are batched, and wherever the heart beats between them."""
    raw = (HEARTBEAT if beats else b"").join(frames(batch) for batch in batches)
    sent = [event for batch in batches for event in batch]
    assert dispatched(raw) == [
        Message(str(event.seq), event.type, encode(event).decode()) for event in sent
    ]


@given(events)
def test_the_data_is_the_event(event: Event) -> None:
    (message,) = dispatched(frames([event]))
    data = msgspec.json.decode(message.data)
    assert (data["type"], data["seq"]) == (event.type, event.seq)


def test_a_heartbeat_is_a_comment_that_ends_no_event() -> None:
    """Several clients take the blank line behind a comment for an empty event, and die of it."""
    assert HEARTBEAT.startswith(b":")
    assert HEARTBEAT.endswith(b"\n")
    assert b"\n\n" not in HEARTBEAT
    assert dispatched(HEARTBEAT * 3) == []


def test_proxies_are_told_to_keep_and_hold_back_nothing() -> None:
    assert sse.HEADERS["Cache-Control"] == "no-store, no-transform"
    assert sse.HEADERS["X-Accel-Buffering"] == "no"


# --- Accept ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),  # curl
        ("application/json", JSON),
        ("application/*", JSON),
        ("text/event-stream", STREAM),  # EventSource
        ("TEXT/Event-Stream; charset=utf-8", STREAM),
        ("text/*", STREAM),
        ("text/event-stream, */*", STREAM),
        ("*/*, text/event-stream", STREAM),
        ("application/json, text/event-stream", JSON),
        ("application/json;q=0.8, text/event-stream", STREAM),
        ("application/json, text/event-stream;q=0.9", JSON),
        ("text/event-stream;q=0.5, */*;q=0.8", JSON),
        ("application/json;q=0, */*", STREAM),
        ("text/*, text/event-stream;q=0.1, application/json;q=0.5", JSON),
        ("text/event-stream;q=0, text/*", None),
        ("text/html, application/xhtml+xml, */*;q=0.8", JSON),  # a browser's address bar
        ("text/html", None),
        ("*/*;q=0", None),
        ("application/json;q=0, text/event-stream;q=0.0", None),
        ("text/event-stream;q=high", None),
        ("application/json;q=1.1", None),
        ("*/json", None),
        ("json", None),
        (",,", None),
    ],
)
def test_the_form_is_the_one_the_client_wants(accept: str | None, form: str | None) -> None:
    assert choose(accept) == form


qualities = st.integers(0, 1000).map(lambda q: q / 1000)


@given(qualities, qualities, st.permutations([0, 1]))
def test_the_higher_quality_wins_in_any_order(
    json_q: float, stream_q: float, order: list[int]
) -> None:
    ranges = [f"{JSON};q={json_q:.3f}", f"{STREAM} ; Q={stream_q:.3f}"]
    chosen = choose(", ".join(ranges[n] for n in order))
    best = max(json_q, stream_q)
    assert chosen == (None if best == 0 else JSON if json_q == best else STREAM)


@given(st.text(st.characters(max_codepoint=255)))
def test_no_header_is_too_strange_to_be_answered(accept: str) -> None:
    assert choose(accept) in (JSON, STREAM, None)
