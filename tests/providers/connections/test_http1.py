from __future__ import annotations

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.errors import InvalidRequestError, MalformedStreamError, ModelConnectionError
from orchestra.protocols import HttpRequest
from orchestra.providers.connections.heads import kept_s
from orchestra.providers.connections.http1 import (
    Exchange,
    Origin,
    Outgoing,
    located,
    outgoing,
    written,
)
from tests.providers.connections.test_bodies import PLACES, chunked, cut

KEY = "sk-very-secret"
URL = "https://api.example.com/v1/chat"


def exchange(method: str = "POST", *, head_bytes: int = 4_096, body_bytes: int = 4_096) -> Exchange:
    going = outgoing(HttpRequest(URL, b"{}", method=method))
    return Exchange(going, head_bytes, body_bytes)


def sent(url: str = URL, **headers: str) -> bytes:
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Exchange(outgoing(HttpRequest(url, b"{}", named)), 100, 100).request


ANSWERS = {
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
    + chunked([(b"hel", b"", 0, False), (b"lo", b";x", 1, True)], [b"a: b"]),
    "sized": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    "endless": b"HTTP/1.1 200 OK\r\n\r\nhello",
    "old": b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    "told to wait": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n"
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
}
NAME = st.sampled_from(sorted(ANSWERS))


@given(NAME, PLACES)
def test_any_split_gives_the_same_answer(name: str, places: list[int]) -> None:
    """Where the network cuts the bytes makes no difference."""
    going = exchange()
    found = b"".join(going.feed(piece) for piece in cut(ANSWERS[name], places))
    assert going.final_head.status == 200
    assert found == b"hello"
    assert going.done == (name != "endless")
    going.end()
    assert going.done
    assert going.reusable == (name not in ("endless", "old"))


@given(NAME, st.data())
def test_a_cut_answer_never_looks_complete(name: str, data: st.DataObject) -> None:
    """Only of an endless one nobody can know, once its head is whole: the dialect's turn."""
    raw = ANSWERS[name]
    last = raw.index(b"hello") if name == "endless" else len(raw)
    going = exchange()
    if kept := raw[: data.draw(st.integers(0, last - 1))]:
        going.feed(kept)
    if name == "endless" and going.head is not None:
        return
    with pytest.raises(ModelConnectionError, match="closed the connection") as caught:
        going.end()
    assert caught.value.code == "cut"


@given(st.binary(max_size=300), PLACES)
def test_any_bytes_are_an_answer_or_an_error_of_ours(raw: bytes, places: list[int]) -> None:
    going = exchange()
    try:
        for piece in cut(raw, places):
            going.feed(piece)
        going.end()
    except (MalformedStreamError, ModelConnectionError):
        pass


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        ("POST", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"),
        ("POST", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    ],
)
def test_an_answer_without_a_body_is_at_its_end(method: str, raw: bytes) -> None:
    going = exchange(method)
    assert going.feed(raw) == b""
    assert going.done
    assert going.reusable


@pytest.mark.parametrize(
    ("raw", "keep_s"),
    [
        (b"", None),
        (b"connection: keep-alive\r\nkeep-alive: timeout=5, max=10\r\n", 5.0),
        (b"connection: Close\r\n", 0.0),
        (b"keep-alive: timeout=0\r\n", 0.0),
    ],
)
def test_a_server_says_how_long_it_keeps_a_connection(raw: bytes, keep_s: float | None) -> None:
    going = exchange()
    going.feed(b"HTTP/1.1 200 OK\r\n" + raw + b"content-length: 0\r\n\r\n")
    assert going.keep_s == keep_s
    assert going.reusable == (keep_s != 0.0)


def test_close_counts_before_how_long() -> None:
    assert kept_s([(b"keep-alive", b"timeout=5"), (b"connection", b"close")]) == 0.0


def test_a_connection_with_more_than_the_answer_is_not_reused() -> None:
    going = exchange()
    going.feed(ANSWERS["sized"] + b"HTTP/1.1 200 OK\r\n")
    assert going.done
    assert not going.reusable


def test_a_header_that_came_twice_is_joined() -> None:
    going = exchange()
    going.feed(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\ncontent-length: 0\r\n\r\n")
    assert going.final_head.named()["x-a"] == "1, 2"


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"\x16\x03\x01",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nhello\r\n",
    ],
)
def test_what_is_not_http_is_malformed(raw: bytes) -> None:
    with pytest.raises(
        MalformedStreamError, match=r"api\.example\.com:443 sent an invalid response"
    ):
        exchange().feed(raw)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", r"illegal status line: b'SSH-2\.0-OpenSSH'$"),
        (b"HTTP/1.1 200 OK\r\nauthorization : %b\r\n\r\n" % KEY.encode(), "illegal header line$"),
        (b"HTTP/1.1 200 OK\r\nx: %b\x00\r\n\r\n" % KEY.encode(), "illegal header line$"),
    ],
)
def test_of_what_is_malformed_no_header_is_quoted(raw: bytes, says: str) -> None:
    """A server may repeat the key in one."""
    with pytest.raises(MalformedStreamError, match=says):
        exchange().feed(raw)


def test_the_head_has_a_limit() -> None:
    """Also where it all comes at once, and also before it has ended."""
    head = b"HTTP/1.1 200 OK\r\na: " + b"a" * 200
    for raw in (head, head + b"\r\n\r\n"):
        with pytest.raises(
            MalformedStreamError, match="head of the response is longer than 100 b"
        ) as caught:
            exchange(head_bytes=100).feed(raw)
        assert not caught.value.retryable


