"""A collection in Postgres: what it is asked, as statements.

A search is exact: the database compares with all vectors, in single precision, which only rules
out what its rounding cannot bring back; the rest is compared in double precision, there too.

Rules of the file: what is read is read by one statement, or by two of which the second fails
where the first is no longer so; what is changed is changed in one transaction, which holds the
collection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import psycopg
import trio
from psycopg.adapt import Dumper
from psycopg.pq import Format

from orchestra.errors import StoreError
from orchestra.protocols import DIGEST
from orchestra.stores import rules
from orchestra.stores.postgres import schema
from orchestra.stores.postgres.encoding import (
    can_be_kept,
    equals,
    kept,
    metadata_json,
    metadata_of,
    restored,
    restored_scalar,
    vector_bytes,
)
from orchestra.stores.postgres.pool import Pool
from orchestra.values import Passage, Scalar, Vector

if TYPE_CHECKING:
    from orchestra.stores.postgres.connection import TrioConnection

T = TypeVar("T")

ROWS_AT_ONCE = 500
"""In one statement, which may have 65535 values."""
DIMENSIONS_MAX = 16_000
"""Of pgvector's `vector`."""
TOP_MAX = 2**31 - 1
"""No collection has more."""


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

        The database looks at each vector that matches: about 1 µs each at 256 numbers.

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
            self._check_size(len(vectors[0]))
            last = {passage.id: (passage, unit) for passage, unit in pairs}
            await self._write(partial(self._upsert, list(last.values())))
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

    def _check_size(self, dimensions: int) -> None:
        if dimensions > DIMENSIONS_MAX:
            raise StoreError(
                f"{self._where}: the vectors have {dimensions} numbers, and pgvector takes "
                f"{DIMENSIONS_MAX} at most; use an embedder with fewer"
            )

    def _missing(self, names: Iterable[str]) -> StoreError:
        listed = ", ".join(map(repr, names)) or "none"
        return StoreError(
            f"{self._where} does not exist; the database has {listed}; make it with "
            f"`orchestra ingest FOLDER --store {self.name}`"
        )

    async def _read(self, work: Callable[[TrioConnection], Awaitable[T]], absent: T) -> T:
        return await self._pool.run(partial(_read, work, absent, self.place))

    async def _write(self, work: Callable[[TrioConnection], Awaitable[T]]) -> T:
        limit_ms = max(1, int(self._pool.timeout_s * 1000))
        return await self._pool.run(partial(_write, work, self.place, limit_ms))

    async def _find(self, connection: TrioConnection) -> tuple[int, int] | None:
        """The key and the number of dimensions; None where there is no such collection."""
        found = await _rows(
            connection,
            "SELECT key, dimensions FROM orchestra.collection WHERE name = %s",
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
        named = {
            "query": _Sent(query),
            "key": key,
            "top": min(top, TOP_MAX),
            "scale": 10.0**rules.SCORE_PLACES,
            "margin": margin,
            **values,
        }
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
        self, pairs: Sequence[tuple[Passage, Vector]], connection: TrioConnection
    ) -> None:
        dimensions = len(pairs[0][1])
        key, before = await self._locked(connection)
        if before != dimensions:
            if await self._count(connection):
                rules.check_dimensions(self._where, expected=before, given=dimensions)
            await connection.execute(
                "UPDATE orchestra.collection SET dimensions = %s WHERE key = %s", [dimensions, key]
            )
        row = _ROW.format(vector_in=connection.vector_in)
        for start in range(0, len(pairs), ROWS_AT_ONCE):
            some = [_record(self._where, *pair) for pair in pairs[start : start + ROWS_AT_ONCE]]
            values = [value for record in some for value in (key, *record)]
            asked = f"{_INSERT} {', '.join([row] * len(some))} {_REPLACE}"
            await connection.execute(asked, values)

    async def _delete(self, where: Mapping[str, Scalar], connection: TrioConnection) -> int:
        key, _ = await self._locked(connection)
        condition, values = _matching(where)
        done = await connection.execute(f"{_DELETE}{condition}", {"key": key, **values})
        return done.rowcount

    async def _count(self, connection: TrioConnection) -> int:
        ((count,),) = await _rows(connection, f"SELECT count(*) {_HELD}", [kept(self.name)])
        return int(count)

    async def _digests(self, connection: TrioConnection) -> dict[str, str]:
        asked = f"SELECT DISTINCT source, metadata -> '{DIGEST}' {_HELD}"
        rows = await _rows(connection, asked, [kept(self.name)])
        return rules.digests((restored(source), restored_scalar(d)) for source, d in rows)


