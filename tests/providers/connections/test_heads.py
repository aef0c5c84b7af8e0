"""Plain heads: read as h11 reads them, or not at all."""

from __future__ import annotations

import h11
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.providers.connections.heads import Head, plain_head

STARTS = st.sampled_from(
    [
        *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 429 Too Many\r\n", b"HTTP/1.1 200 \r\n"),
        *(b"HTTP/1.1 200\r\n", b"HTTP/1.1 204 a  b\r\n", b"HTTP/1.1 200  OK \r\n"),
        *(b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n", b"HTTP/1.1 101 Switch\r\n"),
        *(b"HTTP/1.1 200 O\x00K\r\n", b"HTTP/1.1 200 OK\n", b"http/1.1 200 OK\r\n", b"\r\n"),
    ]
)
LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *(b"Content-Type: text/plain\r\n", b"x:\r\n", b"X:a: b\t \r\n", b"x:  a,b\r\n"),
                *(
                    b"content-length: 5\r\n",
                    b"Content-Length: 007\r\n",
                    b"content-length: 5, 5\r\n",
                ),
                *(b"content-length: -1\r\n", b"content-length: +1\r\n", b"content-length:\r\n"),
                *(b"transfer-encoding: Chunked\r\n", b"transfer-encoding: gzip, chunked\r\n"),
                *(b"x : a\r\n", b" folded\r\n", b"\tx: a\r\n", b": a\r\n", b"x\r\n", b"x: a\n"),
                *(b"x: a\rb\r\n", b"x: \xe9\r\n", b"x: \x00\r\n", b"x: \x0b\r\n", b"\xe9: a\r\n"),
            ]
        ),
        st.text(alphabet="x:\r\n \t\x7f\x01a", max_size=6).map(
            lambda line: line.encode() + b"\r\n"
        ),
    ),
    max_size=4,
)
METHODS = st.sampled_from(["POST", "GET", "HEAD", "CONNECT"])


def by_h11(method: str, data: bytes) -> tuple[Head, bytes, bytes] | None:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "-")]))
    connection.receive_data(data)
    try:
        answer = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    if not isinstance(answer, h11.Response):
        return None
    head = Head(answer.status_code, tuple(answer.headers), answer.reason)
    return head, connection.trailing_data[0], answer.http_version


@given(METHODS, STARTS, LINES, st.sampled_from([b"\r\n", b"\n", b""]), st.binary(max_size=9))
@example("POST", b"HTTP/1.1 200 OK\r\n", [b"content-length: 5\r\n"] * 2, b"\r\n", b"hello")
@example("POST", b"HTTP/1.1 200 OK\r\n", [b"content-length: -1\r\n"], b"\r\n", b"hello")
@example("POST", b"HTTP/1.1 200 OK\r\n", [b"transfer-encoding: gzip\r\n"], b"\r\n", b"hello")
@example("POST", b"HTTP/1.1 200 OK\r\n", [b"transfer-encoding: Chunked\r\n"], b"\r\n", b"")
@example("POST", b"HTTP/1.1 200 OK\r\n", [b"Content-Length: 007\r\n"], b"\r\n", b"hello")
@example("POST", b"HTTP/1.1 100 Continue\r\n", [], b"\r\n", b"")
def test_a_plain_head_is_what_h11_reads(
    method: str, start: bytes, lines: list[bytes], blank: bytes, rest: bytes
) -> None:
    """Whatever is not, or not to h11, is left to it."""
    data = start + b"".join(lines) + blank + rest
    found = plain_head(data)
    if found is not None:
        assert (*found, b"1.1") == by_h11(method, data)


def test_what_providers_send_is_plain() -> None:
    """So that the short way is the usual one."""
    data = (
        b"HTTP/1.1 200 OK\r\nDate: Sat, 28 Nov 2026 03:00:00 GMT\r\nContent-Type: text/event-stream\r\n"
        b"Transfer-Encoding: chunked\r\nx-request-id: req_1\r\nopenai-version: 2020-10-01\r\n\r\n5\r\n"
    )
    found = plain_head(data)
    assert found is not None
    head, rest = found
    assert head.named()["content-type"] == "text/event-stream"
    assert rest == b"5\r\n"
