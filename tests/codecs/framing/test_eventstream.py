from __future__ import annotations

import struct
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from orchestra.codecs.framing.eventstream import EventStreamFraming
from orchestra.errors import MalformedStreamError
from tests.codecs.amazon import CUTS, event, frame, header, pieces, string
from tests.recordings import Recording, needed, recordings

VALUES = st.one_of(
    st.booleans().map(lambda value: bytes([1 - value])),
    st.integers(-128, 127).map(lambda value: struct.pack(">Bb", 2, value)),
    st.integers(-(2**15), 2**15 - 1).map(lambda value: struct.pack(">Bh", 3, value)),
    st.integers(-(2**31), 2**31 - 1).map(lambda value: struct.pack(">Bi", 4, value)),
    st.integers(-(2**63), 2**63 - 1).map(lambda value: struct.pack(">Bq", 5, value)),
    st.binary(max_size=300).map(lambda value: struct.pack(">BH", 6, len(value)) + value),
    st.text(max_size=40).map(string),
    st.integers(0, 2**63 - 1).map(lambda value: struct.pack(">Bq", 8, value)),
    st.uuids().map(lambda value: b"\x09" + value.bytes),
)
NAMES = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"),
    min_size=1,
    max_size=20,
)
WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30)
PAYLOADS = st.binary(max_size=200)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from(("event", "exception", "error")))
    word = {"event": ":event-type", "exception": ":exception-type", "error": ":error-code"}[kind]
    told = [
        header(":message-type", string(kind)),
        header(word, string(draw(WORDS))),
        *(
            header(name, value)
            for name, value in draw(st.dictionaries(NAMES, VALUES, max_size=4)).items()
        ),
    ]
    return frame(b"".join(draw(st.permutations(told))), draw(PAYLOADS))


def cut(parts: list[bytes], framing: EventStreamFraming | None = None) -> list[object]:
    """The frames, and the message of the error at the end if there is one."""
    framing = framing or EventStreamFraming()
    found: list[object] = []
    try:
        for part in parts:
            for each in framing.feed(part):
                found.append(each)  # noqa: PERF402 - those before an error count
    except MalformedStreamError as error:
        found.append(str(error))
    return found


def by_botocore(data: bytes) -> list[object]:
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    found: list[object] = []
    for message in buffer:
        told = message.headers
        match told[":message-type"]:
            case "event":
                found.append((told[":event-type"], message.payload))
            case "exception":
                found.append((f"exception:{told[':exception-type']}", message.payload))
            case "error":
                found.append((f"error:{told[':error-code']}", message.payload))
    return found


@given(st.lists(frames(), max_size=6), CUTS)
def test_frames_are_those_that_botocore_reads_wherever_the_bytes_are_cut(
    whole: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(whole)
    assert cut(pieces(data, cuts)) == by_botocore(data)
    assert cut([bytes([byte]) for byte in data]) == by_botocore(data)


@given(st.one_of(PAYLOADS, st.lists(frames(), max_size=3).map(b"".join)), st.data())
def test_damaged_bytes_give_the_same_frames_and_error_wherever_they_are_cut(
    data: bytes, draw: st.DataObject
) -> None:
    damaged = bytearray(data)
    for at in draw.draw(st.lists(st.integers(0, max(len(data) - 1, 0)), max_size=3)):
        if data:
            damaged[at] = draw.draw(st.integers(0, 255))
    whole = cut([bytes(damaged)])
    assert cut(pieces(bytes(damaged), draw.draw(CUTS))) == whole
    assert cut([bytes([byte]) for byte in damaged]) == whole


@given(frames(), st.data())
def test_a_frame_with_a_wrong_bit_is_never_given(whole: bytes, data: st.DataObject) -> None:
    """Both CRCs are checked: no bit may be turned, in the prelude or behind it."""
    at = data.draw(st.integers(0, len(whole) * 8 - 1))
    damaged = bytearray(whole)
    damaged[at // 8] ^= 1 << at % 8
    found = cut([bytes(damaged)])
    assert found == [] or isinstance(found[0], str)


@given(frames(), st.data())
def test_what_is_left_of_a_frame_is_none(whole: bytes, data: st.DataObject) -> None:
    framing = EventStreamFraming()
    assert cut([whole[: data.draw(st.integers(0, len(whole) - 1))]], framing) == []
    assert list(framing.close()) == []


def test_an_error_without_a_payload_says_its_message() -> None:
    told = (
        header(":message-type", string("error"))
        + header(":error-code", string("internalError"))
        + header(":error-message", string("it broke"))
    )
    assert cut([frame(told, b"")]) == [("error:internalError", b"it broke")]


def test_an_exception_is_no_event_of_the_same_name() -> None:
    told = header(":message-type", string("exception"))
    told += header(":exception-type", string("throttlingException"))
    assert cut([frame(told, b"{}"), event("throttlingException")]) == [
        ("exception:throttlingException", b"{}"),
        ("throttlingException", b"{}"),
    ]


def test_a_frame_over_the_limit_is_refused_before_it_is_kept() -> None:
    whole = event("chunk", b"x" * 100)
    assert len(cut([whole], EventStreamFraming(len(whole)))) == 1
    (refused,) = cut([whole[:12]], EventStreamFraming(len(whole) - 1))
    assert "of which" in str(refused)


def test_a_damaged_length_is_known_before_it_is_waited_for() -> None:
    """A frame of four billion bytes would never be all there."""
    damaged = b"\x00\x10" + event("chunk")[2:12]
    (refused,) = cut([damaged])
    assert "the CRC of a frame's prelude" in str(refused)


@pytest.mark.parametrize(("total", "headers"), [(0, 0), (15, 0), (16, 1), (40, 25), (2**20, 2**19)])
def test_lengths_that_do_not_fit_into_each_other_are_refused(total: int, headers: int) -> None:
    prelude = struct.pack(">II", total, headers)
    (refused,) = cut([prelude + struct.pack(">I", crc32(prelude))])
    assert "of which" in str(refused)


@pytest.mark.parametrize(
    "headers",
    [
        b"\x05name",
        b"\x04name",
        header("name", b"\x0a"),
        header("name", b"\x07\x00\x05four"),
        header("name", b"\x07\x00"),
        header("name", b"\x04\x00\x00"),
        b"\xff",
    ],
)
def test_headers_that_end_too_late_are_refused(headers: bytes) -> None:
    (refused,) = cut([frame(headers, b"")])
    assert "headers of a frame" in str(refused)


def test_a_frame_without_headers_has_no_name() -> None:
    assert cut([frame(b"", b"text")]) == [("", b"text")]


@needed
@pytest.mark.parametrize(
    "case", recordings(lambda each: "eventstream" in each.content_type), ids=lambda each: each.cid
)
def test_recorded_streams_are_read_as_botocore_reads_them(case: Recording) -> None:
    expected = by_botocore(case.body)
    assert expected
    assert cut([case.body]) == cut(case.pieces(1)) == cut(case.pieces(7)) == expected
