from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.providers.connections.bodies import (
    LINE_BYTES_MAX,
    TRAILER_BYTES_MAX,
    Body,
    ChunkedBody,
    EndlessBody,
    SizedBody,
)

CHUNK = st.tuples(
    st.binary(min_size=1, max_size=40),
    st.sampled_from([b"", b";a=b", b';name="a \r b"', b" ", b"\t", b";a  "]),
    st.integers(0, 3),
    st.booleans(),
)
TRAILERS = st.lists(st.sampled_from([b"Server-Timing: a", b"x:", b"x-sum:  12 "]), max_size=3)


def chunked(chunks: Sequence[tuple[bytes, bytes, int, bool]], trailers: Sequence[bytes]) -> bytes:
    sent = b""
    for data, extension, zeros, upper in chunks:
        size = b"0" * zeros + (b"%X" if upper else b"%x") % len(data)
        sent += size + extension + b"\r\n" + data + b"\r\n"
    return sent + b"0\r\n" + b"".join(line + b"\r\n" for line in trailers) + b"\r\n"


def cut(raw: bytes, places: Sequence[int]) -> list[bytes]:
    edges = sorted({place % (len(raw) + 1) for place in places} | {0, len(raw)})
    return [raw[start:stop] for start, stop in pairwise(edges)]


PLACES = st.lists(st.integers(0, 10_000), max_size=12)


def by_ours(body: Body, pieces: Sequence[bytes]) -> tuple[bytes, bool, bytes]:
    found = b"".join(body.feed(piece) for piece in pieces)
    return found, body.done, body.rest


def by_h11(pieces: Sequence[bytes]) -> tuple[bytes, bool, bytes]:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    assert isinstance(connection.next_event(), h11.Response)
    found, done = b"", False
    for piece in pieces:
        connection.receive_data(piece)
        while not done:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                break
            if isinstance(event, h11.Data):
                found += event.data
            done = isinstance(event, h11.EndOfMessage)
    return found, done, connection.trailing_data[0] if done else b""


@given(st.lists(CHUNK, max_size=8), TRAILERS, st.binary(max_size=9), PLACES)
def test_chunks_are_read_as_h11_reads_them(
    chunks: list[tuple[bytes, bytes, int, bool]],
    trailers: list[bytes],
    rest: bytes,
    places: list[int],
) -> None:
    """However they are cut, and with what stands behind them."""
    pieces = cut(chunked(chunks, trailers) + rest, places)
    found = by_ours(ChunkedBody(), pieces)
    assert found == by_h11(pieces)
    assert found == (b"".join(chunk[0] for chunk in chunks), True, rest)


READS = st.lists(
    st.one_of(
        st.sampled_from([b"1\r\na\r\n", b"6\r\n1\r\na\r\n\r\n", b"2;x\r\n\r\n\r\n", b"4\r\na\r\n"]),
        st.sampled_from(
            [b"6\r\n", b"\r\n", b"\r", b"\n", b"1", b"a", b"1\r\nab\r\n", b"2\r\na\r\n"]
        ),
        st.sampled_from([b"0\r\n", b"0\r\n\r\n", b"0\r\nx: a\r\n", b"1\r\na\r\n0\r\n\r\n"]),
    ),
    max_size=6,
)


def outcome(reads: Sequence[bytes]) -> tuple[bytes, bool, bytes] | None:
    try:
        return by_ours(ChunkedBody(), reads)
    except ValueError:
        return None


@given(READS)
@example([b"6\r\n", b"1\r\na\r\n", b"\r\n"])
@example([b"1\r\na", b"1\r\na\r\n"])
@example([b"1\r\na\n\n"])
def test_reads_that_are_chunks_of_their_own_or_look_so_are_read_like_any_others(
    reads: list[bytes],
) -> None:
    """What comes as it was written, a chunk in a read, is read in a shorter way."""
    assert outcome(reads) == outcome([bytes([byte]) for byte in b"".join(reads)])


@given(
    st.lists(CHUNK, min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 200), st.sampled_from(b"\r\n\t ;0fg\x00")), max_size=3),
    PLACES,
)
def test_what_h11_refuses_is_refused(
    chunks: list[tuple[bytes, bytes, int, bool]],
    mutations: list[tuple[int, int]],
    places: list[int],
) -> None:
    """One byte or another is not what it should be: both stop, or both read the same."""
    raw = bytearray(chunked(chunks, []))
    for place, byte in mutations:
        raw[place % len(raw)] = byte
    pieces = cut(bytes(raw), places)
    try:
        theirs: tuple[bytes, bool, bytes] | None = by_h11(pieces)
    except h11.RemoteProtocolError:
        theirs = None
    body = ChunkedBody()
    try:
        ours: tuple[bytes, bool, bytes] | None = by_ours(body, pieces)
    except ValueError:
        ours = None
    if theirs is None:  # of trailers, h11 looks also at what stands in them
        assert ours is None or body._trailing
    elif ours is None:  # a line end without its \r: h11 waits for more, we do not
        assert not theirs[1]
    else:
        assert ours[:2] == theirs[:2]


@given(st.lists(CHUNK, max_size=5), TRAILERS, st.data())
def test_a_cut_chunked_body_never_looks_complete(
    chunks: list[tuple[bytes, bytes, int, bool]], trailers: list[bytes], data: st.DataObject
) -> None:
    raw = chunked(chunks, trailers)
    body = ChunkedBody()
    body.feed(raw[: data.draw(st.integers(0, len(raw) - 1))])
    assert not body.done
    assert not body.end()


@given(st.binary(max_size=60), st.binary(max_size=9), PLACES, st.data())
def test_a_sized_body_is_as_long_as_its_size(
    sent: bytes, rest: bytes, places: list[int], data: st.DataObject
) -> None:
    assert by_ours(SizedBody(len(sent)), cut(sent + rest, places)) == (sent, True, rest)
    short = SizedBody(len(sent) + 1)
    assert by_ours(short, cut(sent, places)) == (sent, False, b"")
    assert not short.end()


@given(st.binary(max_size=60), PLACES)
def test_an_endless_body_ends_with_its_connection(sent: bytes, places: list[int]) -> None:
    body = EndlessBody()
    assert by_ours(body, cut(sent, places)) == (sent, False, b"")
    assert body.end()
    assert body.done


@pytest.mark.parametrize(
    "raw",
    [
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\na\r\n",
        b"1_0\r\n",
        b" 1\r\n",
        b"\r\n",
        b"1\na\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n0\r\n",
        b"0" * 21 + b"\r\n",
        b"1;" + b"a" * LINE_BYTES_MAX,
        b"0\r\n" + b"a: b\r\n" * (TRAILER_BYTES_MAX // 6 + 1),
    ],
)
def test_what_is_not_chunks_is_an_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"chunk|trailers"):
        by_ours(ChunkedBody(), [raw])


def test_a_burst_of_chunks_is_one_batch() -> None:
    assert ChunkedBody().feed(b"2\r\nab\r\n" * 1_000) == b"ab" * 1_000
