"""A new database for each test that asks for one, on the Postgres that all of them share."""

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
    """Stores with an approximate index; a file without one has a fixture of this name itself."""
    with PostgresStores(address, index="hnsw") as opened:
        yield opened


@pytest.fixture
def of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection has an index from its first passage on."""
    monkeypatch.setattr(hnsw, "INDEXED_FROM", 1)
