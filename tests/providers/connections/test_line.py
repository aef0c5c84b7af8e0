"""Connections under TLS: whom they trust, and that nothing else about them is different."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.errors import ModelConnectionError, ModelTimeoutError
from orchestra.protocols import HttpRequest, Timeouts
from orchestra.providers.connections.line import tls_context
from orchestra.providers.network import HttpTransport, open_transport
from tests.providers.authority import Authority
from tests.providers.connections.test_bodies import cut
from tests.providers.connections.test_connection import AT_ONCE_S
from tests.providers.connections.test_http1 import ANSWERS
from tests.providers.upstream import (
    CHUNKED,
    OK,
    Visit,
    answering,
    fetch,
    least,
    open_sockets,
    read,
    run,
    sends,
    streaming,
    until,
    upstream,
)

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


@VERSIONS
def test_an_authority_that_is_named_is_trusted(
    authority: Authority, version: ssl.TLSVersion
) -> None:
    async def main() -> None:
        tls = authority.server("localhost", version=version)
        async with (
            upstream(answering(OK), tls=tls, host="localhost") as server,
            open_transport(ca_file=authority.file) as transport,
        ):
            for _ in range(3):
                assert await fetch(transport, server.url) == b"ok"
            assert len(server.visits) == 1
            stream = server.visits[0].stream
            assert isinstance(stream, trio.SSLStream)
            assert stream.selected_alpn_protocol() == "http/1.1"
            assert stream.version() == version.name.replace("_", ".")

    run(main)


def test_a_certificate_may_be_for_an_address(authority: Authority) -> None:
    async def main() -> None:
        tls = authority.server("127.0.0.1")
        async with (
            upstream(answering(OK), tls=tls) as server,
            open_transport(ca_file=authority.file) as transport,
        ):
            assert await fetch(transport, server.url) == b"ok"

    run(main)


REFUSED = [
    ("another.example", True, "localhost", "Hostname mismatch.*; is the base URL right"),
    ("localhost", True, "127.0.0.1", "IP address mismatch.*; is the base URL right"),
    ("localhost", False, "localhost", "unable to get local issuer.*SSL_CERT_FILE.*`ca_file`"),
]


@pytest.mark.parametrize(("name", "trusted", "host", "says"), REFUSED)
def test_another_certificate_is_refused(
    authority: Authority, name: str, trusted: bool, host: str, says: str
) -> None:
    """A wrong name, a wrong address, nobody that we trust: no byte of a request is sent."""

    async def main() -> None:
        file = authority.file if trusted else None
        async with (
            upstream(streaming, tls=authority.server(name), host=host) as server,
            open_transport(ca_file=file) as transport,
        ):
            before = open_sockets()
            with pytest.raises(ModelConnectionError, match=says) as caught:
                await fetch(transport, server.url)
            assert not caught.value.retryable
            assert caught.value.code == "connect"
            assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
            assert not server.visits[0].asked.is_set()
            assert open_sockets() <= before + 1

    run(main)


def test_a_certificate_of_the_past_asks_for_the_clock(authority: Authority) -> None:
    """No file of an authority would help."""

    async def main() -> None:
        past = datetime(2020, 1, 1, tzinfo=UTC)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.ca.issue_cert("127.0.0.1", not_after=past).configure_cert(tls)
        async with (
            upstream(streaming, tls=tls) as server,
            open_transport(ca_file=authority.file) as transport,
        ):
            with pytest.raises(
                ModelConnectionError, match="expired; is the clock of this machine right"
            ) as caught:
                await fetch(transport, server.url)
            assert "ca_file" not in str(caught.value)

    run(main)


def test_the_usual_authorities_are_trusted_too(authority: Authority) -> None:
    usual = ssl.create_default_context().cert_store_stats()["x509_ca"]
    context = tls_context(str(authority.file))
    assert context.cert_store_stats()["x509_ca"] == usual + 1
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_a_server_without_tls_is_an_error() -> None:
    async def handle(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def main() -> None:
        async with upstream(handle) as server, open_transport() as transport:
            with pytest.raises(
                ModelConnectionError, match=r"could not be reached: .*SSL.*begin with http://\?"
            ) as caught:
                await fetch(transport, server.url.replace("http:", "https:"))
            assert caught.value.code == "connect"

    run(main)


def test_a_handshake_has_a_bound() -> None:
    async def main() -> None:
        async with upstream(lambda visit: visit.left()) as server, open_transport() as transport:
            before = open_sockets()
            with pytest.raises(ModelTimeoutError) as caught:
                await fetch(
                    transport, server.url.replace("http:", "https:"), Timeouts(connect_s=0.05)
                )
            assert caught.value.code == "connect_s"
            await until(lambda: bool(server.visits))
            await server.visits[0].gone.wait()
            assert open_sockets() <= before + 1

    run(main)


def test_leaving_waits_for_no_farewell(authority: Authority) -> None:
    async def main() -> float:
        async with (
            upstream(streaming, tls=authority.loopback) as server,
            open_transport(ca_file=authority.file) as transport,
        ):
            before = open_sockets()
            async with transport.send(HttpRequest(server.url)) as reply:
                assert await reply.receive() == b"ab"
            left_at = trio.current_time()
            assert open_sockets() == before + 1
            await server.visits[0].gone.wait()
            return server.visits[0].gone_at - left_at

    assert least(main) < AT_ONCE_S


@settings(max_examples=40)
@given(
    st.sampled_from(sorted(ANSWERS)), st.lists(st.integers(0, 300), max_size=8), st.random_module()
)
def test_any_split_into_records_gives_the_same_body(
    authority: Authority, name: str, places: list[int], seed: object
) -> None:
    async def handle(visit: Visit) -> None:
        await visit.request()
        await visit.send(*cut(ANSWERS[name], places))
        await farewell(visit)

    async def main() -> None:
        transport = HttpTransport(tls=authority.client)
        async with upstream(handle, tls=authority.loopback) as server:
            assert await fetch(transport, server.url) == b"hello"
        await transport.aclose()

    run(main)


async def farewell(visit: Visit) -> None:
    stream = visit.stream
    assert isinstance(stream, trio.SSLStream)
    stream._https_compatible = False  # then it says that it closes
    await stream.aclose()


def test_an_end_that_was_announced_is_not_waited_for(authority: Authority) -> None:
    """Though the server leaves its half of the connection open."""

    async def handle(visit: Visit) -> None:
        await visit.request()
        stream = visit.stream
        assert isinstance(stream, trio.SSLStream)
        await stream.send_all(ANSWERS["endless"])
        stream._ssl_object.write(b"!")
        with suppress(ssl.SSLWantReadError):
            stream._ssl_object.unwrap()
        await stream.transport_stream.send_all(stream._outgoing.read())
        await visit.gone.wait()

    async def main() -> None:
        async with upstream(handle, tls=authority.loopback) as server:
            transport = HttpTransport(tls=authority.client)
            assert await fetch(transport, server.url) == b"hello!"
            await transport.aclose()

    run(main)


@pytest.mark.parametrize("lenient", [False, True], ids=["as here", "as Debian 12"])
def test_a_connection_cut_by_somebody_else_never_looks_complete(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, *, lenient: bool
) -> None:
    """An answer that ends with its connection has to be ended by the server, and not on the way.

    TLS can tell: only who has the keys can announce an end. Python 3.11.2 does not ask it.
    """
    made = ssl.create_default_context

    def of_older_python() -> ssl.SSLContext:
        context = made()
        context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
        return context

    if lenient:
        monkeypatch.setattr(ssl, "create_default_context", of_older_python)

    async def main() -> None:
        async with (
            upstream(sends(ANSWERS["endless"]), tls=authority.loopback) as server,
            open_transport(ca_file=authority.file) as transport,
            transport.send(HttpRequest(server.url)) as reply,
        ):
            assert await reply.receive() == b"hello"
            with pytest.raises(ModelConnectionError, match="broke") as caught:
                await reply.receive()
            assert isinstance(caught.value.__cause__, ssl.SSLError)

    run(main)


@VERSIONS
def test_what_comes_together_is_one_batch(authority: Authority, version: ssl.TLSVersion) -> None:
    """However many records it takes; `trio.SSLStream` would give them one by one."""
    sent = trio.Event()

    async def handle(visit: Visit) -> None:
        await visit.request()
        await visit.send(CHUNKED)
        for _ in range(100):
            await visit.send(b"2\r\nab\r\n")
        sent.set()
        await visit.left()

    async def main() -> None:
        tls = authority.server("127.0.0.1", version=version)
        async with (
            upstream(handle, tls=tls) as server,
            open_transport(ca_file=authority.file) as transport,
            transport.send(HttpRequest(server.url)) as reply,
        ):
            await sent.wait()
            data = await reply.receive()
            if len(data) < 200:  # that was what came with the head
                data += await reply.receive()
            assert data == b"ab" * 100

    run(main)


def test_long_requests_and_answers_come_whole(authority: Authority) -> None:
    body = bytes(range(256)) * 8_000
    arrived: list[bytes] = []

    async def handle(visit: Visit) -> None:
        arrived.append(await visit.request())
        await visit.send(CHUNKED, b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")

    async def main() -> None:
        async with (
            upstream(handle, tls=authority.loopback) as server,
            open_transport(ca_file=authority.file) as transport,
            transport.send(HttpRequest(server.url, body)) as reply,
        ):
            assert await read(reply) == body

    run(main)
    assert arrived[0].endswith(b"\r\n\r\n" + body)


def test_a_context_of_ones_own_is_used(authority: Authority) -> None:
    async def main() -> None:
        context = ssl.create_default_context(cafile=str(authority.file))
        transport = HttpTransport(tls=context)
        async with upstream(answering(OK), tls=authority.loopback) as server:
            assert await fetch(transport, server.url) == b"ok"
            await transport.aclose()

    run(main)


@pytest.mark.parametrize("secure", [False, True])
def test_nagle_is_off(authority: Authority, secure: bool) -> None:
    """A request is one small packet or two: it never waits for an acknowledgement."""

    async def main() -> None:
        tls = authority.server("127.0.0.1") if secure else None
        async with (
            upstream(answering(OK), tls=tls) as server,
            open_transport(ca_file=authority.file) as transport,
        ):
            await fetch(transport, server.url)
            (place,) = transport._pool._places.values()
            own = place.idle[0][0]._socket
            assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(main)
