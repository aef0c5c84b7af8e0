"""A Redis as it is in production: under TLS, for those it knows, or on a socket of the host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
from coredis.exceptions import RedisError
from hypothesis import given
from hypothesis import strategies as st

from orchestra.config.reading import read
from orchestra.errors import BindingError, StateError
from orchestra.secret import REDACTED, Secret
from orchestra.stores.state.redis_connection import Login
from orchestra.stores.state.settings import OpenState, StateSettings, open_state
from tests.providers.authority import Authority
from tests.servers.redis import Redis, redis
from tests.stores.state.test_redis import both_ways, count, found_again, run

ANYBODY = ("--tls-auth-clients", "no")
KNOWN_ONLY = (
    *ANYBODY,
    *("--user", "default", "off"),
    # as docs/policies.md has it
    *("--user", "orchestra", "on", ">sesame", "~orchestra:*"),
    *("+@read", "+@write", "+@scripting", "+@connection", "+time", "+info"),
)
CA = 'ca_file = "ca.pem"\n'
OWN = 'certificate_file = "own.pem"\ncertificate_key_file = "own.key"\n'
USER = 'user = "orchestra"\n'


@attrs.frozen
class Place:
    """A Redis in production, and the folder that has everybody's certificates."""

    redis: Redis
    folder: Path

    def restart(self, *more: str) -> None:
        self.redis.kill()
        self.redis.start_in_production(self.folder, *more)

    def settings(self, text: str, url: str = "", timeout_s: float = 5) -> StateSettings:
        """What a file says; under TLS, if it does not say otherwise."""
        url = url or f"rediss://127.0.0.1:{self.redis.tls_port}/2"
        table = f'[state]\nurl = "{url}"\ntimeout_s = {timeout_s}\n{text}'
        found = read(table, self.folder / "orchestra.toml").state
        assert found is not None
        return found

    def state(self, text: str, url: str = "", timeout_s: float = 5, **environ: str) -> OpenState:
        return open_state(self.settings(text, url, timeout_s), self.folder, environ)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("redis")
    ca = Authority.of(folder).ca
    server = ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
    server.write_to_path(str(folder / "server.pem"))
    own = ca.issue_cert("us.example")
    own.cert_chain_pems[0].write_to_path(str(folder / "own.pem"))
    own.private_key_pem.write_to_path(str(folder / "own.key"))
    (folder / "strangers").mkdir()
    Authority.of(folder / "strangers")
    with redis() as running:
        yield Place(running, folder)


def counted(state: OpenState, times: int = 1) -> list[int]:
    found = []

    async def main() -> None:
        found.extend([await count(state) for _ in range(times)])

    try:
        run(main)
    finally:
        state.close()
    return found


def refusal(state: OpenState) -> str:
    """What is told of it, by the error and by all that has led to it."""
    with pytest.raises(StateError) as caught:
        counted(state)
    return explained(caught.value)


def explained(error: BaseException | None) -> str:
    causes: list[str] = []
    while error is not None:
        causes.append(f"{error!s} {error!r}")
        error = error.__cause__ or error.__context__
    return "\n".join(causes)


passwords = st.text(st.characters(codec="ascii", exclude_categories=["C", "Z"]), min_size=1)


@given(passwords.map("sk-word-".__add__), st.data())
def test_no_refusal_of_a_login_tells_the_password_or_a_piece_of_it(
    password: str, data: st.DataObject
) -> None:
    """A server that knows no AUTH repeats what it was sent, as far as it has room."""
    cut = data.draw(st.integers(len("sk-word-"), len(password)))
    repeating = f"ERR unknown command 'AUTH', with args beginning with: 'ann' '{password[:cut]}"
    said = data.draw(st.sampled_from([repeating, f"WRONGPASS it is not {password}"]))
    login = Login("ann", Secret(password))
    told = login.redacted(RedisError(said))
    assert "sk-word-" not in str(told).replace(REDACTED, "")
    assert str(told).split()[0] == said.split()[0]
    assert "sk-word-" not in repr(login)


def test_a_redis_under_tls_is_used_like_any_other_and_found_again(place: Place) -> None:
    async def main() -> None:
        with closing(place.state(CA)) as state:
            assert [await count(state), await count(state)] == [1, 2]
            await state.remember("m", b"x" * 100_000, ttl_s=60)
            assert await state.recall("m") == b"x" * 100_000
            place.restart(*ANYBODY)
            assert await count(state) == 1

    place.restart(*ANYBODY)
    run(main)


def test_a_redis_under_tls_that_is_paused_fails_open_or_closed_in_time(place: Place) -> None:
    async def main() -> None:
        with closing(place.state(CA, timeout_s=0.05)) as state:
            await found_again(state)
            place.redis.pause()
            await both_ways(state, "no answer within 0.05 s|asked again in")
            place.redis.resume()
            await found_again(state)

    place.restart(*ANYBODY)
    run(main)


