"""Stores in Postgres: what a database that is away, slow, other or shared does to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from orchestra.errors import StoreError
from orchestra.secret import Secret
from orchestra.stores.postgres import pool, schema
from orchestra.stores.postgres.pool import Address
from orchestra.stores.postgres.stores import PostgresStores
from orchestra.stores.summary import StoreSummary
from orchestra.testing.contracts import check_store
from orchestra.values import Passage, Vector
from tests.patience import eventually
from tests.servers.postgres import PASSWORD, Postgres, shared_postgres
from tests.stores.postgres.asking import BUSY, EAST, ONE, name_of, refused, run


@pytest.fixture
def stores(address: Address) -> Iterator[PostgresStores]:
    with PostgresStores(address, connections_max=3) as opened:
        yield opened


def count_of(busy: str, server: Postgres) -> int:
    """How many connections of ours are."""
    return int(server.ask(BUSY.format(busy))[0])


def until_none_is(busy: str, server: Postgres) -> None:
    """Wait until no connection of ours is."""
    eventually(f"no connection is {busy}", lambda: count_of(busy, server), lambda count: not count)


def test_it_keeps_the_contract(stores: PostgresStores) -> None:
    run(lambda: check_store(stores.collection("handbook")))


def test_nothing_is_made_before_something_is_to_be_kept(
    stores: PostgresStores, address: Address
) -> None:
    collection = stores.collection("handbook")
    assert stores.names() == []
    assert run(collection.count) == 0
    assert run(collection.digests) == {}
    assert run(lambda: collection.delete(where={})) == 0
    run(lambda: collection.upsert([], []))
    message = refused(lambda: collection.search(EAST, top=1))
    assert "collection 'handbook' does not exist; the database has none; make it" in message
    asked = "SELECT to_regnamespace('orchestra') IS NULL"
    assert shared_postgres().ask(asked, database=name_of(address))[0]
    run(collection.make)
    assert stores.names() == ["handbook"]
    assert run(lambda: collection.search(EAST, top=1)) == []
    message = refused(lambda: stores.collection("x").search(EAST, top=1))
    assert "the database has 'handbook'" in message


def test_a_dropped_collection_is_gone_and_the_others_stay(
    stores: PostgresStores, address: Address
) -> None:
    async def main() -> None:
        assert await stores.summaries() == []
        kept, gone = stores.collection("a"), stores.collection("b")
        assert await gone.drop() == 0
        asked = "SELECT to_regnamespace('orchestra') IS NULL"
        assert shared_postgres().ask(asked, database=name_of(address))[0], "nothing was made"
        for each in (kept, gone):
            await each.upsert([ONE, attrs.evolve(ONE, id="two")], [EAST, EAST])
        await stores.collection("empty\0").make()
        assert await stores.summaries() == [
            StoreSummary("a", 2, 1, 2),
            StoreSummary("b", 2, 1, 2),
            StoreSummary("empty\0", 0, 0, None),
        ]
        assert [await gone.drop(), await gone.drop()] == [2, 0]
        assert stores.names() == ["a", "empty\0"]
        assert len(await kept.search(EAST, top=9)) == 2
        await gone.upsert([ONE], [Vector.of([1.0, 0.0, 0.0])])
        assert await gone.count() == 1

    run(main)


def test_names_are_told_inside_of_trio_as_well(stores: PostgresStores) -> None:
    async def main() -> list[str]:
        await stores.collection("b\0").make()
        await stores.collection("a").make()
        return stores.names()

    assert run(main) == ["a", "b\0"]


def test_a_newer_layout_is_refused_and_nothing_is_changed(
    stores: PostgresStores, address: Address
) -> None:
    """Also by who was connected before it came."""
    collection = stores.collection("handbook")
    run(lambda: collection.upsert([ONE], [EAST]))
    newer = f"UPDATE orchestra.layout SET version = {schema.LAYOUT + 1}"
    shared_postgres().ask(newer, database=name_of(address))
    with PostgresStores(address) as later:
        for each in (collection, later.collection("handbook")):
            message = refused(lambda: each.upsert([ONE, ONE], [EAST, EAST]))
            layouts = f"its layout is {schema.LAYOUT + 1}, this one knows {schema.LAYOUT})"
            assert f"{layouts}, and nothing was changed" in message
        assert "newer orchestra" in refused(later.collection("handbook").count)


def test_a_schema_that_was_removed_is_made_again(stores: PostgresStores, address: Address) -> None:
    """By who was connected before, too: one call fails, and the next does not."""
    collection = stores.collection("handbook")
    for again in (collection.make, collection.count):
        run(lambda: collection.upsert([ONE], [EAST]))
        assert len(stores._pool._kept) == 1
        shared_postgres().ask("DROP SCHEMA orchestra CASCADE", database=name_of(address))
        assert "was removed while it was in use; try again" in refused(again)
        assert run(collection.count) == 0


def test_what_others_put_into_the_public_schema_is_not_called(
    stores: PostgresStores, address: Address
) -> None:
    """Postgres prefers a function of the very types that are given, wherever it is."""
    for function, result in (
        ("quote_ident(name)", "text"),
        ("round(numeric, smallint)", "numeric"),
    ):
        made = f"CREATE FUNCTION public.{function} RETURNS {result} LANGUAGE sql AS 'SELECT NULL'"
        shared_postgres().ask(made.replace("NULL", f"NULL::{result}"), database=name_of(address))
    run(lambda: check_store(stores.collection("handbook")))


def test_a_first_write_that_fails_leaves_no_schema_behind(address: Address) -> None:
    """And the connection that has made it knows."""
    with PostgresStores(address, connections_max=1) as stores:
        collection = stores.collection("handbook")
        long = Passage("".join(map(chr, range(0x4E00, 0x4E00 + 3000))), "")
        assert "may have at most 2600 bytes" in refused(lambda: collection.upsert([long], [EAST]))
        assert len(stores._pool._kept) == 1
        asked = "SELECT to_regnamespace('orchestra') IS NULL"
        assert shared_postgres().ask(asked, database=name_of(address))[0]
        run(lambda: collection.upsert([ONE], [EAST]))
        assert run(collection.count) == 1


def test_who_is_cancelled_has_the_server_stop(stores: PostgresStores) -> None:
    """Within a moment: what was asked runs no longer, and the connection is used again."""

    sleeping = "query LIKE '%pg_sleep%' AND state = 'active'"

    async def sleep() -> None:
        await stores._pool.run(lambda connection: connection.execute("SELECT pg_sleep(3000)"))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleep)
            while not await trio.to_thread.run_sync(count_of, sleeping, shared_postgres()):
                pass
            nursery.cancel_scope.cancel()
        (kept,) = stores._pool._kept
        assert kept.connection.at_rest

    run(main)
    until_none_is(sleeping, shared_postgres())


def test_a_call_that_takes_too_long_says_so_and_ends_on_the_server(address: Address) -> None:
    with PostgresStores(address, timeout_s=1.5, connections_max=1) as stores:
        message = refused(lambda: stores._pool.run(lambda c: c.execute("SELECT pg_sleep(30)")))
        assert "it took longer than timeout_s = 1.5 s, with at most 1 calls at once" in message
        until_none_is("query LIKE '%pg_sleep%' AND state = 'active'", shared_postgres())
        assert run(stores.collection("a").count) == 0


def test_a_search_leaves_nothing_set_behind(stores: PostgresStores) -> None:
    """A pooler may give the connection of the server to anybody next."""

    async def main() -> object:
        await stores.collection("a").upsert([ONE], [EAST])
        await stores.collection("a").search(EAST, top=1)
        (kept,) = stores._pool._kept
        sets = "SELECT array_agg(name) FROM pg_settings WHERE source = 'session'"
        return await (await kept.connection.execute(sets)).fetchone()

    assert run(main) == (None,)


def test_those_who_wait_get_a_connection_in_turn(address: Address) -> None:
    order = []

    async def ask(stores: PostgresStores, number: int) -> None:
        await stores._pool.run(lambda connection: connection.execute("SELECT pg_sleep(0.01)"))
        order.append(number)

    async def main() -> None:
        with PostgresStores(address, connections_max=1) as stores:
            async with trio.open_nursery() as nursery:
                for number in range(9):
                    nursery.start_soon(ask, stores, number)
                    await trio.testing.wait_all_tasks_blocked()

    run(main)
    assert order == list(range(9))


WRONG: dict[str, tuple[Callable[[Address], Address], str]] = {
    "password": (
        lambda at: attrs.evolve(at, password=Secret("wrong sesame")),
        'password authentication failed for user "orchestra"; set user, and password_env',
    ),
    "no password": (
        lambda at: attrs.evolve(at, password=None),
        "no password supplied; set user, and password_env or password_file, in [stores]",
    ),
    "database": (
        lambda at: attrs.evolve(at, parameters={**at.parameters, "dbname": "nothing"}),
        'database "nothing" does not exist; create it (createdb), or write the name',
    ),
    "port": (
        lambda at: attrs.evolve(at, parameters={**at.parameters, "port": "1"}),
        "Connection refused; check whether Postgres runs and listens there",
    ),
    "host": (
        lambda at: attrs.evolve(at, parameters={**at.parameters, "host": "no.invalid"}),
        "check whether Postgres runs and listens there, or change the url",
    ),
    "tls": (
        lambda at: attrs.evolve(at, parameters={**at.parameters, "sslmode": "require"}),
        "check sslmode in the url and ca_file in [stores]",
    ),
    "file": (
        lambda at: attrs.evolve(at, password=Path("/nowhere/word")),
        "the password file '/nowhere/word' cannot be read",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_who_is_not_let_in_is_told_what_to_do(what: str) -> None:
    change, says = WRONG[what]
    with PostgresStores(change(shared_postgres().address("postgres"))) as stores:
        message = refused(stores.collection("a").count)
        assert message.startswith(f"{stores.place}: ")
        assert says in message
        assert "sesame" not in message
        with pytest.raises(StoreError, match=f"^{stores.place}: "):
            stores.names()


def test_rights_that_are_missing_are_told(address: Address) -> None:
    ask, name = shared_postgres().ask, name_of(address)
    ask("DROP ROLE IF EXISTS guest")
    ask(f"CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'")
    ask(f"REVOKE CREATE ON DATABASE {name} FROM PUBLIC")
    guest = attrs.evolve(address, parameters={**address.parameters, "user": "guest"})
    with PostgresStores(guest) as stores:
        message = refused(stores.collection("a").make)
        assert "permission denied" in message
        assert "let an administrator run, in that database: CREATE EXTENSION" in message
        assert stores.names() == []
        for each in (
            "CREATE EXTENSION IF NOT EXISTS vector",
            "CREATE SCHEMA IF NOT EXISTS orchestra AUTHORIZATION guest",
        ):
            ask(each, database=name)
        run(lambda: check_store(stores.collection("a")))


def test_a_server_without_pgvector_is_told_what_to_install(
    stores: PostgresStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = schema.EXTENSION.replace("vector", "vektor")
    monkeypatch.setattr(schema, "EXTENSION", other)
    message = refused(stores.collection("a").make)
    assert 'extension "vektor" is not available; install pgvector on the server' in message


def test_a_database_of_another_encoding_is_refused() -> None:
    shared_postgres().ask("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with PostgresStores(shared_postgres().address("latin")) as stores:
        assert "the database has the encoding LATIN1" in refused(stores.collection("a").count)


def test_pgvector_may_be_in_a_schema_of_its_own(stores: PostgresStores, address: Address) -> None:
    """As hosted databases have it, also where that is on nobody's search path."""
    name = name_of(address)
    shared_postgres().ask('CREATE SCHEMA "Ext ensions"', database=name)
    shared_postgres().ask('CREATE EXTENSION vector SCHEMA "Ext ensions"', database=name)
    run(lambda: check_store(stores.collection("handbook")))


