"""What a `Transport` promises, shown of ours against real servers on loopback."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestra.errors import InvalidRequestError, MalformedStreamError, ModelConnectionError
from orchestra.protocols import HttpRequest
from orchestra.providers.connections.http1 import outgoing
from orchestra.providers.connections.pool import HttpLimits
from orchestra.providers.network import HttpTransport, open_transport, proxy_for
from tests.providers.connections.test_bodies import cut
from tests.providers.connections.test_http1 import ANSWERS
from tests.providers.upstream import (
    CHUNKED,
    OK,
    Visit,
    answering,
    fetch,
    read,
    run,
    sends,
    upstream,
)

KEY = "sk-very-secret"


def test_an_answer_is_status_headers_and_body() -> None:
    async def main() -> None:
        handler = answering(b"HTTP/1.1 429 Slow\r\nRetry-After: 3\r\ncontent-length: 2\r\n\r\nno")
        async with (
            upstream(handler) as server,
            open_transport() as transport,
            transport.send(HttpRequest(server.url)) as reply,
        ):
            assert reply.status == 429
            assert reply.headers["retry-after"] == "3"
            assert await reply.receive() == b"no"
            assert await reply.receive() == b""
            assert await reply.receive() == b""

    run(main)


def test_a_request_arrives_as_it_was_sent() -> None:
    """Also one that is longer than any buffer on the way."""
    arrived: list[bytes] = []
    body = b"x" * 3_000_000

    async def handle(visit: Visit) -> None:
        arrived.append(await visit.request())
        await visit.send(OK)

    async def main() -> None:
        async with upstream(handle) as server, open_transport() as transport:
            request = HttpRequest(server.url, body, (("X-Api-Key", KEY),))
            async with transport.send(request) as reply:
                assert await read(reply) == b"ok"

    run(main)
    assert arrived[0].startswith(b"POST /v1/chat?a=1 HTTP/1.1\r\nhost: 127.0.0.1:")
    assert b"\r\naccept-encoding: identity\r\n" in arrived[0]
    assert arrived[0].endswith(
        b"\r\ncontent-length: 3000000\r\nX-Api-Key: sk-very-secret\r\n\r\n" + body
    )


@settings(max_examples=40)
@given(
    st.sampled_from(sorted(ANSWERS)), st.lists(st.integers(0, 300), max_size=8), st.random_module()
)
def test_any_split_on_the_wire_gives_the_same_body(
    name: str, places: list[int], seed: object
) -> None:
    async def main() -> None:
        async with (
            upstream(sends(*cut(ANSWERS[name], places))) as server,
            open_transport() as transport,
        ):
            assert await fetch(transport, server.url) == b"hello"

    run(main)


@settings(max_examples=40)
@given(st.sampled_from(sorted(set(ANSWERS) - {"endless"})), st.integers(0, 400), st.random_module())
def test_a_cut_answer_is_never_a_short_body(name: str, place: int, seed: object) -> None:
    raw = ANSWERS[name]

    async def main() -> None:
        async with (
            upstream(sends(raw[: place % len(raw)])) as server,
            open_transport() as transport,
        ):
            with pytest.raises(ModelConnectionError, match="closed the connection") as caught:
                await fetch(transport, server.url)
            assert caught.value.retryable
            assert caught.value.code == "cut"

    run(main)


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    """A key goes where it was meant to, and nowhere else."""

    async def main() -> None:
        async with upstream(answering(OK)) as other, open_transport() as transport:
            head = f"HTTP/1.1 307 Elsewhere\r\nlocation: {other.url}\r\ncontent-length: 0\r\n\r\n"
            async with upstream(answering(head.encode())) as server:
                request = HttpRequest(server.url, headers=(("authorization", KEY),))
                async with transport.send(request) as reply:
                    assert reply.status == 307
                    assert await read(reply) == b""
            assert other.visits == []

    run(main)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_compressed_answer_is_undone(size: int) -> None:
    body = os.urandom(3_000) + b"data: x\n\n" * 1_000
    packed = gzip.compress(body, mtime=0)
    pieces = [packed[at : at + size] for at in range(0, len(packed), size)]
    sent = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    head = CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")

    async def main() -> None:
        async with upstream(answering(head, sent)) as server, open_transport() as transport:
            assert await fetch(transport, server.url) == body

    run(main)


@pytest.mark.parametrize("coding", [b"", b"identity", b" Identity", b"Deflate "])
def test_the_word_of_an_encoding_may_be_written_in_any_case(coding: bytes) -> None:
    body = zlib.compress(b"hello") if b"Deflate" in coding else b"hello"
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding:%b\r\ncontent-length: %d\r\n\r\n"

    async def main() -> None:
        raw = head % (coding, len(body)) + body
        async with upstream(answering(raw)) as server, open_transport() as transport:
            assert await fetch(transport, server.url) == b"hello"

    run(main)


@pytest.mark.parametrize(
    ("coding", "body", "error", "says"),
    [
        (
            "gzip",
            gzip.compress(bytes(5_000), mtime=0),
            MalformedStreamError,
            "longer than 1000 bytes",
        ),
        (
            "gzip",
            gzip.compress(b"hello", mtime=0)[:-3],
            ModelConnectionError,
            "in the middle of its",
        ),
        ("gzip", b"hello", MalformedStreamError, "is not valid"),
        ("br", b"hello", MalformedStreamError, "encoded as 'br'"),
    ],
)
def test_a_body_that_cannot_be_undone_is_an_error(
    coding: str, body: bytes, error: type[Exception], says: str
) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: {len(body)}\r\n\r\n"

    async def main() -> None:
        limits = HttpLimits(body_bytes=1_000)
        async with (
            upstream(answering(head.encode() + body)) as server,
            open_transport(limits=limits) as transport,
        ):
            with pytest.raises(error, match=says):
                await fetch(transport, server.url)

    run(main)


def test_the_limits_of_an_answer_are_kept() -> None:
    async def main() -> None:
        limits = HttpLimits(head_bytes=1_000, body_bytes=1_000)
        long_head = b"HTTP/1.1 200 OK\r\na: " + b"a" * 2_000 + b"\r\n\r\n"
        long_body = CHUNKED + b"600\r\n" + b"a" * 0x600 + b"\r\n"
        async with open_transport(limits=limits) as transport:
            for raw in (long_head, long_body):
                async with upstream(answering(raw)) as server:
                    with pytest.raises(
                        MalformedStreamError, match=r"too long|longer than 1000 bytes"
                    ):
                        await fetch(transport, server.url)

    run(main)


def test_what_cannot_be_sent_is_never_sent() -> None:
    async def main() -> None:
        async with upstream(answering(OK)) as server, open_transport() as transport:
            request = HttpRequest(server.url, headers=(("authorization", f"{KEY}\r\nx: y"),))
            with pytest.raises(InvalidRequestError) as caught:
                async with transport.send(request):
                    pytest.fail("it was sent")
            assert KEY not in str(caught.value)
            assert server.visits == []

    run(main)


@pytest.mark.parametrize("proxies", [{}, {"all": "http://127.0.0.1:1"}])
def test_a_closed_transport_says_so(proxies: dict[str, str]) -> None:
    """Also of what goes through a proxy: nobody would close another connection to it."""

    async def main() -> None:
        async with upstream(answering(OK)) as server:
            transport = HttpTransport(proxies=proxies)
            await transport.aclose()
            with pytest.raises(ModelConnectionError, match="the transport is closed"):
                await fetch(transport, server.url)

    run(main)


def test_a_transport_outlives_a_run_of_trio() -> None:
    """Where each test has a run of its own, one transport may serve them all."""
    transport = HttpTransport()

    async def main() -> None:
        async with upstream(answering(OK)) as server:
            assert await fetch(transport, server.url) == b"ok"

    run(main)
    run(main)
    run(transport.aclose)


def test_httpx_is_imported_only_for_a_proxy(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from orchestra.providers.network import HttpTransport as T\n"
        "T(proxies={}); assert 'httpx' not in sys.modules\n"
        "T(proxies={'all': 'http://a'}).send(__import__('orchestra.protocols').protocols"
        ".HttpRequest('http://b/')); assert 'httpx' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize(
    ("url", "no", "proxy"),
    [
        ("https://api.example.com/v1", "", "http://secure:1"),
        ("http://api.example.com/v1", "", "http://other:2"),
        ("https://api.example.com/v1", "localhost, example.com", None),
        ("https://example.com/v1", ".example.com", None),
        ("https://api.example.com/v1", "*.example.com", None),
        ("https://anexample.com/v1", "example.com", "http://secure:1"),
        ("https://api.example.com/v1", "example.com.", None),
        ("https://api.example.com./v1", "example.com", None),
        ("https://API.example.com.:8443/v1", ".example.com.:8443", None),
        ("https://api.example.com/v1", ".", "http://secure:1"),
        ("https://api.example.com:8443/v1", "api.example.com:8443", None),
        ("https://api.example.com/v1", "api.example.com:8443", "http://secure:1"),
        ("https://api.example.com:8443/v1", "example.com:8443", None),
        ("https://api.example.com:8443/v1", ".example.com:8443", None),
        ("https://anexample.com:8443/v1", "example.com:8443", "http://secure:1"),
        ("https://api.example.com/v1", "*", None),
        ("http://127.0.0.1:8080/", "127.0.0.1", None),
        ("http://10.1.2.3/", "10.0.0.0/8", None),
        ("http://11.1.2.3/", "10.0.0.0/8", "http://other:2"),
        ("http://[::1]:8080/", "::1", None),
        ("http://[::1]:8080/", "[::1]", None),
        ("http://[::1]:8080/", "[::1]:8080", None),
        ("https://api.example.com/v1", "API.example.com:443", None),
        ("http://api.example.com/v1", "api.example.com:443", "http://other:2"),
    ],
)
def test_a_proxy_is_for_some_hosts(url: str, no: str, proxy: str | None) -> None:
    assert proxy_for(url, {"https": "http://secure:1", "all": "other:2", "no": no}) == proxy


@given(st.sampled_from(["http://", "HTTPS://", ""]), st.text("ab.:@/[]%09é\n", max_size=12))
@example("http://", "h:99999/")
@example("http://", "[::1/")
def test_with_a_proxy_the_same_urls_are_refused(scheme: str, rest: str) -> None:
    """What can be sent can be sent by a proxy, and what cannot is the same error."""
    request = HttpRequest(scheme + rest)
    try:
        outgoing(request)
    except InvalidRequestError as error:
        with pytest.raises(InvalidRequestError, match=re.escape(str(error))):
            proxy_for(request.url, {"all": "http://a"})
    else:
        assert proxy_for(request.url, {"all": "http://a"}) == "http://a"


def test_without_a_proxy_there_is_none() -> None:
    assert proxy_for("https://a/", {}) is None
    assert proxy_for("https://a/", {"http": "http://b"}) is None
    assert proxy_for("https://a/", {"no": "b"}) is None


def test_the_environment_names_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://there:3128")
    monkeypatch.setenv("no_proxy", "localhost")
    transport = HttpTransport()
    assert proxy_for("https://a/", transport._proxies) == "http://there:3128"
    assert proxy_for("https://localhost/", transport._proxies) is None
    assert proxy_for("https://a/", HttpTransport(proxies={})._proxies) is None
