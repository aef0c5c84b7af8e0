"""The keyword index in Postgres: databases without one, older writers, and who may add it."""

from __future__ import annotations

import attrs
import pytest

from orchestra.secret import Secret
from orchestra.stores.postgres import wording
from orchestra.stores.postgres.collection import PostgresCollection
from orchestra.stores.postgres.pool import Address
from orchestra.stores.postgres.stores import PostgresStores
from orchestra.values import Passage
from tests.servers.postgres import PASSWORD, shared_postgres
from tests.stores.postgres.asking import EAST, name_of, refused, run

SOME = [Passage("1", "door"), Passage("2", "a wall"), Passage("3", "the roof")]
WITHOUT = (
    "DROP TRIGGER forget_words ON orchestra.passage; DROP FUNCTION orchestra.forget_words(); "
    "ALTER TABLE orchestra.passage DROP COLUMN words, DROP COLUMN word_count"
)
"""Makes the tables those of an orchestra without keyword search."""


def ask(address: Address, *statements: str) -> None:
    for statement in statements:
        shared_postgres().ask(statement, database=name_of(address))


def hits(collection: PostgresCollection, query: str) -> list[str]:
    return [each.id for each in run(lambda: collection.search_keywords(query, top=9))]


def filled(address: Address) -> None:
    with PostgresStores(address) as stores:
        run(lambda: stores.collection("a").upsert(SOME, [EAST] * 3))


def test_a_database_made_without_a_keyword_index_gets_one(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wording, "ADDED_AT_ONCE", 2)
    filled(address)
    ask(address, WITHOUT)
    with PostgresStores(address) as old, PostgresStores(address) as new:
        for stores in (old, new):  # both know the tables as they are now
            assert run(stores.collection("a").count) == 3
        assert sorted(hits(new.collection("a"), "door wall roof")) == ["1", "2", "3"]
        late = [Passage("1", "another roof"), Passage("4", "a late door")]
        run(lambda: old.collection("a").upsert(late, [EAST] * 2))
        assert sorted(hits(old.collection("a"), "door another")) == ["1", "4"]
        assert sorted(hits(new.collection("a"), "door roof")) == ["1", "3", "4"]


def test_what_an_older_orchestra_writes_is_found_by_its_new_words(address: Address) -> None:
    with PostgresStores(address) as stores:
        collection = stores.collection("a")
        run(lambda: collection.upsert(SOME, [EAST] * 3))
        ask(
            address,
            "UPDATE orchestra.passage SET text = 'window' WHERE id = '1'",
            "DELETE FROM orchestra.passage WHERE id = '2'",
            "INSERT INTO orchestra.passage (collection, id, source, text, metadata, vector) "
            "SELECT collection, '4', '', 'a new wall', '{}', vector FROM orchestra.passage "
            "WHERE id = '3'",
        )
        assert hits(collection, "door") == []
        assert hits(collection, "wall") == ["4"]
        assert hits(collection, "window roof") == ["1", "3"]


def test_a_change_that_keeps_the_words_needs_no_new_index(address: Address) -> None:
    """So a host that may only read finds all that others have written."""
    with PostgresStores(address) as stores:
        collection = stores.collection("a")
        run(lambda: collection.upsert(SOME, [EAST] * 3))
        again = [Passage("1", "Door!", metadata={"kind": "x"})]
        run(lambda: collection.upsert(again, [EAST]))
        without = "SELECT count(*) FROM orchestra.passage WHERE words IS NULL"
        assert shared_postgres().ask(without, database=name_of(address)) == (0,)
        assert hits(collection, "door") == ["1"]


def test_who_may_not_add_the_index_is_told_and_goes_on_without(address: Address) -> None:
    filled(address)
    name = name_of(address)
    guest = f"words_of_{name}"
    ask(
        address,
        WITHOUT,
        f"CREATE ROLE {guest} LOGIN PASSWORD '{PASSWORD}'",
        f"GRANT USAGE ON SCHEMA orchestra TO {guest}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA orchestra TO {guest}",
    )
    theirs = attrs.evolve(
        address, parameters={**address.parameters, "user": guest}, password=Secret(PASSWORD)
    )
    with PostgresStores(theirs) as stores:
        collection = stores.collection("a")
        run(lambda: collection.upsert([Passage("4", "a late door")], [EAST]))
        assert "run `orchestra ingest` once as that user" in refused(
            lambda: collection.search_keywords("door", top=1)
        )
        run(collection.make)
        assert run(collection.count) == 4
        with PostgresStores(address) as owner:
            run(owner.collection("b").make)
        assert hits(collection, "door") == ["1", "4"]


def test_a_passage_of_very_many_words_is_kept(address: Address) -> None:
    """Two megabytes of different words, which a `tsvector` of Postgres cannot hold."""
    long = " ".join(f"w{number}" for number in range(250_000))
    with PostgresStores(address) as stores:
        collection = stores.collection("a")
        run(lambda: collection.upsert([Passage("long", long), *SOME], [EAST] * 4))
        assert hits(collection, "w249999") == ["long"]
        assert hits(collection, "door") == ["1"]