def test_a_collection_cannot_be_called_what_no_text_can_be(stores: PostgresStores) -> None:
    bad = stores.collection("\ud800")
    run(stores.collection("a").make)
    for call in (bad.make, bad.count, lambda: bad.search(EAST, top=1)):
        assert "remove the half of a character (the lone surrogate)" in refused(call)


@pytest.mark.parametrize("dimensions", [16_001, 40_000, 70_000])
def test_more_dimensions_than_pgvector_takes_are_told(
    stores: PostgresStores, dimensions: int
) -> None:
    wide = Vector.of([1.0] * dimensions)
    message = refused(lambda: stores.collection("a").upsert([ONE], [wide]))
    assert (
        f"the vectors have {dimensions} dimensions, but pgvector accepts at most 16000" in message
    )


def test_as_many_dimensions_as_pgvector_takes_are_kept(stores: PostgresStores) -> None:
    wide = Vector.of([1.0] * 16_000)
    run(lambda: stores.collection("a").upsert([ONE], [wide]))
    (found,) = run(lambda: stores.collection("a").search(wide, top=1))
    assert found.score == pytest.approx(1)


def test_the_file_of_a_password_is_read_for_each_new_connection(
    address: Address, tmp_path: Path
) -> None:
    """Not for each call, which would fail while somebody replaces it."""
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    with PostgresStores(attrs.evolve(address, password=file)) as stores:
        count = stores.collection("a").count
        run(count)
        file.unlink()
        run(count)
        (kept,) = stores._pool._kept
        kept.connection.drop()
        assert "the password file" in refused(count)
        file.write_text("wrong")
        assert "password authentication failed" in refused(count)
        file.write_text(PASSWORD)
        run(count)