_HELD = "FROM orchestra.passage JOIN orchestra.collection ON key = collection WHERE name = %s"
_LOCK = """
INSERT INTO orchestra.collection (name, dimensions) VALUES (%s, 0)
ON CONFLICT (name) DO UPDATE SET dimensions = collection.dimensions RETURNING key, dimensions
"""
_INSERT = "INSERT INTO orchestra.passage (collection, id, source, text, metadata, vector) VALUES"
_ROW = "(%s, %s, %s, %s, %s, %s::{vector_in}.vector)"
_REPLACE = """
ON CONFLICT (collection, id) DO UPDATE SET source = excluded.source, text = excluded.text,
    metadata = excluded.metadata, vector = excluded.vector
"""
_DELETE = "DELETE FROM orchestra.passage WHERE collection = %(key)s"
_SEARCH = """
WITH near AS MATERIALIZED (
    SELECT ctid AS at, vector OPERATOR({vector_in}.<#>) %(query)s::{vector_in}.vector AS far
    FROM orchestra.passage WHERE collection = %(key)s{condition}
), bar AS (
    SELECT far FROM near ORDER BY far OFFSET %(top)s::bigint - 1 LIMIT 1
), exact AS (
    SELECT id, text, source, metadata, (
        SELECT sum(one * other::float8)
        FROM unnest(vector::real[], %(query)s::{vector_in}.vector::real[]) AS _(one, other)
    ) AS cosine
    FROM orchestra.passage WHERE ctid = ANY (ARRAY(
        SELECT at FROM near WHERE far <= coalesce((SELECT far FROM bar), 2) + %(margin)s
    ))
)
SELECT id, text, source,
    round(greatest(-1, least(1, cosine)) * %(scale)s) / %(scale)s + 0::float8 AS score, metadata
FROM exact ORDER BY score DESC, id LIMIT %(top)s
"""
"""A half is rounded to the even neighbour, as numpy and Python do; a `numeric` goes away from 0."""


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


async def names_in(place: str, connection: TrioConnection) -> list[str]:
    """The names of all collections, in order; `place` is for messages."""
    return await _read(_names, list[str](), place, connection)


async def _read(
    work: Callable[[TrioConnection], Awaitable[T]],
    absent: T,
    place: str,
    connection: TrioConnection,
) -> T:
    """What `work` reads; `absent` where nothing was made in the database yet."""
    if connection.vector_in is None:
        await schema.look(connection, place)
    return absent if connection.vector_in is None else await work(connection)


async def _write(
    work: Callable[[TrioConnection], Awaitable[T]],
    place: str,
    limit_ms: int,
    connection: TrioConnection,
) -> T:
    """What `work` does, all or nothing; the database gives up by itself if we are gone."""
    await connection.execute(
        f"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = {limit_ms}; "
        f"SET LOCAL idle_in_transaction_session_timeout = {limit_ms}"
    )
    before = connection.vector_in
    if before is None:
        await schema.make(connection, place)
    else:
        await schema.check_layout(connection, place)
    connection.begun = True
    try:
        done = await work(connection)
        await connection.execute("COMMIT")
    except BaseException:
        connection.vector_in = before  # what was made is rolled back, too
        raise
    return done


async def _rows(connection: TrioConnection, asked: str, values: Any) -> list[Any]:
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(asked, values)
        return await cursor.fetchall()


async def _names(connection: TrioConnection) -> list[str]:
    rows = await _rows(connection, "SELECT name FROM orchestra.collection ORDER BY name", [])
    return [restored(name) for (name,) in rows]


def _matching(where: Mapping[str, Scalar]) -> tuple[str, dict[str, object]]:
    """What matches `where`, as conditions of a statement, and their values."""
    conditions, values = [""], dict[str, object]()
    for key, value in where.items():
        if key == "source":
            sources = [value] if isinstance(value, str) and can_be_kept(value) else []
            asked = [("source = %({})s", kept(source)) for source in sources]
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
    texts = (
        kept(passage.id),
        kept(passage.source),
        kept(passage.text),
        metadata_json(passage.metadata),
    )
    if not all(map(can_be_kept, texts)):
        raise StoreError(
            f"{where}: passage {passage.id!r} has half of a character (a lone surrogate); "
            "leave it out"
        )
    return *texts, _Sent(vector)
