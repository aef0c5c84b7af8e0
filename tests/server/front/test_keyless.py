"""A server without keys: for those at its machine, for no page of elsewhere, until a key is made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from orchestra.access.keyring import Keyring
from orchestra.access.wanted import NewKey
from orchestra.cli.serving.admission import admission_of
from orchestra.config import LocalBindings, default_bindings
from orchestra.config.reading import read
from orchestra.engine.engine import open_engine
from orchestra.errors import ServeError, StateError
from orchestra.server.app import create_app
from orchestra.server.connections.hardening import mend_hypercorn
from orchestra.server.front import keyless
from orchestra.server.front.cors import Cors
from orchestra.server.front.keyless import OwnPages, Unlocked, is_here, may_ask
from orchestra.server.front.layers import Admission
from orchestra.server.settings import Settings
from orchestra.stores.state.memory import MemoryState
from tests.server.served import PIPELINES
from tests.server.wire import House, Reply, open_house

PAGE = "https://app.example"
WANTED = NewKey(organisation="acme", pipelines=("*",))


def at_desk(
    main: Callable[[House, Keyring], Awaitable[None]], origins: frozenset[str] = frozenset()
) -> None:
    """A server without keys, for as long as `main` takes."""

    async def serve() -> None:
        mend_hypercorn()
        keyring, bounds = Keyring(MemoryState()), Settings()
        admission = Admission(
            unlocked=Unlocked(keyring.any_made, lambda: Admission(keyring=keyring)),
            own_pages=OwnPages(origins),
            cors=Cors(origins=origins),
        )
        async with open_engine() as engine:
            app = create_app(engine, PIPELINES, bounds, admission)
            async with open_house(app.asgi_app, bounds) as house:
                await main(house, keyring)

    trio.run(serve)


async def ask(house: House, path: str, *headers: str, host: str = "") -> Reply:
    """What a request is answered whose first `Host` is this one, by default the server's own."""
    client = await house.connect()
    own = [f"GET {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{house.port}'}", *headers]
    await client.stream.send_all("\r\n".join([*own, "", ""]).encode())
    return await client.reply()


START = "/v1/pipelines/count/runs?count=1"


@pytest.mark.parametrize(
    ("headers", "host", "status"),
    [
        ([], "", 200),
        ([], "localhost:8000", 200),
        (["Authorization: Bearer sk-whatever"], "", 200),
        ([], "evil.example", 421),
        ([], "127.0.0.1.evil.example:8000", 421),
        (["Sec-Fetch-Site: same-origin"], "evil.example", 421),
        (["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"], "", 403),
        (["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"], "", 403),
        (["Sec-Fetch-Site: same-site", "Origin: http://localhost:3000"], "", 403),
        (["Origin: https://evil.example"], "", 403),
        (["Origin: null"], "", 403),
        (["Sec-Fetch-Site: same-origin"], "", 200),
        (["Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate"], "", 200),
        (["Sec-Fetch-Site: cross-site", f"Origin: {PAGE}"], "", 200),
        ([], "app.example", 200),
    ],
)
def test_no_page_of_elsewhere_starts_a_run_where_nobody_is_asked_for_a_key(
    headers: list[str], host: str, status: int
) -> None:
    async def main(house: House, _: Keyring) -> None:
        reply = await ask(house, START, *headers, host=host)
        assert reply.status == status
        whole = await ask(house, f"http://elsewhere.example{START}", *headers, host=host)
        assert whole.status == status, "a target may be written as a whole URL"
        listed = await ask(house, "/v1/runs/" + "0" * 32)
        assert listed.status == 404

    at_desk(main, frozenset({PAGE}))


@pytest.mark.parametrize(
    "target",
    [
        "//v1/",
        "///v1/",
        "/%2fv1/",
        "%2f%2fv1/",
        "v1/",
        "//v1%2f",
        "http://a//v1/",
        "http://[/v1/",
        "?",
    ],
)
def test_however_a_target_is_written_it_is_no_way_around(target: str) -> None:
    """Routes are found behind any number of slashes: whoever looks at a path has to do the same."""

    async def main(house: House, _: Keyring) -> None:
        elsewhere = ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors")
        for rest in (START.removeprefix("/v1/"), "runs"):
            reply = await ask(house, target + rest, *elsewhere)
            assert reply.status in {403, 404}
            if "v1/" in target:
                assert (await ask(house, "/v1/" + rest, *elsewhere)).status == 403

    at_desk(main)


def test_a_link_from_elsewhere_leads_to_the_docs() -> None:
    async def main(house: House, _: Keyring) -> None:
        link = ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate")
        assert (await ask(house, "/docs", *link)).status == 200
        assert (await ask(house, "/v1/runs", *link)).status == 403

    at_desk(main)


