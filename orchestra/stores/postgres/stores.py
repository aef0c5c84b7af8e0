"""The collections of a Postgres with pgvector, which all hosts of a deployment share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import trio

from orchestra.closing import Closing
from orchestra.stores.postgres.collection import PostgresCollection, names_in
from orchestra.stores.postgres.pool import Address, Pool
from orchestra.stores.postgres.settings import CONNECTIONS_MAX, HNSW, NO_INDEX, TIMEOUT_S


class PostgresStores(Closing):
    """The collections of one database. Nothing is connected before it is needed.

    Belongs to one `trio.run` at a time; close it, or use it in a `with` statement. At most
    `connections_max` calls are under way at once, others wait in turn; each may take `timeout_s`,
    that included. What is needed in the database is made with the first collection: the schema
    `orchestra`, and the extension `vector`. With `index="hnsw"`, searches in large collections are
    approximate, once `PostgresCollection.index` has made the index.
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
        self._told = set[str]()
        self._alone = partial(Pool, address, size=1, timeout_s=timeout_s)

    def collection(self, name: str) -> PostgresCollection:
        """The collection of this name; it comes to exist with its first upsert, or by `make`."""
        return PostgresCollection(self.place, name, self._pool, self._indexed, self._told)

    def names(self) -> list[str]:
        """The collections that exist, in order; none if nothing was made in the database.

        Blocks, for `timeout_s` at most; it has a connection of its own.

        Raises:
            StoreError: the database cannot be reached, or refuses, or takes too long.
        """
        if not trio.lowlevel.in_trio_run():
            return trio.run(self._names)
        with ThreadPoolExecutor(1) as beside:
            return beside.submit(trio.run, self._names).result()

    def close(self) -> None:
        """Close all connections; a call that comes later raises StoreError."""
        self._pool.close()

    async def _names(self) -> list[str]:
        pool = self._alone()
        try:
            return await pool.run(partial(names_in, self.place))
        finally:
            pool.close()
