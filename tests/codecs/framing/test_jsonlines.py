from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.codecs.framing.jsonlines import JsonLinesFraming
from orchestra.errors import MalformedStreamError
from tests.codecs.amazon import CUTS, pieces
from tests.recordings import Recording, needed, recordings

STREAMS = st.lists(
    st.binary(max_size=8) | st.sampled_from((b"\n", b"\r\n", b"{}", b" ", b"\n\n")), max_size=14
).map(b"".join)


def simple(stream: bytes) -> list[bytes]:
    return [line for line in map(bytes.strip, stream.split(b"\n")) if line]


def cut(parts: list[bytes], framing: JsonLinesFraming | None = None) -> list[bytes]:
    framing = framing or JsonLinesFraming()
    found = [line for part in parts for _, line in framing.feed(part)]
    return [*found, *(line for _, line in framing.close())]


def outcome(parts: list[bytes], limit_bytes: int) -> tuple[list[bytes], bool]:
    framing = JsonLinesFraming(limit_bytes)
    found: list[bytes] = []
    try:
        for part in parts:
            for _, line in framing.feed(part):
                found.append(line)
    except MalformedStreamError:
        return found, True
    return found, False


@given(STREAMS, CUTS)
def test_lines_are_the_same_wherever_the_bytes_are_cut(stream: bytes, cuts: list[int]) -> None:
    assert cut([stream]) == simple(stream)
    assert cut(pieces(stream, cuts)) == simple(stream)
    assert cut([bytes([byte]) for byte in stream]) == simple(stream)


@given(st.lists(st.dictionaries(st.text(max_size=4), st.text(max_size=4)), max_size=5), CUTS)
def test_what_is_written_is_what_is_read(values: list[dict[str, str]], cuts: list[int]) -> None:
    stream = b"".join(json.dumps(each).encode() + b"\n" for each in values)
    assert list(map(json.loads, cut(pieces(stream, cuts)))) == values


@given(STREAMS, CUTS, st.integers(0, 20))
def test_the_limit_does_not_hang_on_where_the_bytes_are_cut(
    stream: bytes, cuts: list[int], limit_bytes: int
) -> None:
    lines, refused = outcome([stream], limit_bytes)
    assert outcome(pieces(stream, cuts), limit_bytes) == (lines, refused)
    assert refused == any(len(line) > limit_bytes for line in stream.split(b"\n"))
    assert all(len(line) <= limit_bytes for line in lines)


def test_a_line_is_given_with_its_end() -> None:
    framing = JsonLinesFraming()
    assert list(framing.feed(b"{}")) == []
    assert list(framing.feed(b"\n{")) == [("", b"{}")]


def test_a_line_that_never_ends_is_refused() -> None:
    framing = JsonLinesFraming(1000)
    for _ in range(100):
        list(framing.feed(b"x" * 10))
    with pytest.raises(MalformedStreamError, match="over 1000 bytes"):
        list(framing.feed(b"x"))


@needed
@pytest.mark.parametrize(
    "case",
    recordings(lambda each: "ndjson" in each.content_type),
    ids=lambda each: each.cid,
)
def test_recorded_streams_are_read_line_by_line(case: Recording) -> None:
    assert cut([case.body]) == cut(case.pieces(1)) == cut(case.pieces(7)) == simple(case.body)
