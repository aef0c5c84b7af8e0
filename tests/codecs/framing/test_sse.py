from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.codecs.framing.sse import SseFraming
from orchestra.errors import MalformedStreamError
from tests.codecs.amazon import CUTS, pieces
from tests.recordings import Recording, needed, recordings

Frames = list[tuple[str, bytes]]
BOM = b"\xef\xbb\xbf"
ENDS = st.sampled_from((b"\n", b"\r\n", b"\r"))
LINES = st.one_of(
    st.builds(
        lambda field, value: field + value,
        st.sampled_from(
            (
                b"data:",
                b"data: ",
                b"data",
                b"event: ",
                b"event:",
                b":",
                b"id: ",
                b"retry: ",
                b"dat: ",
            )
        ),
        st.binary(max_size=8).map(lambda value: value.translate(None, b"\r\n")),
    ),
    st.just(b""),
    st.sampled_from((b"data: : ping", b": ping", b"data: [DONE]", b" data: x", b"data:  x", BOM)),
)
STREAMS = st.builds(
    lambda zeros, mark, lines, rest: (
        bytes(zeros) + (BOM if mark else b"") + b"".join(line + end for line, end in lines) + rest
    ),
    st.integers(0, 9),
    st.booleans(),
    st.lists(st.tuples(LINES, ENDS), max_size=14),
    LINES,
)


def simple(stream: bytes) -> Frames:
    """The HTML standard's rules, one after the other, over a stream that is all there."""
    stream = stream.lstrip(b"\0")  # what a proxy was filled up with
    found: Frames = []
    name, data = "", list[bytes]()
    for line in [*re.split(rb"\r\n|\r|\n", stream.removeprefix(BOM)), b""]:
        field, colon, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if not line:
            if b"\n".join(data):
                found.append((name, b"\n".join(data)))
            name, data = "", []
        elif colon and not field:
            continue
        elif field == b"data" and value[:1] != b":":  # a keep-alive that a proxy has broken
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    return found


def cut(parts: list[bytes], framing: SseFraming | None = None) -> Frames:
    framing = framing or SseFraming()
    found = [each for part in parts for each in framing.feed(part)]
    return [*found, *framing.close()]


def outcome(parts: list[bytes], limit_bytes: int) -> tuple[Frames, bool]:
    framing = SseFraming(limit_bytes)
    found: Frames = []
    try:
        for part in parts:
            for each in framing.feed(part):
                found.append(each)
        found += framing.close()
    except MalformedStreamError:
        return found, True
    return found, False


@given(STREAMS, CUTS)
@example(b"data: a\r\n\r\ndata: b\n\n", [8, 9, 10])
@example(b"data: a\r\rdata: b\r\r", [8])
@example(b"data: a\r", [8])
@example(BOM + b"data: a\n\n", [1, 2])
@example(b"\n" + BOM + b"data: a\n\n", [])
def test_events_are_those_of_the_standard_wherever_the_bytes_are_cut(
    stream: bytes, cuts: list[int]
) -> None:
    expected = simple(stream)
    assert cut([stream]) == expected
    assert cut(pieces(stream, cuts)) == expected
    assert cut([bytes([byte]) for byte in stream]) == expected


@given(st.binary(max_size=60), CUTS)
def test_any_bytes_are_read_and_the_same_wherever_they_are_cut(
    stream: bytes, cuts: list[int]
) -> None:
    assert cut(pieces(stream, cuts)) == cut([stream]) == simple(stream)


@given(STREAMS, CUTS, st.integers(0, 40))
@example(b"data: ab\r\n\r\n", [9], 8)
def test_the_limit_does_not_hang_on_where_the_bytes_are_cut(
    stream: bytes, cuts: list[int], limit_bytes: int
) -> None:
    whole = outcome([stream], limit_bytes)
    assert outcome(pieces(stream, cuts), limit_bytes) == whole
    assert outcome([bytes([byte]) for byte in stream], limit_bytes) == whole


READS = st.lists(
    st.sampled_from(
        (
            *(b"data: a\n\n", b"data: abcdefgh\n\n", b"data: : ping\n\n", b"data: :\n\n"),
            *(b"data: \n\n", b"data:a\n\n", b"data: a\r\n\n", b"data: a\n\r", b"data: a\r\n"),
            *(b"data: a\nx", b"data: a\nb", b"data: a\ndata: b\n\n", b"data: a", b"data: a\n"),
            *(b"event: e\n", b"event: e\n\n", b"\n", b"\n\n", b": ping\n\n", b"x", BOM),
        )
    ),
    max_size=6,
)


@given(READS, st.integers(6, 16))
@example([b"data: a\n\n", BOM, b"data: a\n\n"], 16)
def test_reads_that_are_events_of_their_own_or_look_so_are_read_like_any_others(
    reads: list[bytes], limit_bytes: int
) -> None:
    """What comes as it was written, an event in a read, is read in a shorter way."""
    stream = b"".join(reads)
    assert cut(reads) == simple(stream)
    assert outcome(reads, limit_bytes) == outcome([bytes([byte]) for byte in stream], limit_bytes)


@given(STREAMS, st.integers(1, 40))
def test_no_event_is_over_the_limit(stream: bytes, limit_bytes: int) -> None:
    frames, _ = outcome([stream], limit_bytes)
    assert all(len(data) <= limit_bytes for _, data in frames)


def test_a_line_without_an_end_is_refused_when_it_is_too_long() -> None:
    framing = SseFraming(1000)
    for _ in range(100):
        list(framing.feed(b"x" * 10))
    with pytest.raises(MalformedStreamError, match="over 1000 bytes"):
        list(framing.feed(b"x"))


def test_lines_without_anything_in_them_count_as_well() -> None:
    """Each takes memory, though none has a byte of data."""
    framing = SseFraming(1000)
    with pytest.raises(MalformedStreamError):
        list(framing.feed(b"data:\n" * 1001))


def test_events_before_an_error_are_given() -> None:
    assert outcome([b"data: a\n\ndata: " + b"x" * 50 + b"\n\n"], 20) == ([("", b"a")], True)


def test_an_event_is_given_with_its_last_byte() -> None:
    framing = SseFraming()
    assert list(framing.feed(b"data: a\n")) == []
    assert list(framing.feed(b"\n")) == [("", b"a")]
    assert list(framing.feed(b"data: b\r\n\r")) == []
    assert list(framing.feed(b"\n")) == [("", b"b")]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"event: ping\ndata: {}\n\n", [("ping", b"{}")]),
        (b"data: a\ndata: b\n\n", [("", b"a\nb")]),
        (b"data:a\n\n", [("", b"a")]),
        (b": OPENROUTER PROCESSING\n\ndata: a\n\n", [("", b"a")]),
        (b": ping\ndata: a\n\n", [("", b"a")]),
        (b"data: : keep-alive\n\ndata: a\n\n", [("", b"a")]),
        (b"event: message_stop\n\ndata: a\n\n", [("", b"a")]),
        (b"data: a", [("", b"a")]),
        (b"", []),
    ],
)
def test_what_providers_send(stream: bytes, expected: Frames) -> None:
    assert cut([stream]) == expected


@needed
@pytest.mark.parametrize(
    "case",
    recordings(lambda each: each.content_type.startswith("text/event-stream")),
    ids=lambda each: each.cid,
)
def test_recorded_streams_are_read_as_the_standard_says(case: Recording) -> None:
    expected = simple(case.body)
    assert expected
    assert cut([case.body]) == cut(case.pieces(1)) == cut(case.pieces(7)) == expected
