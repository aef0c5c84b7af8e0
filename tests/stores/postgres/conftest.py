"""A new database for each test that needs one, on a Postgres that all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestra.stores.postgres import hnsw
from orchestra.stores.postgres.pool import Address
from orchestra.stores.postgres.stores import PostgresStores
from tests.servers.postgres import shared_postgres


@pytest.fixture
def address() -> Address:
    return shared_postgres().database()


@pytest.fixture
def stores(address: Address) -> Iterator[PostgresStores]:
    """Stores with an approximate index; files that want none have their own fixture of this name."""
    with PostgresStores(address, index="hnsw") as opened:
        yield opened


@pytest.fixture
def of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let collections have an index from their first passage on."""
    monkeypatch.setattr(hnsw, "INDEXED_FROM", 1)