def test_a_certificate_that_nobody_vouches_for_is_refused(place: Place) -> None:
    place.restart(*ANYBODY)
    for text in ("", 'ca_file = "strangers/ca.pem"'):
        assert "certificate verify failed: " in refusal(place.state(text))
    elsewhere = f"rediss://localhost:{place.redis.tls_port}"
    assert "Hostname mismatch" in refusal(place.state(CA, elsewhere))


def told_by_a_server_that_says(answer: bytes, scheme: str) -> tuple[str, bytes]:
    """What is told of it, and what it was sent first."""
    heard = bytearray()
    told = []

    async def main() -> None:
        async def listen(stream: trio.SocketStream) -> None:
            heard.extend(await stream.receive_some())
            await stream.send_all(answer)

        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_tcp, listen, 0, host="127.0.0.1")
            (listener,) = await nursery.start(serve)
            url = f"{scheme}://127.0.0.1:{listener.socket.getsockname()[1]}"
            settings = StateSettings(url=url, user="ann", password_env="P", timeout_s=5)
            state = open_state(settings, Path(), {"P": "sesame"})
            with closing(state), pytest.raises(StateError) as caught:
                await count(state)
            told.append(explained(caught.value))
            nursery.cancel_scope.cancel()

    run(main)
    return told[0], bytes(heard)


def test_nothing_is_said_to_a_server_before_its_certificate_was_checked() -> None:
    """One that speaks no TLS sees a greeting of it, and neither a name nor a password."""
    told, heard = told_by_a_server_that_says(b"-ERR Protocol error\r\n", "rediss")
    assert "the TLS handshake failed: " in told
    assert heard[:2] == b"\x16\x03"
    assert b"sesame" not in heard
    assert b"ann" not in heard


def test_a_server_that_repeats_the_password_does_not_make_us_tell_it() -> None:
    repeating = b"-ERR unknown command 'AUTH', with args beginning with: 'ann' 'sesame'\r\n"
    told, heard = told_by_a_server_that_says(repeating * 9, "redis")
    assert "unknown command 'AUTH' (and repeats it)" in told
    assert "sesame" not in told
    assert b"sesame" in heard


def test_a_server_that_wants_to_know_us_is_shown_our_own_certificate(place: Place) -> None:
    place.restart("--tls-auth-clients", "yes")
    assert "the connection broke: " in refusal(place.state(CA))
    assert counted(place.state(CA + OWN)) == [1]


def test_who_we_are_is_in_the_environment_or_in_a_file(place: Place) -> None:
    place.restart(*KNOWN_ONLY)
    secret = place.folder / "word"
    secret.write_text("sesame\n")
    from_file = CA + USER + 'password_file = "word"'
    from_environ = CA + 'user_env = "U"\npassword_env = "P"'
    assert counted(place.state(from_file)) == [1]
    assert counted(place.state(from_environ, U="orchestra", P="sesame")) == [2]
    told = refusal(place.state(from_environ, U="orchestra", P="open-up"))
    assert "invalid username-password pair" in told
    assert "open-up" not in told
    assert "Authentication required" in refusal(place.state(CA))


def test_a_password_that_was_replaced_in_its_file_is_used_for_the_next_connection(
    place: Place,
) -> None:
    secret = place.folder / "word"
    secret.write_text("sesame")

    async def main() -> None:
        with closing(place.state(CA + USER + 'password_file = "word"')) as state:
            assert await count(state) == 1
            secret.write_text("open-up")
            place.restart(*(each.replace("sesame", "open-up") for each in KNOWN_ONLY))
            assert await count(state) == 1
            secret.unlink()
            place.restart(*ANYBODY)
            with pytest.raises(StateError, match=r"the password file .* cannot be read"):
                await count(state)

    place.restart(*KNOWN_ONLY)
    run(main)


def test_a_redis_of_the_same_host_is_reached_by_its_socket(place: Place) -> None:
    place.restart(*ANYBODY)
    url = f"redis+unix://{place.redis.socket_file}?db=3"
    assert counted(place.state("", url), times=2) == [1, 2]
    assert "/nowhere" in refusal(place.state("", "redis+unix:///nowhere"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('ca_file = "nowhere"', "nowhere' cannot be used: No such file or directory"),
        ('ca_file = "own.key"', "own.key' cannot be used: .*it must contain a certificate in PEM"),
        (CA + 'certificate_file = "own.pem"', "own.pem' cannot be used"),
        (CA + 'password_file = "nowhere"', "password file .*nowhere' cannot be read"),
        (CA + 'user_env = "U"', "there is no user in U; set that variable"),
        (CA + USER, "there is a user but no password; add password_env or password_file"),
    ],
)
def test_what_is_missing_is_told_when_the_state_is_made(place: Place, text: str, says: str) -> None:
    with pytest.raises(BindingError, match=says):
        place.state(text)