def test_a_connection_that_was_kept_too_long_is_replaced(
    stores: PostgresStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = stores.collection("a").count
    run(count)
    (first,) = stores._pool._kept
    run(count)
    assert [kept.connection for kept in stores._pool._kept] == [first.connection]
    monkeypatch.setattr(pool, "IDLE_S", 0.0)
    run(count)
    assert first.connection.closed
    monkeypatch.undo()
    monkeypatch.setattr(pool, "AGE_S", 0.0)
    (second,) = stores._pool._kept
    run(count)
    assert second.connection.closed


def test_who_asks_closed_stores_is_told(address: Address) -> None:
    stores = PostgresStores(address)
    collection = stores.collection("a")
    run(collection.count)
    stores.close()
    stores.close()
    assert "the stores are closed" in refused(collection.count)
    until_none_is(f"datname = '{name_of(address)}'", shared_postgres())


def test_large_passages_go_both_ways(stores: PostgresStores) -> None:
    """More than a socket takes at once, while the server answers."""
    collection = stores.collection("handbook")
    some = [Passage(str(number), "x" * 100_000) for number in range(100)]
    run(lambda: collection.upsert(some, [EAST] * len(some)))
    found = run(lambda: collection.search(EAST, top=100))
    assert sum(len(passage.text) for passage in found) == 100 * 100_000