def test_answers_before_the_answer_have_a_limit() -> None:
    going = exchange()
    for _ in range(100):
        going.feed(b"HTTP/1.1 102 Processing\r\n\r\n")
    with pytest.raises(MalformedStreamError, match="more than 100 informational responses"):
        going.feed(b"HTTP/1.1 102 Processing\r\n\r\n")


def test_the_body_has_a_limit() -> None:
    going = exchange(body_bytes=10)
    assert going.feed(b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 10) == b"a" * 10
    with pytest.raises(MalformedStreamError, match="longer than 10 bytes") as caught:
        going.feed(b"a")
    assert not caught.value.retryable


def test_a_request_has_the_headers_that_it_needs() -> None:
    assert sent() == (
        b"POST /v1/chat HTTP/1.1\r\nhost: api.example.com\r\naccept: */*\r\n"
        b"accept-encoding: identity\r\nuser-agent: orchestra\r\ncontent-length: 2\r\n\r\n{}"
    )


NAMES = st.sampled_from(["host", "Host", "content-length", "transfer-encoding", "x", "a b", "é"])
VALUES = st.one_of(
    st.sampled_from(
        ["", "h", "2", "02", "+2", "chunked", "a\r\nx: y", "a\nb", "a\rb", " a", "\x00"]
    ),
    st.text(alphabet="a \t\x7f\xff\r\n", max_size=4),
)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=4)


@given(
    st.sampled_from(["POST", "GET", "", "A B", "POST\r\n", "é"]),
    st.one_of(
        st.sampled_from(["/", "/a?b", "", "/a b", "/\r\nx: y", "/\udc80"]), st.text(max_size=3)
    ),
    HEADERS,
    st.sampled_from([b"", b"{}", b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"]),
)
@example("POST", "/", [("content-length", "2"), ("host", "h")], b"{}")
@example("POST", "/", [("host", "h")], b"")
@example("POST", "/", [("host", "h"), ("Host", "h")], b"")
@example("POST", "/", [("host", "h"), ("x", "a\r\nx: y")], b"")
@example("POST", "/", [("host", "h"), ("transfer-encoding", "chunked")], b"")
def test_what_is_written_is_read_as_the_one_request_that_it_is(
    method: str, target: str, headers: list[tuple[str, str]], body: bytes
) -> None:
    """By h11, as a server; everything else is refused."""
    raw = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers)
    try:
        wire = written(Outgoing(Origin("http", "h", 80), method, target, raw, body))
    except InvalidRequestError:
        return
    server = h11.Connection(h11.SERVER)
    server.receive_data(wire)
    asked = server.next_event()
    assert isinstance(asked, h11.Request)
    assert (asked.method, asked.target) == (method.encode(), target.encode())
    assert list(asked.headers) == [(name.lower(), value.strip(b" \t")) for name, value in raw]
    came = b""
    while isinstance(event := server.next_event(), h11.Data):
        came += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert came == body
    assert server.trailing_data[0] == b""


def test_headers_of_the_caller_come_before_ours() -> None:
    found = sent(User_Agent="mine", accept="text/event-stream", Host="other")
    assert found.count(b"\r\n") == 7
    assert b"User-Agent: mine" in found
    assert b"accept: text/event-stream" in found
    assert b"Host: other" in found


@pytest.mark.parametrize(
    ("url", "origin", "authority", "target"),
    [
        ("http://Host", "host:80", "host", "/"),
        ("https://host:8443/a?b=c", "host:8443", "host:8443", "/a?b=c"),
        ("http://[::1]:9/a", "[::1]:9", "[::1]:9", "/a"),
        ("http://h/a%3Ab:c/ü x?q=é", "h:80", "h", "/a%3Ab:c/%C3%BC%20x?q=%C3%A9"),
        ("http://bücher.example/", "xn--bcher-kva.example:80", "xn--bcher-kva.example", "/"),
        ("http://h/a\r\nx: y", "h:80", "h", "/ax:%20y"),
    ],
)
def test_a_url_says_where_and_what(url: str, origin: str, authority: str, target: str) -> None:
    found, path = located(url)
    assert (str(found), found.authority, path) == (origin, authority, target)


@pytest.mark.parametrize(
    "url",
    [
        *("", "/v1", "ftp://host/", "http://", "http://h:x/", "http://[1/", "http://u:p@h/"),
        *("http://h/\udcff", "http://h/?\udcff"),  # as a variable with such a byte is read
        *("http://faß.de/", "http://ａ.de/"),  # noqa: RUF001 - names that standards read differently
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequestError, match="URL"):
        located(url)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("authorization", f"Bearer {KEY}\r\nx: y"),
        ("authorization", f"Bearer “{KEY}”"),
        ("authorization", f"Bearer {KEY}\x00"),
        ("x y", KEY),
        ("content-length", f"1{KEY}"),
        ("content-length", "1"),
    ],
)
def test_a_key_is_in_no_message(name: str, value: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        sent(**{name: value})
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_blank_around_a_key_is_nothing() -> None:
    assert b"authorization: Bearer a\r\n" in sent(authorization=" Bearer a\n")


def test_nothing_secret_is_shown() -> None:
    going = outgoing(HttpRequest(f"{URL}?key={KEY}", KEY.encode(), (("x-api-key", KEY),)))
    assert KEY not in repr(going)
