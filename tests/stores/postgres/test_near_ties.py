"""A search in Postgres finds what others find, in one order, also where scores nearly are equal."""

from __future__ import annotations

import random
import tempfile
from functools import cache
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.stores.memory import MemoryStore
from orchestra.stores.postgres.pool import Address
from orchestra.stores.postgres.stores import PostgresStores
from orchestra.stores.sqlite import SqliteStores
from orchestra.values import Passage, Vector
from tests.servers.postgres import shared_postgres
from tests.stores.postgres.asking import run

SOME = [Passage(str(number), "") for number in range(60)]


@cache
def database() -> Address:
    return shared_postgres().database()


@given(
    middle=st.lists(st.integers(-9, 9), min_size=2, max_size=40),
    drawn=st.randoms(use_true_random=False),
    top=st.integers(1, 30),
)
@settings(max_examples=25, deadline=None)
def test_near_ties_are_in_one_order_in_every_store(
    middle: list[int], drawn: random.Random, top: int
) -> None:
    """Around one vector, as near as the last bits of single precision and of nine places are."""

    def near() -> Vector:
        away = 2.0 ** -drawn.randint(8, 30)
        return Vector.of([x + drawn.choice([-1, 0, 0, 1]) * away for x in middle])

    vectors, found = [near() for _ in SOME], []
    with (
        tempfile.TemporaryDirectory() as folder,
        SqliteStores(Path(folder) / "store.sqlite") as sqlite,
        PostgresStores(database()) as postgres,
    ):
        for store in (MemoryStore(), sqlite.collection("a"), postgres.collection("a")):
            run(lambda: store.delete(where={}))
            run(lambda: store.upsert(SOME, vectors))
            found.append(run(lambda: store.search(Vector.of(middle), top=top)))
    assert found[0] == found[1] == found[2]
