"""Reads and changes of the stores. Each change is one transaction, which makes what it needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from orchestra.stores.postgres import schema
from orchestra.stores.postgres.connection import TrioConnection

T = TypeVar("T")


def begin(level: str, limit_ms: int) -> str:
    """Statements that begin a transaction; no statement or pause in it may exceed `limit_ms`."""
    return (
        f"BEGIN ISOLATION LEVEL {level}; SET LOCAL statement_timeout = {limit_ms}; "
        f"SET LOCAL idle_in_transaction_session_timeout = {limit_ms}"
    )


async def read(
    work: Callable[[TrioConnection], Awaitable[T]], absent: T, connection: TrioConnection
) -> T:
    """Run `work`, which only reads, and return its result; `absent` if there is no schema yet."""
    if connection.vector_in is None:
        await schema.look(connection)
    return absent if connection.vector_in is None else await work(connection)


async def write(
    work: Callable[[TrioConnection], Awaitable[T]], limit_ms: int, connection: TrioConnection
) -> T:
    """Run `work` in a transaction, and return its result; creates our schema if it does not exist.

    Tables of an older layout are changed to this one. The transaction has timeouts in the database
    itself, in case this process dies.
    """
    await connection.execute(begin("READ COMMITTED", limit_ms))
    before = connection.vector_in
    if before is None or await schema.check_layout(connection) < schema.LAYOUT:
        await schema.make(connection)
    connection.begun = True
    try:
        done = await work(connection)
        await connection.execute("COMMIT")
    except BaseException:
        connection.vector_in = before  # a new schema is rolled back, too
        raise
    return done
