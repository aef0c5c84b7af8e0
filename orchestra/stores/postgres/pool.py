"""Connections to one database: a bounded number, kept for the next call.

Rules of the file:

1. Who waits for a connection gets one in turn; who leaves while waiting takes none along.
2. A connection goes back only at rest; one that is not is closed.
3. What was asked on one that was kept, and turns out to be lost, is asked again on a new one, if
   nothing can have been changed.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import attrs
import psycopg
import trio

from orchestra.errors import BindingError, StoreError
from orchestra.secret import Secret, read_secret
from orchestra.stores.postgres import connection as connections
from orchestra.stores.postgres.connection import STOP_S, TrioConnection
from orchestra.stores.postgres.refusals import explained
from orchestra.stores.postgres.schema import look

T = TypeVar("T")

IDLE_S = 60.0
"""What was not used for so long may have been forgotten on the way, and is closed."""
AGE_S = 1800.0
"""An older one is closed: behind a name there may be another server by now."""

_FAILURES = (psycopg.Error, OSError, BindingError, UnicodeEncodeError, trio.ClosedResourceError)


@attrs.frozen
class Address:
    """Where a database is, as libpq's parameters, without a password; `place` is for messages.

    A `password` that is a path is in that file, which is read for each connection.
    """

    place: str
    parameters: Mapping[str, str]
    password: Secret | Path | None = None


@attrs.frozen
class _Kept:
    connection: TrioConnection
    made_s: float
    since_s: float


class Pool:
    """At most `size` connections to a database; a call may take `timeout_s`, waiting included.

    Belongs to one `trio.run` at a time.
    """

    def __init__(self, address: Address, *, size: int, timeout_s: float) -> None:
        self.place = address.place
        self.timeout_s = timeout_s
        self._address = address
        self._size = size
        self._slots = trio.Semaphore(size)
        self._kept: list[_Kept] = []  # used last, last
        self._closed = False

    async def run(
        self, work: Callable[[TrioConnection], Awaitable[T]], timeout_s: float | None = None
    ) -> T:
        """What `work` gives on a connection. Its changes happened or did not, if it fails.

        `timeout_s` is in place of that of the pool.

        Raises:
            StoreError: the database cannot be reached, or refuses, or takes too long.
        """
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        with trio.move_on_after(limit_s):
            async with self._slots:
                return await self._asked(work)
        raise StoreError(
            f"{self.place}: it took longer than timeout_s = {limit_s:g} s, with at most "
            f"{self._size} calls at once; the change may or may not have been made. Check "
            "Postgres, or raise timeout_s or connections_max in [stores]"
        )

    def close(self) -> None:
        """Close all connections; a call that comes later raises StoreError."""
        self._closed = True
        self._drop_kept()

    def _drop_kept(self) -> None:
        kept, self._kept = self._kept, []
        for each in kept:
            each.connection.drop()

    async def _asked(self, work: Callable[[TrioConnection], Awaitable[T]]) -> T:
        password = None
        try:
            kept = self._take()
            if kept is not None:
                try:
                    return await self._used(kept.connection, kept.made_s, work)
                except psycopg.OperationalError:
                    if kept.connection.at_rest or kept.connection.begun:
                        raise
            password = self._password()
            made = await self._made(password)
            return await self._used(made, time.monotonic(), work)
        except _FAILURES as error:
            raise explained(self.place, error, password) from error

    async def _used(
        self,
        connection: TrioConnection,
        made_s: float,
        work: Callable[[TrioConnection], Awaitable[T]],
    ) -> T:
        connection.begun = False
        try:
            return await work(connection)
        except psycopg.errors.ReadOnlySqlTransaction:
            connection.drop()  # another host may be the one by now that takes writes
            raise
        except psycopg.ProgrammingError:
            connection.vector_in = None  # somebody may have removed or moved what it knew
            raise
        finally:
            if not connection.at_rest and not connection.broken:
                with trio.move_on_after(STOP_S, shield=True), suppress(psycopg.Error):
                    await connection.execute("ROLLBACK")
            if connection.at_rest and not self._closed:
                self._kept.append(_Kept(connection, made_s, time.monotonic()))
            else:
                connection.drop()
                self._drop_kept()  # they may lead nowhere, too

    def _take(self) -> _Kept | None:
        """The connection used last, of those that are still good."""
        if self._closed:
            raise StoreError(f"{self.place}: the stores are closed; open PostgresStores(...) again")
        now_s = time.monotonic()
        good = [k for k in self._kept if now_s - k.since_s < IDLE_S and now_s - k.made_s < AGE_S]
        for each in self._kept:
            if each not in good:
                each.connection.drop()
        self._kept = good
        return self._kept.pop() if self._kept else None

    async def _made(self, password: Secret | None) -> TrioConnection:
        parameters = dict(self._address.parameters)
        if password is not None:
            parameters["password"] = password.reveal()
        made = await connections.connected(parameters)
        try:
            await look(made, self.place)
        except BaseException:
            made.drop()
            raise
        return made

    def _password(self) -> Secret | None:
        found = self._address.password
        return read_secret(found, "password") if isinstance(found, Path) else found
