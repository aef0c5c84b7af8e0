"""Writes into a collection that others write into: `writer.py PORT DATABASE NAME`."""

from __future__ import annotations

import sys

import trio

from orchestra.secret import Secret
from orchestra.stores.postgres.pool import Address
from orchestra.stores.postgres.stores import PostgresStores
from orchestra.values import Passage, Vector
from tests.servers.postgres import PASSWORD, USER


async def main(port: str, database: str, name: str) -> None:
    parameters = {"host": "127.0.0.1", "port": port, "dbname": database, "user": USER}
    with PostgresStores(Address("here", parameters, Secret(PASSWORD))) as stores:
        shared = stores.collection("shared")
        async with trio.open_nursery() as nursery:
            for task in range(4):
                some = [Passage(f"{name}{task}-{number}", "", "same") for number in range(50)]
                both = [Passage(f"both{number}", "", "same") for number in range(50)]
                vectors = [Vector.of([1.0, 0.0])] * 50
                nursery.start_soon(shared.upsert, some, vectors)
                nursery.start_soon(shared.upsert, both[:: 1 if name == "a" else -1], vectors)


if __name__ == "__main__":
    _, port, database, name = sys.argv
    trio.run(main, port, database, name)
