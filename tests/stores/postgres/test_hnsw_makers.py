"""Who may make an index in Postgres, and beside whom: other ingestions, writers, other roles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import psycopg
import pytest
import trio
from psycopg import conninfo

from orchestra.stores.postgres.pool import Address
from orchestra.stores.postgres.stores import PostgresStores
from tests.patience import PATIENCE_S
from tests.servers.postgres import PASSWORD, shared_postgres
from tests.stores.postgres.asking import EAST, ONE, name_of, refused, run
from tests.stores.postgres.test_hnsw import filled, indexes

pytestmark = pytest.mark.usefixtures("of_any_size")


@contextmanager
def writing(address: Address) -> Iterator[psycopg.Connection[Any]]:
    """Somebody is writing passages: an index is under way as long as this takes."""
    server = shared_postgres().parameters(name_of(address))
    with psycopg.connect(conninfo.make_conninfo(**server, password=PASSWORD)) as writer:
        writer.execute("LOCK TABLE orchestra.passage IN ROW EXCLUSIVE MODE")
        yield writer


def test_who_has_nothing_to_change_does_not_wait_for_the_index_of_another(
    stores: PostgresStores, address: Address
) -> None:
    """It may take an hour, and an `ingest` into a small collection is done long before."""

    async def main() -> None:
        await filled(stores, 50)
        await stores.collection("b").upsert([ONE], [EAST])
        with PostgresStores(address) as exact, writing(address) as writer:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stores.collection("b").index)
                with trio.fail_after(PATIENCE_S):
                    while await trio.to_thread.run_sync(indexes, address) != [True, False]:
                        pass
                    await stores.collection("a").index()
                    await exact.collection("c").make()
                    await exact.collection("c").index()
                writer.rollback()

    run(main)
    assert indexes(address) == [True, True]


def test_who_does_not_own_the_table_is_told_who_may(
    stores: PostgresStores, address: Address
) -> None:
    """It may write passages; an index is neither made nor removed, and no passage is lost."""
    run(lambda: filled(stores, 50))
    run(lambda: stores.collection("b").upsert([ONE], [EAST]))
    name = name_of(address)
    for asked in (
        f"CREATE ROLE writer_of_{name} LOGIN PASSWORD '{PASSWORD}'",
        f"GRANT USAGE ON SCHEMA orchestra TO writer_of_{name}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA orchestra TO writer_of_{name}",
    ):
        shared_postgres().ask(asked, database=name)
    writer = attrs.evolve(address, parameters={**address.parameters, "user": f"writer_of_{name}"})
    with PostgresStores(writer, index="hnsw") as indexed, PostgresStores(writer) as exact:
        for collection in (indexed.collection("b"), exact.collection("a")):
            message = refused(collection.index)
            assert "only the owner of the table orchestra.passage can make or remove" in message
            assert "run `orchestra ingest` once as that user" in message
        assert run(exact.collection("b").count) == 1
    assert indexes(address) == [True]


def test_a_role_that_may_not_take_so_long_is_told_what_to_set(address: Address) -> None:
    with PostgresStores(address, index="hnsw") as stores:
        run(lambda: stores.collection("a").upsert([ONE], [EAST]))
    limited = f"ALTER DATABASE {name_of(address)} SET statement_timeout = "
    shared_postgres().ask(f"{limited}'1s'")
    with PostgresStores(address, index="hnsw") as stores, writing(address):
        message = refused(stores.collection("a").index)
    assert "(canceling statement due to statement timeout)" in message
    assert "ALTER ROLE the_user SET statement_timeout = 0" in message
    assert indexes(address) == [False]
    shared_postgres().ask(f"{limited}0")
    with PostgresStores(address, index="hnsw") as stores:
        run(stores.collection("a").index)
    assert indexes(address) == [True]