def test_as_soon_as_a_key_was_made_nobody_is_let_in_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a restart; and whoever shows a key may come from any page, under any name."""
    monkeypatch.setattr(keyless, "TRUSTED_S", 0.0)

    async def main(house: House, keyring: Keyring) -> None:
        assert (await ask(house, START)).status == 200
        made = await keyring.create(WANTED)
        assert (await ask(house, START)).status == 401
        assert (await ask(house, START, "Authorization: Bearer sk-whatever")).status == 401
        mine = f"Authorization: Bearer {made.text}"
        assert (await ask(house, START, mine, host="api.example")).status == 200
        await keyring.revoke(made.record.id)
        assert (await ask(house, START)).status == 401

    at_desk(main)


class Counted(Keyring):
    """A keyring that counts how often it is asked whether there are keys."""

    asked = 0

    async def any_made(self) -> bool:
        self.asked += 1
        return await super().any_made()


def test_the_keys_are_looked_for_once_a_second_and_never_again_when_there_is_one() -> None:
    async def main() -> None:
        keyring = Counted(MemoryState())
        unlocked = Unlocked(keyring.any_made, Admission)
        for _ in range(10):
            assert await unlocked.still()
        assert keyring.asked == 1
        await keyring.create(WANTED)
        await trio.sleep(keyless.TRUSTED_S)
        for _ in range(10):
            assert not await unlocked.still()
            await trio.sleep(keyless.TRUSTED_S)
        assert keyring.asked == 2

    trio.run(main, clock=MockClock(autojump_threshold=0))


LOOPBACK = st.ip_addresses(v=4, network="127.0.0.0/8").map(str) | st.sampled_from(
    ["localhost", "LOCALHOST", "a.localhost", "localhost.", "[::1]"]
)
ELSEWHERE = (
    st.ip_addresses(v=4).filter(lambda each: not each.is_loopback).map(str)
    | st.ip_addresses(v=6).filter(lambda each: not each.is_loopback).map("[{}]".format)
    | st.text(st.characters(codec="latin1")).filter(lambda t: "localhost" not in t.lower())
)


@given(LOOPBACK, st.just("") | st.integers(1, 65535).map(":{}".format))
def test_names_of_this_machine_are_its_own(name: str, port: str) -> None:
    assert is_here(name + port)


@settings(max_examples=30)
@given(ELSEWHERE.filter(lambda text: "127." not in text and "::1" not in text))
@example("[localhost]")
@example("[127.0.0.1]")
def test_no_other_name_is(name: str) -> None:
    assert not is_here(name)
    assert not is_here(f"localhost.{name}x")


@given(st.none() | st.text(), st.none() | st.text(), st.none() | st.text())
def test_without_anything_a_browser_says_it_is_no_page(
    origin: str | None, site: str | None, host: str | None
) -> None:
    assert may_ask(None, None, host, ())
    assert may_ask(origin, site, host, (origin,) if origin is not None else ()) or (
        origin is None and site not in (None, "none", "same-origin")
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_deployment_without_keys_serves_its_desk(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with default_bindings(None, config=None) as bindings:
        admission = trio.run(admission_of, bindings, host)
        assert admission.own_pages == OwnPages()
        assert admission.unlocked is not None
        for open_ in ("0.0.0.0", "::", "10.0.0.1", "", "example.org"):
            with pytest.raises(ServeError, match="make a key first"):
                trio.run(admission_of, bindings, open_)
        trio.run(bindings.keyring.create, WANTED)
        keyed = trio.run(admission_of, bindings, "0.0.0.0")
        assert keyed.keyring is not None
        assert (keyed.unlocked, keyed.own_pages) == (None, None)


def test_a_start_that_cannot_ask_for_keys_says_how_it_need_not(tmp_path: Path) -> None:
    gone = '[state]\nurl = "redis://127.0.0.1:1/0"\n'
    told = r'whether there are keys.*keys = "required".*redis:'
    with (
        LocalBindings(tmp_path, read(gone, tmp_path / "orchestra.toml")) as bindings,
        pytest.raises(StateError, match=told),
    ):
        trio.run(admission_of, bindings, "127.0.0.1")
    required = f'{gone}[server]\nkeys = "required"\n'
    with LocalBindings(tmp_path, read(required, tmp_path / "orchestra.toml")) as bindings:
        assert trio.run(admission_of, bindings, "0.0.0.0").keyring is not None


def test_a_deployment_that_never_asks_for_keys_serves_its_desk_only(tmp_path: Path) -> None:
    deployed = read('[server]\nkeys = "none"', tmp_path / "orchestra.toml")
    with LocalBindings(tmp_path, deployed) as bindings:
        admission = trio.run(admission_of, bindings, "127.0.0.1")
        assert (admission.keyring, admission.unlocked) == (None, None)
        assert admission.own_pages == OwnPages()
        trio.run(bindings.keyring.create, WANTED)
        with pytest.raises(ServeError, match=r'take keys = "none" out of .*, and make a key'):
            trio.run(admission_of, bindings, "0.0.0.0")
