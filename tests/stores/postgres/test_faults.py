"""Stores in Postgres under faults: a server killed and paused, callers cancelled, two processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.errors import StoreError
from orchestra.stores.postgres.pool import Address
from orchestra.stores.postgres.settings import PostgresSettings, open_postgres
from orchestra.stores.postgres.stores import PostgresStores
from orchestra.values import Passage
from tests.patience import PATIENCE_S, eventually
from tests.servers.postgres import PASSWORD, USER, Postgres, postgres, shared_postgres
from tests.stores.postgres.asking import BUSY, EAST, ONE, name_of, refused, run

WRITER = Path(__file__).with_name("writer.py")
ROOT = WRITER.parents[3]


@cache
def cancelling() -> Address:
    """A database for those who are cancelled."""
    return shared_postgres().database()


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One that may be killed."""
    with postgres() as started:
        yield started


@pytest.mark.parametrize("level", ["read committed", "serializable"])
def test_processes_that_make_it_and_write_at_once_lose_nothing(level: str) -> None:
    """Eight tasks of two processes into a database where nothing is yet; whatever its default."""
    address = shared_postgres().database()
    default = f"SET default_transaction_isolation = '{level}'"
    shared_postgres().ask(f"ALTER DATABASE {name_of(address)} {default}")
    command = [sys.executable, str(WRITER), str(shared_postgres().port), name_of(address)]
    writers = [
        subprocess.Popen([*command, name], cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
        for name in ("a", "b")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    with PostgresStores(address) as stores:
        assert run(stores.collection("shared").count) == 2 * 4 * 50 + 50
        assert stores.names() == ["shared"]


@given(after=st.lists(st.integers(0, 150), min_size=50, max_size=50), seed=st.random_module())
@settings(max_examples=20, deadline=None)
def test_whoever_is_cancelled_takes_no_connection_along(after: list[int], seed: object) -> None:
    """A thousand upserts in all, cancelled anywhere; each happened or did not."""
    del seed
    with PostgresStores(cancelling(), connections_max=2) as stores:
        collection = stores.collection("handbook")
        batch = [Passage(str(number), "") for number in range(40)]

        async def cancelled(ticks: int) -> None:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(collection.upsert, batch, [EAST] * len(batch))
                    for _ in range(ticks):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()

        async def main() -> None:
            await collection.delete(where={})
            await collection.upsert([ONE], [EAST])
            for start in range(0, len(after), 5):
                async with trio.open_nursery() as nursery:
                    for ticks in after[start : start + 5]:
                        nursery.start_soon(cancelled, ticks)
                assert await collection.count() in (1, 1 + len(batch))
                await collection.delete(where={"source": ""})
            assert stores._pool._slots.value == 2
            assert len(stores._pool._kept) <= 2
            assert all(kept.connection.at_rest for kept in stores._pool._kept)

        run(main)


async def three_at_once(stores: PostgresStores) -> None:
    """Three calls, each on a connection of its own."""
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(stores._pool.run, lambda c: c.execute("SELECT pg_sleep(.1)"))


def test_a_server_that_was_killed_is_found_again(server: Postgres) -> None:
    """A call fails at once while it is away, and none fails for that once it is back."""
    with PostgresStores(server.database(), connections_max=3) as stores:
        collection = stores.collection("handbook")

        three = partial(three_at_once, stores)
        run(lambda: collection.upsert([ONE], [EAST]))
        run(three)
        assert len(stores._pool._kept) == 3
        server.kill()
        message = refused(collection.count)
        assert "Connection refused; check whether Postgres runs and listens there" in message
        assert "Connection refused" in refused(lambda: collection.upsert([ONE], [EAST]))
        server.start()
        run(three)
        assert run(collection.count) == 1
        server.kill()
        server.start()
        run(lambda: collection.upsert([attrs.evolve(ONE, id="two")], [EAST]))
        assert run(collection.count) == 2


def test_the_first_host_that_takes_writes_is_asked_and_another_when_it_no_longer_does(
    server: Postgres,
) -> None:
    """As with a standby that has taken over; whoever is not there is passed by."""
    ports = server.port, shared_postgres().port
    name = "switched"
    for each in (server, shared_postgres()):
        each.ask(f"CREATE DATABASE {name}")
    read_only = f"ALTER DATABASE {name} SET default_transaction_read_only = {{}}"
    server.ask(read_only.format("on"))
    hosts = f"[::1]:{ports[0]},127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}"
    url = f"postgresql://no.invalid,127.0.0.1:1,{hosts}"
    settings = PostgresSettings(
        url=f"{url}/{name}?target_session_attrs=read-write", user=USER, password_env="WORD"
    )
    with open_postgres(settings, {"WORD": PASSWORD}) as stores:
        collection = stores.collection("handbook")
        run(lambda: collection.upsert([ONE], [EAST]))
        asked = "SELECT to_regnamespace('orchestra') IS NULL"
        assert server.ask(asked, database=name)[0]
        assert not shared_postgres().ask(asked, database=name)[0]
        server.ask(read_only.format("off"))
        shared_postgres().ask(read_only.format("on"))
        (kept,) = stores._pool._kept
        run(lambda: kept.connection.execute("SET default_transaction_read_only = on"))
        assert "write the address of the server that takes writes" in refused(
            lambda: collection.upsert([ONE], [EAST])
        )
        run(lambda: collection.upsert([ONE], [EAST]))
        assert not server.ask(asked, database=name)[0]


def test_a_unix_socket_leads_there_as_well(server: Postgres) -> None:
    name = name_of(server.database())
    url = f"postgresql:///{name}?host={server.socket_folder}&port={server.port}"
    settings = PostgresSettings(url=url, user=USER, password_env="WORD")
    with open_postgres(settings, {"WORD": PASSWORD}) as stores:
        assert run(stores.collection("a").count) == 0


def test_a_server_that_dies_in_the_middle_of_a_call_fails_it(server: Postgres) -> None:
    with PostgresStores(server.database()) as stores:

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, killed)
                await stores._pool.run(lambda connection: connection.execute("SELECT pg_sleep(30)"))

        def killed() -> None:
            busy = BUSY.format("query LIKE '%pg_sleep%'")
            eventually("the call is there", lambda: server.ask(busy)[0])
            server.kill()

        with pytest.RaisesGroup(StoreError):
            run(main)
        server.start()
        assert run(stores.collection("a").count) == 0


def test_a_server_that_is_paused_fails_a_call_within_its_limit(server: Postgres) -> None:
    address = server.database()
    with PostgresStores(address) as patient, PostgresStores(address, timeout_s=1.0) as stores:
        run(lambda: patient.collection("handbook").upsert([ONE], [EAST]))
        collection = stores.collection("handbook")
        assert run(collection.count) == 1
        server.pause()
        try:
            began_s = time.monotonic()
            assert "it took longer than timeout_s = 1 s" in refused(collection.count)
            message = refused(collection.count)  # on a new connection
            assert "calls at once. Check Postgres" in message
            message = refused(lambda: collection.upsert([ONE], [EAST]))
            assert "calls at once; the change may or may not have been made. Check" in message
            assert time.monotonic() - began_s < PATIENCE_S
            with pytest.raises(StoreError, match="it took longer"):
                stores.names()
        finally:
            server.resume()
        assert run(patient.collection("handbook").count) == 1
        assert run(collection.count) == 1


def test_connections_that_lead_nowhere_fail_one_call(server: Postgres) -> None:
    """As those to a host that another has taken the place of, and that says nothing of it."""
    address = server.database()
    with PostgresStores(address, timeout_s=2.0) as stores:
        run(partial(three_at_once, stores))
        ours = "SELECT array_agg(pid) FROM pg_stat_activity WHERE application_name = 'orchestra'"
        (processes,) = server.ask(f"{ours} AND datname = '{name_of(address)}'")
        assert len(processes) == 3
        for each in processes:
            os.kill(each, signal.SIGSTOP)
        try:
            assert "it took longer" in refused(stores.collection("a").count)
            assert run(stores.collection("a").count) == 0
        finally:
            for each in processes:
                os.kill(each, signal.SIGCONT)
