"""A psycopg connection that waits on Trio.

psycopg's own async connection uses asyncio in three places: its lock, `wait` and `connect`. These
are replaced here; everything else is psycopg's. This uses private names, so the version of psycopg
is pinned.

Rules of the file:

1. A cancellation also cancels the statement on the server, waiting at most `STOP_S` for that.
2. A connection that is not `at_rest` at the end of a call is not used again.
3. Trio is notified before a socket is closed on which a task may still wait.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import cycle
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
import trio
from psycopg import conninfo, generators, pq
from psycopg.rows import TupleRow
from psycopg.waiting import Ready, Wait

if TYPE_CHECKING:
    from psycopg.abc import PQGen, PQGenConn
    from psycopg.pq.abc import PGconn

T = TypeVar("T")

CONNECT_S = 5.0
"""The most seconds for connecting to one address."""
STOP_S = 0.25
"""The most seconds that a cancelled task waits for the server to cancel the statement."""
PORT = 5432
_USUAL = {
    "application_name": "orchestra",
    "client_encoding": "UTF8",
    "gssencmode": "disable",  # otherwise libpq would first request a Kerberos ticket, and block
    "tcp_user_timeout": "10000",
}


class TrioConnection(psycopg.AsyncConnection[TupleRow]):
    """An open connection; each statement is its own transaction, unless one is begun explicitly.

    Used by one task at a time. `vector_in` is the name of the schema with pgvector's type, or None
    as long as our own schema does not exist. `begun` is whether data may have been changed, and
    `place` names the database in messages.
    """

    def __init__(self, pgconn: PGconn) -> None:
        super().__init__(pgconn)
        self.lock = trio.Lock()  # type: ignore[assignment] # used only as a context manager
        # A pooler may use another server connection for each transaction, and that would not have
        # our prepared statements.
        self.prepare_threshold = None
        self._autocommit = True
        self.vector_in: str | None = None
        self.begun = False
        self.place = ""

    @classmethod
    def begin(cls, conninfo: str) -> PQGenConn[TrioConnection]:
        """Begin to connect: psycopg's generator, whose result is the connection."""
        return cls._connect_gen(conninfo)

    @property
    def at_rest(self) -> bool:
        """Whether it can be reused: no statement is running, and no transaction is open."""
        pgconn = self.pgconn
        idle = pgconn.transaction_status == pq.TransactionStatus.IDLE
        return idle and pgconn.pipeline_status == pq.PipelineStatus.OFF

    async def wait(
        self,
        gen: PQGen[T],
        interval: float = 0.0,
        timeout: float | None = None,  # noqa: ASYNC109 - psycopg's
    ) -> T:
        """Run psycopg's generator, and return its result.

        A cancellation cancels the running statement on the server.
        """
        del interval, timeout  # Trio needs no polling interval, and has cancel scopes
        try:
            return await _waited(gen, self.pgconn.socket)
        except (trio.Cancelled, KeyboardInterrupt):
            if self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                with trio.move_on_after(STOP_S, shield=True), suppress(psycopg.Error):
                    cancellation = self.pgconn.cancel_conn()
                    cancellation.start()
                    await _waited_anywhere(generators.cancel(cancellation))
                    await _waited(gen, self.pgconn.socket)  # the server confirms the cancellation
            raise

    def drop(self) -> None:
        """Close it at once, without waiting; may be called twice, and after the `trio.run`."""
        if self.pgconn.status == pq.ConnStatus.OK and trio.lowlevel.in_trio_run():
            trio.lowlevel.notify_closing(self.pgconn.socket)
        self.pgconn.finish()


async def connected(parameters: Mapping[str, str]) -> TrioConnection:
    """Connect to the first address that accepts a connection; `parameters` are libpq's.

    Raises:
        psycopg.Error: no address accepts one; this is the error of the last address.
        OSError: no host has an address.
    """
    last: psycopg.Error | None = None
    for address in await _addresses(parameters):
        text = conninfo.make_conninfo("", **{**_USUAL, **parameters, **address})
        with trio.move_on_after(CONNECT_S):
            try:
                return await _waited_anywhere(TrioConnection.begin(text))
            except psycopg.Error as error:
                last = error
                continue
        last = psycopg.OperationalError(f"no answer within {CONNECT_S:g} s")
    raise last or psycopg.OperationalError("the host has no address")


async def rows(connection: TrioConnection, query: str, values: Any = ()) -> list[Any]:
    """Execute a query, and return its rows."""
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(query, values)
        return await cursor.fetchall()


async def last_row(connection: TrioConnection, statements: str, values: Any) -> Any:
    """Execute several statements at once; return the first row of the last, None without one."""
    cursor = psycopg.AsyncClientCursor(connection)  # another one cannot send several
    await cursor.execute(statements, values)
    while cursor.nextset():
        pass
    return await cursor.fetchone()


async def _addresses(parameters: Mapping[str, str]) -> list[dict[str, str]]:
    """The addresses of all hosts, in order; libpq's own look-up would block.

    Raises:
        OSError: no host has an address.
    """
    if not parameters.get("host") or parameters["host"].startswith("/"):
        return [{}]
    found, failed = list[dict[str, str]](), None
    hosts, ports = parameters["host"].split(","), parameters.get("port", "").split(",")
    for host, port in zip(hosts, cycle(ports)):  # a single port applies to all hosts
        at = {"host": host, **({"port": port or str(PORT)} if any(ports) else {})}
        try:
            for each in await trio.socket.getaddrinfo(host, port or PORT, type=socket.SOCK_STREAM):
                found.append({**at, "hostaddr": str(each[4][0])})
        except OSError as error:
            failed = error
    if not found and failed is not None:
        raise failed
    return found


async def _waited(gen: PQGen[T], descriptor: int) -> T:
    try:
        wants = next(gen)
        while True:
            wants = gen.send(await _ready(descriptor, wants))
    except StopIteration as ended:
        result: T = ended.value
        return result


async def _waited_anywhere(gen: PQGenConn[T]) -> T:
    """As `_waited`, for a generator that may wait for a different socket each time."""
    try:
        descriptor, wants = next(gen)
        while True:
            descriptor, wants = gen.send(await _ready(descriptor, wants))
    except StopIteration as ended:
        result: T = ended.value
        return result


async def _ready(descriptor: int, wants: Wait) -> Ready:
    """Wait until a socket is ready to read or to write, as `wants` says, and return which."""
    if wants == Wait.R:
        await trio.lowlevel.wait_readable(descriptor)
        return Ready.R
    if wants == Wait.W:
        await trio.lowlevel.wait_writable(descriptor)
        return Ready.W
    found: list[Ready] = []

    async def first(wait: Callable[[int], Awaitable[None]], ready: Ready) -> None:
        await wait(descriptor)
        found.append(ready)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first, trio.lowlevel.wait_readable, Ready.R)
        nursery.start_soon(first, trio.lowlevel.wait_writable, Ready.W)
    return found[0] if len(found) == 1 else Ready.RW
