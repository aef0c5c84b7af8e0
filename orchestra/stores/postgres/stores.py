"""Collections in a Postgres with pgvector, which all hosts of a deployment share.

A search is exact: the database compares with all vectors, in single precision, which only rules
out what its rounding cannot bring back; the rest is compared in double precision, there too.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import psycopg
import trio
from psycopg.adapt import Dumper
from psycopg.pq import Format

from orchestra.closing import Closing
from orchestra.errors import StoreError
from orchestra.protocols import DIGEST
from orchestra.stores import rules
from orchestra.stores.postgres import schema
from orchestra.stores.postgres.encoding import (
    equals,
    kept,
    metadata_json,
    metadata_of,
    restored,
    restored_scalar,
    vector_bytes,
)
from orchestra.stores.postgres.pool import Address, Pool
from orchestra.stores.postgres.schema import SCHEMA
from orchestra.values import Passage, Scalar, Vector

if TYPE_CHECKING:
    from orchestra.stores.postgres.connection import TrioConnection

T = TypeVar("T")

CONNECTIONS_MAX = 8
TIMEOUT_S = 10.0


class PostgresStores(Closing):
    """The collections of one database. Nothing is connected before it is needed.

    Belongs to one `trio.run` at a time; close it, or use it in a `with` statement. At most
    `connections_max` calls are under way at once, others wait in turn; each may take `timeout_s`,
    that included. What is needed in the database is made with the first collection: the schema
    `orchestra`, and the extension `vector`.
    """

    def __init__(
        self,
        address: Address,
        *,
        connections_max: int = CONNECTIONS_MAX,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.place = address.place
        self._pool = Pool(address, size=connections_max, timeout_s=timeout_s)
        self._alone = partial(Pool, address, size=1, timeout_s=timeout_s)

    def collection(self, name: str) -> PostgresCollection:
        """The collection of this name; it comes to exist with its first upsert, or by `make`."""
        return PostgresCollection(self.place, name, self._pool)

    def names(self) -> list[str]:
        """The collections that exist, in order; none if nothing was made in the database.

        Blocks, for as long as a connection takes; it has one of its own.

        Raises:
            StoreError: the database cannot be reached, or refuses, or takes too long.
        """
        if not trio.lowlevel.in_trio_run():
            return trio.run(self._names)
        found: list[list[str] | BaseException] = []
        thread = threading.Thread(target=lambda: found.append(_caught(self._names)))
        thread.start()
        thread.join()
        if isinstance(found[0], BaseException):
            raise found[0]
        return found[0]

    def close(self) -> None:
        """Close all connections; a call that comes later raises StoreError."""
        self._pool.close()

    async def _names(self) -> list[str]:
        pool = self._alone()
        try:
            return await pool.run(partial(_read, _names, []))
        finally:
            pool.close()


@attrs.frozen
class PostgresCollection:
    """A `VectorStore`: one collection of a database. Get it from `PostgresStores.collection`.

    Only the direction of a vector is stored. Scores are rounded to nine places; equal
    ones are in the order of their ids. A cancelled call either happened or did not, and the
    database has been told to stop.
    """

    place: str
    name: str
    _pool: Pool

    async def search(
        self, vector: Vector, *, top: int, where: Mapping[str, Scalar] | None = None
    ) -> list[Passage]:
        """The `top` nearest passages, nearest first, equals by id.

        The database looks at each vector of the collection: about 0.5 µs each at 256 numbers.

        Raises:
            StoreError: there is no such collection, its vectors have another number of
                dimensions, `top` is less than 1, or the database does not answer.
        """
        rules.check_top(self._where, top)
        query = rules.unit(vector, f"{self._where}: the vector")
        found = await self._read(partial(self._search, query, top, where or {}), None)
        if found is None:
            raise self._missing([])
        return found

    async def make(self) -> None:
        """Make the collection, empty, where there is none.

        Raises:
            StoreError: the database does not answer, or refuses.
        """
        await self._write(self._locked)

    async def upsert(self, passages: Sequence[Passage], vectors: Sequence[Vector]) -> None:
        """Insert, or replace those with the same id; all of them or none.

        Of two with one id the later stays. Makes the collection if there is none; the
        first vectors set its number of dimensions, until it is empty again.

        Raises:
            StoreError: a vector or a metadata value cannot be stored, or the database does not
                answer, or refuses.
        """
        pairs = rules.checked(self._where, passages, vectors)
        if pairs:
            last = {passage.id: _record(self._where, passage, unit) for passage, unit in pairs}
            await self._write(partial(self._upsert, len(vectors[0]), list(last.values())))
        else:
            await trio.lowlevel.checkpoint()

    async def delete(self, *, where: Mapping[str, Scalar]) -> int:
        """Remove the passages that match (all, if `where` is empty), and tell how many.

        Raises:
            StoreError: the database does not answer, or refuses.
        """
        if not await self._read(self._find, None):
            return 0
        return await self._write(partial(self._delete, where))

    async def count(self) -> int:
        """How many passages the collection holds; 0 if it does not exist.

        Raises:
            StoreError: the database does not answer, or refuses.
        """
        return await self._read(self._count, 0)

    async def digests(self) -> dict[str, str]:
        """Each ingested source and the digest in its passages' metadata; "" where they differ.

        Raises:
            StoreError: the database does not answer, or refuses.
        """
        return await self._read(self._digests, {})

    @property
    def _where(self) -> str:
        return f"{self.place}: collection {self.name!r}"

    def _missing(self, names: Iterable[str]) -> StoreError:
        listed = ", ".join(map(repr, names)) or "none"
        return StoreError(
            f"{self._where} does not exist; the database has {listed}; make it with "
            f"`orchestra ingest FOLDER --store {self.name}`"
        )

    async def _read(self, work: Callable[[TrioConnection], Awaitable[T]], absent: T) -> T:
        return await self._pool.run(partial(_read, work, absent))

    async def _write(self, work: Callable[[TrioConnection], Awaitable[T]]) -> T:
        limit_ms = max(1, int(self._pool.timeout_s * 1000))
        return await self._pool.run(partial(_write, work, self.place, limit_ms))

    async def _find(self, connection: TrioConnection) -> tuple[int, int] | None:
        """The key and the number of dimensions; None where there is no such collection."""
        found = await _rows(
            connection,
            f"SELECT key, dimensions FROM {SCHEMA}.collection WHERE name = %s",
            [kept(self.name)],
        )
        return found[0] if found else None

    async def _search(
        self, query: Vector, top: int, where: Mapping[str, Scalar], connection: TrioConnection
    ) -> list[Passage] | None:
        found = await self._find(connection)
        if found is None:
            raise self._missing(await _names(connection))
        key, dimensions = found
        if dimensions != len(query):
            if await self._count(connection):
                rules.check_dimensions(self._where, expected=dimensions, given=len(query))
            return []
        condition, values = _matching(where)
        asked = _SEARCH.format(vector_in=connection.vector_in, condition=condition)
        margin = 2 * (len(query) + 2) * 2.0**-23  # of two float32 products, as in stores/index.py
        named = {"query": _Sent(query), "key": key, "top": top, "margin": margin, **values}
        rows = await _rows(connection, asked, named)
        return [
            Passage(restored(name), restored(text), restored(source), score, metadata_of(metadata))
            for name, text, source, score, metadata in rows
        ]

    async def _locked(self, connection: TrioConnection) -> tuple[int, int]:
        """The key and the dimensions of the collection, which others cannot change meanwhile."""
        ((key, dimensions),) = await _rows(connection, _LOCK, [kept(self.name)])
        return key, dimensions

    async def _upsert(
        self, dimensions: int, records: Sequence[Sequence[object]], connection: TrioConnection
    ) -> None:
        key, before = await self._locked(connection)
        if before != dimensions:
            if await self._count(connection):
                rules.check_dimensions(self._where, expected=before, given=dimensions)
            await connection.execute(
                f"UPDATE {SCHEMA}.collection SET dimensions = %s WHERE key = %s", [dimensions, key]
            )
        asked = _UPSERT.format(vector_in=connection.vector_in)
        async with connection.cursor() as cursor:
            await cursor.executemany(asked, [(key, *record) for record in records])

    async def _delete(self, where: Mapping[str, Scalar], connection: TrioConnection) -> int:
        key, _ = await self._locked(connection)
        condition, values = _matching(where)
        asked = f"DELETE FROM {SCHEMA}.passage WHERE collection = %(key)s{condition}"
        return (await connection.execute(asked, {"key": key, **values})).rowcount

    async def _count(self, connection: TrioConnection) -> int:
        ((count,),) = await _rows(connection, f"SELECT count(*) {_HELD}", [kept(self.name)])
        return int(count)

    async def _digests(self, connection: TrioConnection) -> dict[str, str]:
        asked = f"SELECT DISTINCT source, metadata -> '{DIGEST}' {_HELD}"
        rows = await _rows(connection, asked, [kept(self.name)])
        return rules.digests((restored(source), restored_scalar(d)) for source, d in rows)


_HELD = f"FROM {SCHEMA}.passage JOIN {SCHEMA}.collection ON key = collection WHERE name = %s"
_LOCK = f"""
INSERT INTO {SCHEMA}.collection (name, dimensions) VALUES (%s, 0)
ON CONFLICT (name) DO UPDATE SET dimensions = collection.dimensions RETURNING key, dimensions
"""
_UPSERT = f"""
INSERT INTO {SCHEMA}.passage (collection, id, source, text, metadata, vector)
VALUES (%s, %s, %s, %s, %s::jsonb, %s::{{vector_in}}.vector)
ON CONFLICT (collection, id) DO UPDATE SET source = excluded.source, text = excluded.text,
    metadata = excluded.metadata, vector = excluded.vector
