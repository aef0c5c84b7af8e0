"""Stores in a Postgres under TLS: nothing is said to who is not who its certificate says."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path

import pytest
import trio
import trustme

from orchestra.errors import StoreError
from orchestra.stores.postgres.settings import PostgresSettings, open_postgres
from tests.servers.postgres import PASSWORD, USER, shared_postgres

pytestmark = pytest.mark.usefixtures("behind")
ASKS_FOR_TLS = bytes.fromhex("0000000804d2162f")


@pytest.fixture
def behind() -> None:
    """The Postgres is there, or the test is skipped."""
    shared_postgres()


class Front:
    """Stands before the Postgres of the tests, which has no TLS, and talks TLS in its place."""

    def __init__(self, folder: Path, name: str) -> None:
        authority = trustme.CA()
        self.ca_file = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(name).configure_cert(self.context)
        self.told = b""
        """What it was told in clear."""

    async def serve(self, plain: trio.SocketStream) -> None:
        async with plain:
            self.told += await plain.receive_some(len(ASKS_FOR_TLS))
            await plain.send_all(b"S")
            secured = trio.SSLStream(plain, self.context, server_side=True)
            with suppress(trio.BrokenResourceError, ExceptionGroup):  # it did not like us, or left
                await secured.do_handshake()
                async with (
                    await trio.open_tcp_stream("127.0.0.1", shared_postgres().port) as behind,
                    trio.open_nursery() as nursery,
                ):
                    nursery.start_soon(pump, secured, behind, nursery.cancel_scope)
                    nursery.start_soon(pump, behind, secured, nursery.cancel_scope)


Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


async def pump(source: Stream, target: Stream, scope: trio.CancelScope) -> None:
    while data := await source.receive_some(65536):
        await target.send_all(data)
    scope.cancel()


def asked(front: Front, mode: str, ca_file: Path | None) -> str:
    """What comes of a question through the front, as settings say."""
    found: list[str] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, front.serve, [listener])
            port = listener.socket.getsockname()[1]
            url = f"postgresql://localhost:{port}/postgres?sslmode={mode}"
            settings = PostgresSettings(
                url=url, user=USER, password_env="WORD", ca_file=ca_file, timeout_s=20
            )
            with open_postgres(settings, {"WORD": PASSWORD}) as stores:
                await stores.collection("a").count()
                found.append("let in")
            nursery.cancel_scope.cancel()

    try:
        trio.run(main)
    except* StoreError as errors:
        found.append(str(errors.exceptions[0]))
    return found[0]


def test_who_has_the_right_certificate_is_asked(tmp_path: Path) -> None:
    front = Front(tmp_path, "localhost")
    for mode in ("verify-full", "verify-ca"):
        assert asked(front, mode, front.ca_file) == "let in"


@pytest.mark.parametrize(("name", "by"), [("localhost", "others"), ("elsewhere", "front")])
def test_who_has_a_wrong_one_is_told_nothing(name: str, by: str, tmp_path: Path) -> None:
    front = Front(tmp_path, name)
    (tmp_path / "others").mkdir()
    other = Front(tmp_path / "others", "localhost")
    told = asked(front, "verify-full", (front if by == "front" else other).ca_file)
    assert "check sslmode in the url and ca_file in [stores]" in told
    assert PASSWORD not in told
    assert set(front.told) <= set(ASKS_FOR_TLS)


def test_the_authorities_of_the_system_are_asked_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = Front(tmp_path, "localhost")
    assert "check sslmode in the url and ca_file" in asked(front, "verify-full", None)
    monkeypatch.setenv("SSL_CERT_FILE", str(front.ca_file))
    assert asked(front, "verify-full", None) == "let in"
