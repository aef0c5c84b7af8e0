"""The collections in a Postgres with pgvector, which all hosts of a deployment share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import trio

from orchestra.closing import Closing
from orchestra.stores.postgres.collection import PostgresCollection, names_in, summaries_in
from orchestra.stores.postgres.pool import Address, Pool
from orchestra.stores.postgres.settings import CONNECTIONS_MAX, HNSW, NO_INDEX, TIMEOUT_S
from orchestra.stores.summary import StoreSummary


class PostgresStores(Closing):
    """The collections in one database. Connections are made when they are needed.

    Belongs to one `trio.run` at a time; close it, or use it in a `with` statement. At most
    `connections_max` calls are in progress at once, further ones wait in order; each may take
    `timeout_s`, including this wait. The first change creates the extension `vector` and the schema
    `orchestra` in the database. With `index="hnsw"`, searches in large collections are approximate,
    once `PostgresCollection.index` has built the index.
    """

    def __init__(
        self,
        address: Address,
        *,
        connections_max: int = CONNECTIONS_MAX,
        timeout_s: float = TIMEOUT_S,
        index: str = NO_INDEX,
    ) -> None:
        self.address = address
        self.place = address.place
        self._pool = Pool(address, size=connections_max, timeout_s=timeout_s)
        self._indexed = index == HNSW
        self._warned = set[str]()

    def collection(self, name: str) -> PostgresCollection:
        """The collection of this name; its first `upsert` or `make` creates it in the database."""
        return PostgresCollection(name, self._pool, self._indexed, self._warned)

    def names(self) -> list[str]:
        """The names of the existing collections, in order; none if our schema does not exist.

        Blocks, for at most `timeout_s`; it uses a connection of its own.

        Raises:
            StoreError: the database cannot be reached, refuses, or takes too long.
        """
        if not trio.lowlevel.in_trio_run():
            return trio.run(self._names)
        with ThreadPoolExecutor(1) as beside:
            return beside.submit(trio.run, self._names).result()

    async def summaries(self) -> list[StoreSummary]:
        """What each collection holds, by name; none if our schema does not exist.

        Raises:
            StoreError: the database cannot be reached, refuses, or takes too long.
        """
        return await self._pool.run(summaries_in)

    def close(self) -> None:
        """Close all connections that are not in use; later calls raise StoreError."""
        self._pool.close()

    async def _names(self) -> list[str]:
        pool = Pool(self.address, size=1, timeout_s=self._pool.timeout_s)
        try:
            return await pool.run(names_in)
        finally:
            pool.close()