"""
_SEARCH = f"""
WITH near AS MATERIALIZED (
    SELECT ctid AS at, vector OPERATOR({{vector_in}}.<#>) %(query)s::{{vector_in}}.vector AS far
    FROM {SCHEMA}.passage WHERE collection = %(key)s{{condition}}
), bar AS (
    SELECT far FROM near ORDER BY far OFFSET %(top)s::bigint - 1 LIMIT 1
), exact AS (
    SELECT id, text, source, metadata, (
        SELECT sum(one * other::float8)
        FROM unnest(vector::real[], %(query)s::{{vector_in}}.vector::real[]) AS _(one, other)
    ) AS cosine
    FROM {SCHEMA}.passage WHERE ctid = ANY (ARRAY(
        SELECT at FROM near WHERE far <= coalesce((SELECT far FROM bar), 2) + %(margin)s
    ))
)
SELECT id, text, source,
    round(greatest(-1, least(1, cosine))::numeric, {rules.SCORE_PLACES})::float8 AS score, metadata
FROM exact ORDER BY score DESC, id LIMIT %(top)s
"""


class _Sent:
    """A vector on its way to the database."""

    def __init__(self, vector: Vector) -> None:
        self.data = vector_bytes(vector)


class _SentDumper(Dumper):
    """Gives the bytes as they are; of which type they are, the statement says."""

    format = Format.BINARY

    def dump(self, obj: _Sent) -> bytes:
        return obj.data


psycopg.adapters.register_dumper(_Sent, _SentDumper)


async def _read(
    work: Callable[[TrioConnection], Awaitable[T]], absent: T, connection: TrioConnection
) -> T:
    """What `work` reads; `absent` where nothing was made in the database yet."""
    if connection.vector_in is None:
        await schema.look(connection, "")
    return absent if connection.vector_in is None else await work(connection)


async def _write(
    work: Callable[[TrioConnection], Awaitable[T]],
    place: str,
    limit_ms: int,
    connection: TrioConnection,
) -> T:
    """What `work` does, all or nothing; the database gives up by itself if we are gone."""
    await connection.execute(
        f"BEGIN; SET LOCAL statement_timeout = {limit_ms}; "
        f"SET LOCAL idle_in_transaction_session_timeout = {limit_ms}"
    )
    if connection.vector_in is None:
        await schema.make(connection, place)
    else:
        await schema.check_layout(connection, place)
    connection.begun = True
    done = await work(connection)
    await connection.execute("COMMIT")
    return done


async def _rows(connection: TrioConnection, asked: str, values: Any) -> list[Any]:
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(asked, values)
        return await cursor.fetchall()


async def _names(connection: TrioConnection) -> list[str]:
    rows = await _rows(connection, f"SELECT name FROM {SCHEMA}.collection ORDER BY name", [])
    return [restored(name) for (name,) in rows]


def _matching(where: Mapping[str, Scalar]) -> tuple[str, dict[str, object]]:
    """What matches `where`, as conditions of a statement, and their values."""
    conditions, values = [""], dict[str, object]()
    for key, value in where.items():
        if key == "source":
            asked = [("source = %({})s", kept(value))] if isinstance(value, str) else []
        else:
            asked = [("metadata @> %({})s::jsonb", each) for each in equals(key, value)]
        either = []
        for condition, each in asked:
            values[name := f"v{len(values)}"] = each
            either.append(condition.format(name))
        conditions.append(f"({' OR '.join(either) or 'false'})")
    return " AND ".join(conditions), values


def _record(where: str, passage: Passage, vector: Vector) -> tuple[object, ...]:
    """A passage as a row.

    Raises:
        StoreError: a text in it is none that can be stored.
    """
    texts = kept(passage.id), kept(passage.source), kept(passage.text)
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise StoreError(
                f"{where}: passage {passage.id!r} has half of a character (a lone surrogate); "
                "leave it out"
            ) from error
    return *texts, metadata_json(passage.metadata), _Sent(vector)


def _caught(work: Callable[[], Awaitable[T]]) -> T | BaseException:
    try:
        return trio.run(work)
    except BaseException as error:  # noqa: BLE001 - it is raised where it was asked
        return error
