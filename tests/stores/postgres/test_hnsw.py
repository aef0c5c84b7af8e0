"""The approximate index in Postgres: what it finds, when it is used, how it comes and goes."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.errors import StoreError
from orchestra.stores.postgres import hnsw, searching
from orchestra.stores.postgres.connection import TrioConnection, rows
from orchestra.stores.postgres.hnsw import Index, changes
from orchestra.stores.postgres.pool import Address
from orchestra.stores.postgres.stores import PostgresStores
from orchestra.values import Passage, Scalar, Vector
from tests.servers.postgres import shared_postgres
from tests.stores.postgres.asking import EAST, ONE, name_of, refused, run
from tests.stores.test_contract import PostgresAgrees

MANY = 600
VALID = "SELECT indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid WHERE relname ~ '^passage_hnsw'"


pytestmark = pytest.mark.usefixtures("of_any_size")


def eager() -> Address:
    """A new database, in which few passages are no reason to do without the index."""
    address = shared_postgres().database()
    for each in ("seqscan", "sort", "bitmapscan"):
        shared_postgres().ask(f"ALTER DATABASE {name_of(address)} SET enable_{each} = off")
    return address


measured = cache(eager)


def indexes(address: Address) -> list[bool]:
    """Of each index that is there, whether it is valid."""
    asked = VALID.replace("indisvalid", "array_agg(indisvalid ORDER BY oid)", 1)
    return shared_postgres().ask(asked, database=name_of(address))[0] or []


class IndexedAgrees(PostgresAgrees):
    """A small collection is searched as exactly with an index as without."""

    def open(self) -> None:
        super().open()
        self.stores = self.indexed = PostgresStores(self.address, index="hnsw")
        self.both = [self.memory, self.stores.collection("it's")]

    def holds_the_same(self) -> None:
        run(self.indexed.collection("it's").index)
        super().holds_the_same()


def clustered(draw: random.Random, dimensions: int, clusters: int) -> Iterator[Vector]:
    """Vectors around some centres, as embeddings of texts are."""
    centres = [[draw.gauss(0, 1) for _ in range(dimensions)] for _ in range(clusters)]
    while True:
        yield Vector.of([x + draw.gauss(0, 0.6) for x in draw.choice(centres)])


@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(8, 48), st.integers(3, 60)),
    top=st.integers(1, 20),
    where=st.sampled_from([{}, {"even": True}, {"third": 1}]),
    first=st.integers(0, MANY),
)
@settings(max_examples=4, deadline=None)
def test_nine_of_ten_of_the_nearest_are_found(
    seed: int, shape: tuple[int, int], top: int, where: dict[str, Scalar], first: int
) -> None:
    """Of those that an exact search finds; with the same scores, in the same order, as many.

    Whether they came before or behind the index.
    """
    vectors = clustered(random.Random(seed), *shape)
    some = [
        Passage(f"{n:04}", "", metadata={"even": n % 2 == 0, "third": n % 3}) for n in range(MANY)
    ]
    with PostgresStores(measured(), index="hnsw") as stores, PostgresStores(measured()) as exact:
        collection, same = stores.collection("a"), exact.collection("a")

        async def main() -> tuple[int, int]:
            await collection.delete(where={})
            held = [next(vectors) for _ in some]
            await collection.upsert(some[:first], held[:first])
            await collection.index()
            await collection.upsert(some[first:], held[first:])
            hits = asked = 0
            for _ in range(20):
                query = next(vectors)
                found = await collection.search(query, top=top, where=where)
                expected = await same.search(query, top=top, where=where)
                assert len(found) == len(expected) == top
                assert found == sorted(found, key=lambda passage: (-passage.score, passage.id))
                scores = {each.id: each.score for each in expected}
                assert all(scores.get(each.id, each.score) == each.score for each in found)
                hits += len(scores.keys() & {each.id for each in found})
                asked += top
            return hits, asked

        hits, asked = run(main)
    assert hits >= 0.9 * asked


async def filled(stores: PostgresStores, many: int = MANY) -> Vector:
    """A collection with an index; and a question to it."""
    vectors = clustered(random.Random(1), 16, 20)
    some = [
        Passage(f"{n:04}", "", f"{n % 500}.md", metadata={"even": n % 2 == 0, "rare": n % 30 == 0})
        for n in range(many)
    ]
    await stores.collection("a").upsert(some, [next(vectors) for _ in some])
    await stores.collection("a").index()
    return next(vectors)


async def plan(stores: PostgresStores, query: Vector, where: dict[str, Scalar]) -> str:
    """What the database says it will do."""
    plans = list[str]()

    async def explained(connection: TrioConnection, asked: str, values: Any) -> list[Any]:
        lines = await rows(connection, f"EXPLAIN {asked}", values)
        plans.append("\n".join(line for (line,) in lines))
        return []

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(searching, "rows", explained)
        await stores.collection("a").search(query, top=5, where=where)
    return plans[0]


def test_the_index_is_used_where_it_helps_and_only_if_it_is_wanted(
    stores: PostgresStores, address: Address
) -> None:
    """Where a condition leaves few, Postgres goes by that; without `index` nothing is approximate."""
    query = run(lambda: filled(stores, 2000))
    shared_postgres().ask("ANALYZE orchestra.passage", database=name_of(address))
    assert "Index Scan using passage_hnsw_" in run(lambda: plan(stores, query, {}))
    assert "Index Scan using passage_hnsw_" in run(lambda: plan(stores, query, {"even": True}))
    few = run(lambda: plan(stores, query, {"source": "7.md"}))
    assert "passage_source" in few
    assert "passage_hnsw_" not in few
    with PostgresStores(address) as exact:
        assert "passage_hnsw_" not in run(lambda: plan(exact, query, {}))


def test_it_comes_and_goes_by_one_word(stores: PostgresStores, address: Address) -> None:
    with PostgresStores(address) as exact:
        for _ in range(2):
            run(lambda: filled(stores, 50))
            run(stores.collection("a").index)
            assert indexes(address) == [True]
            run(exact.collection("a").index)
            assert indexes(address) == []
        run(exact.collection("nothing").index)


def test_an_index_that_was_left_half_made_is_made_anew(
    stores: PostgresStores, address: Address
) -> None:
    """As by one who was cancelled: it waits for the transaction of somebody else, and is not valid."""
    run(lambda: filled(stores, 50))
    query = Vector.of([1.0] * 16)
    invalid = (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid::regclass::text ~ 'passage_hnsw'"
    )
    shared_postgres().ask(invalid, database=name_of(address))
    assert indexes(address) == [False]
    assert len(run(lambda: stores.collection("a").search(query, top=5))) == 5
    run(stores.collection("a").index)
    assert indexes(address) == [True]


def test_others_write_while_it_is_made_and_two_make_it_at_once(
    stores: PostgresStores, address: Address
) -> None:
    collection = stores.collection("a")
    shape = Vector.of([1.0] * 16)

    async def main() -> int:
        await filled(stores)
        with PostgresStores(address) as exact:
            await exact.collection("a").index()
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(collection.index)
                late = [Passage(f"late{number}", "")]
                nursery.start_soon(collection.upsert, late, [shape])
        return await collection.count()

    assert run(main) == MANY + 3
    assert indexes(address) == [True]
    found = run(lambda: collection.search(shape, top=3))
    assert {each.id for each in found} == {"late0", "late1", "late2"}


def test_whoever_is_cancelled_while_making_it_leaves_no_harm(
    stores: PostgresStores, address: Address
) -> None:
    collection = stores.collection("a")
    run(lambda: filled(stores, 50))
    with PostgresStores(address) as exact:
        run(exact.collection("a").index)

    async def cancelled(after_s: float) -> None:
        with trio.move_on_after(after_s):
            await collection.index()

    for after_s in (0.002, 0.005, 0.01, 0.02):
        run(partial(cancelled, after_s))
        assert run(collection.count) == 50
    run(collection.index)
    assert indexes(address) == [True]


def test_a_dropped_collection_takes_its_index_with_it(
    stores: PostgresStores, address: Address
) -> None:
    run(lambda: filled(stores, 50))
    assert indexes(address) == [True]
    assert run(stores.collection("a").drop) == 50
    assert indexes(address) == []


def test_vectors_of_another_number_of_dimensions_have_another_index(
    stores: PostgresStores, address: Address
) -> None:
    """What an index of the old ones would refuse; it goes with the next that is made."""
    collection = stores.collection("a")
    run(lambda: filled(stores, 50))
    run(lambda: collection.delete(where={}))
    run(lambda: collection.upsert([ONE], [EAST]))
    assert [each.id for each in run(lambda: collection.search(EAST, top=1))] == ["one"]
    run(collection.index)
    assert indexes(address) == [True]
    run(lambda: collection.upsert([Passage("two", "")], [EAST]))
    assert len(run(lambda: collection.search(EAST, top=9))) == 2


def test_more_dimensions_than_it_takes_are_searched_exactly(
    stores: PostgresStores, address: Address
) -> None:
    wide = Vector.of([1.0] * (hnsw.DIMENSIONS_MAX + 1))
    collection = stores.collection("a")
    run(lambda: collection.upsert([ONE], [wide]))
    run(collection.index)
    assert indexes(address) == []
    assert [each.id for each in run(lambda: collection.search(wide, top=1))] == ["one"]
    widest = Vector.of([1.0] * hnsw.DIMENSIONS_MAX)
    other = stores.collection("b")
    run(lambda: other.upsert([ONE], [widest]))
    run(other.index)
    assert indexes(address) == [True]


def test_what_the_index_cannot_give_is_searched_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than it holds in mind, and more than match of what it comes across."""
    compared = list[int]()

    async def counted(connection: TrioConnection, asked: str, values: Any) -> list[Any]:
        found = await rows(connection, asked, values)
        compared.append(found[0][-1] if found else 0)
        return found

    address = eager()
    with PostgresStores(address, index="hnsw") as stores:
        query = run(lambda: filled(stores))
        shared_postgres().ask(f"ALTER DATABASE {name_of(address)} SET hnsw.max_scan_tuples = 100")
    with PostgresStores(address, index="hnsw") as stores:
        monkeypatch.setattr(searching, "rows", counted)
        for top, where, finds, by_index in (
            (5, {}, 5, [10]),
            (5, {"even": True}, 5, [10]),
            (MANY // 2, {}, MANY // 2, [MANY]),
            (hnsw.TOP_MAX, {}, hnsw.TOP_MAX, None),
            (hnsw.TOP_MAX + 1, {}, hnsw.TOP_MAX + 1, [MANY]),
            (10**6, {}, MANY, [MANY]),
            (9, {"rare": True}, 9, None),
            (9, {"source": "7.md"}, 2, None),
            (9, {"nothing": 1}, 0, None),
        ):
            compared.clear()
            found = run(lambda: stores.collection("a").search(query, top=top, where=where))
            assert len(found) == finds
            assert by_index in (None, compared)
            if where == {"rare": True}:
                assert compared[-1] == MANY // 30, "all that match"


def test_a_large_collection_without_its_index_is_told_once(
    stores: PostgresStores, caplog: pytest.LogCaptureFixture
) -> None:
    search = stores.collection("a").search
    run(lambda: stores.collection("a").upsert([ONE], [EAST]))
    with caplog.at_level(logging.WARNING, "orchestra.stores"):
        for _ in range(2):
            run(lambda: search(EAST, top=1))
        (told,) = [record.getMessage() for record in caplog.records]
        assert "collection 'a' has no index, and 1 passages: searches are exact" in told
        assert "until `orchestra ingest FOLDER --store a` has made it" in told


def test_a_small_collection_has_none(
    stores: PostgresStores, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hnsw, "INDEXED_FROM", 51)
    run(lambda: filled(stores, 50))
    assert indexes(address) == []


def test_an_older_pgvector_is_told(stores: PostgresStores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hnsw, "_VERSION", "SELECT '0.7.4'")
    run(lambda: stores.collection("a").upsert([ONE], [EAST]))
    message = refused(stores.collection("a").index)
    assert 'index = "hnsw" needs pgvector 0.8 or later, but this is 0.7.4' in message


keys = st.integers(1, 4)
found = st.lists(
    st.builds(Index, keys, st.booleans(), st.booleans()), unique_by=lambda each: each.key
)


@given(found=found, key=keys, there=st.sets(keys), wanted=st.booleans())
def test_in_the_end_there_is_what_is_wanted_and_nothing_of_what_is_gone(
    found: list[Index], key: int, there: set[int], wanted: bool
) -> None:
    """What others are making is left to them, and the indexes of others are theirs."""
    there |= {key}
    to_do, of = changes(found, key, there, wanted=wanted), {each.key: each for each in found}
    if any(each.is_being_made for each in found):
        is_good = key in of and (of[key].is_valid or of[key].is_being_made)
        settled = is_good if wanted else key not in of
        assert to_do == (([], False) if settled else None)
        return
    assert to_do is not None
    removed, made = to_do
    left = {each for each in of if each not in removed}
    assert left <= there
    assert all(each in left for each in of if each in there and each != key)
    assert (key in left or made) == wanted
    assert key not in left or (of[key].is_valid and not made)


def test_the_search_itself_may_fail_and_says_so(stores: PostgresStores) -> None:
    run(lambda: filled(stores, 50))
    with pytest.raises(StoreError, match="2 dimensions, where the others have 16"):
        run(lambda: stores.collection("a").search(EAST, top=1))


TestIndexedAgrees = IndexedAgrees.TestCase
TestIndexedAgrees.settings = settings(max_examples=6, stateful_step_count=8, deadline=None)
