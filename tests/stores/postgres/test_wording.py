"""Keyword search in Postgres: tables of an older orchestra, replicas, and several collections."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from orchestra.errors import StoreError
from orchestra.stores.memory import MemoryStore
from orchestra.stores.postgres import wording
from orchestra.stores.postgres.pool import Address
from orchestra.stores.postgres.stores import PostgresStores
from orchestra.values import Passage
from tests.servers.postgres import shared_postgres
from tests.stores.postgres.asking import EAST, name_of, refused, run

SOME = [
    Passage(f"{number}\0", f"door {number} " + "wall " * (number % 3), f"{number % 2}.md")
    for number in range(25)
]
LAYOUT_1 = """
DROP TABLE orchestra.wording;
ALTER TABLE orchestra.collection DROP COLUMN worded;
UPDATE orchestra.layout SET version = 1
"""


@pytest.fixture
def stores(address: Address) -> Iterator[PostgresStores]:
    with PostgresStores(address) as opened:
        yield opened


@pytest.fixture
def of_layout_1(stores: PostgresStores, address: Address) -> PostgresStores:
    """Stores with passages that were written before there was keyword search."""
    run(lambda: stores.collection("old").upsert(SOME, [EAST] * len(SOME)))
    shared_postgres().ask(LAYOUT_1, database=name_of(address))
    return stores


async def expected(passages: list[Passage], query: str) -> list[Passage]:
    model = MemoryStore()
    await model.upsert(passages, [EAST] * len(passages))
    return await model.search_keywords(query, top=99)


def test_a_collection_of_layout_1_is_searched_by_vector_as_before(
    of_layout_1: PostgresStores,
) -> None:
    old = of_layout_1.collection("old")
    assert len(run(lambda: old.search(EAST, top=99))) == len(SOME)
    told = refused(lambda: old.search_keywords("door", top=9))
    assert "made by an orchestra without keyword search" in told
    assert "`orchestra ingest FOLDER --store old`" in told


@pytest.mark.parametrize("changed", ["", "replaced", "deleted"])
def test_its_words_are_added_with_the_index_by_two_processes_at_once(
    changed: str, of_layout_1: PostgresStores, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where passages were written, or deleted, by the new version in the meantime."""
    monkeypatch.setattr(wording, "ADDED_AT_ONCE", 4)
    new = [Passage("3\0", "a gate", "0.md"), Passage("new", "door")]
    after = {passage.id: passage for passage in SOME}

    async def main() -> None:
        old = of_layout_1.collection("old")
        if changed == "replaced":
            await old.upsert(new, [EAST] * 2)
            after.update({passage.id: passage for passage in new})
        if changed == "deleted":
            assert await old.delete(where={"source": "1.md"}) == 12
            for passage in SOME[1::2]:
                del after[passage.id]
        with PostgresStores(address) as other:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(old.index)
                nursery.start_soon(other.collection("old").index)
        for query in ("door", "wall 7", "gate"):
            found = await old.search_keywords(query, top=99)
            assert found == await expected([*after.values()], query)
        assert await old.count() == len(after)

    run(main)


def test_a_new_collection_beside_one_of_layout_1_is_searched_at_once(
    of_layout_1: PostgresStores,
) -> None:
    async def main() -> None:
        await of_layout_1.collection("new").upsert(SOME[:3], [EAST] * 3)
        found = await of_layout_1.collection("new").search_keywords("door", top=9)
        assert found == await expected(SOME[:3], "door")
        with pytest.raises(StoreError, match="without keyword search"):
            await of_layout_1.collection("old").search_keywords("door", top=9)

    run(main)


def test_a_server_that_takes_no_writes_is_searched(
    stores: PostgresStores, address: Address
) -> None:
    """As a replica: what a search needs was written with the passages."""
    run(lambda: stores.collection("a").upsert(SOME, [EAST] * len(SOME)))
    database = name_of(address)
    shared_postgres().ask(
        f'ALTER DATABASE "{database}" SET default_transaction_read_only = on', database=database
    )
    with PostgresStores(address) as replica:
        collection = replica.collection("a")
        found = run(lambda: collection.search_keywords("wall", top=99))
        assert found == run(lambda: expected(SOME, "wall"))
        assert "that of a replica" in refused(lambda: collection.upsert(SOME, [EAST] * len(SOME)))
