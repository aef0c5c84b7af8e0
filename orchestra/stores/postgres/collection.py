"""A collection in Postgres: its methods as SQL statements.

Rules of the file: each call reads with one statement, or in one snapshot; each change is one
transaction, which locks the collection.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import attrs

from orchestra.errors import StoreError
from orchestra.protocols import DIGEST, VectorStore
from orchestra.stores import rules
from orchestra.stores.postgres import hnsw, searching, wording
from orchestra.stores.postgres.connection import TrioConnection, rows
from orchestra.stores.postgres.encoding import (
    kept,
    metadata_json,
    restored,
    restored_scalar,
)
from orchestra.stores.postgres.pool import Pool
from orchestra.stores.postgres.searching import Question, matching
from orchestra.stores.postgres.transactions import read, write
from orchestra.stores.summary import StoreSummary
from orchestra.values import Passage, Scalar, Vector

T = TypeVar("T")

ROWS_AT_ONCE = 100
"""The most rows in one statement: encoding them takes about 2 ms, in which all other tasks wait."""
DIMENSIONS_MAX = 16_000
"""The most dimensions of pgvector's type `vector`."""
INDEX_S = 86_400.0
"""The most seconds that building an index may take."""

log = logging.getLogger("orchestra.stores")


@attrs.frozen
class PostgresCollection(VectorStore):
    """A `VectorStore`: one collection of a database. Get it from `PostgresStores.collection`.

    Only the direction of a vector is stored. Scores are rounded to nine places; passages with equal
    scores are ordered by id. A cancelled call has happened completely, or not at all, and its
    statement is cancelled in the database.
    """

    name: str
    _pool: Pool
    _indexed: bool = False
    _warned: set[str] = attrs.field(factory=set, eq=False, repr=False)
    """The names of the collections for which a missing index was logged."""

    async def search(
        self, vector: Vector, *, top: int, where: Mapping[str, Scalar] | None = None
    ) -> list[Passage]:
        """The `top` nearest passages that match `where`, nearest first, equal scores by id.

        Without an index, the database compares each matching vector: about 1 µs each at 256
        dimensions. With an index, the search may miss some of the nearest passages; those that it
        finds have their exact scores.

        Raises:
            StoreError: the collection does not exist, its vectors have another number of
                dimensions, `top` is less than 1, or the database does not respond or refuses.
        """
        rules.check_top(self._where, top)
        unit = rules.unit(vector, f"{self._where}: the vector")
        question = Question(unit, top, where or {})
        return await self._found(partial(self._search, question))

    async def search_keywords(
        self, query: str, *, top: int, where: Mapping[str, Scalar] | None = None
    ) -> list[Passage]:
        """The `top` best passages with a word of the query that match `where`, with their BM25.

        Raises:
            StoreError: the collection does not exist, or was made by an orchestra without keyword
                search and not ingested since; `top` is less than 1; or the database does not
                respond or refuses.
        """
        rules.check_top(self._where, top)
        return await self._found(partial(self._search_keywords, query, top, where or {}))

    async def make(self) -> None:
        """Create the collection, empty, unless it exists.

        Raises:
            StoreError: the database does not respond, or refuses.
        """
        await self._write(self._locked)

    async def index(self) -> None:
        """Build the index of the collection if it should have one, else remove the index.

        If the collection was made by an orchestra without keyword search, its words are added.

        A collection should have an index if these stores were opened with one, and if it has at
        least 10,000 passages, of at most 4,000 dimensions. Building may take minutes; others can
        read and write meanwhile. Nothing is done if the index exists, or while another process
        builds it; builds for other collections are waited for. If the call is cancelled, the next
        call builds the index from the start.

        Raises:
            StoreError: pgvector is older than 0.8, the user is not the owner of the table or has
                too short a `statement_timeout`, or the database does not respond, or refuses.
        """
        await self._complete_words()
        work = partial(read, self._index, None)
        await self._pool.run(work, timeout_s=INDEX_S)

    async def upsert(self, passages: Sequence[Passage], vectors: Sequence[Vector]) -> None:
        """Insert passages, replacing those with the same id; all of them or none.

        Of two with the same id, the later wins. Creates the collection if it does not exist. The
        first vectors set its number of dimensions, until it is empty again.

        Raises:
            StoreError: a vector, a text or a metadata value cannot be stored, or the database does
                not respond, or refuses.
        """
        pairs = await rules.checked(self._where, passages, vectors)
        if pairs:
            self._check_size(len(pairs[0][1]))
            last = {passage.id: (passage, unit) for passage, unit in pairs}
            await self._write(partial(self._upsert, list(last.values())))

    async def delete(self, *, where: Mapping[str, Scalar]) -> int:
        if not await self._read(self._find, None):
            return 0
        return await self._write(partial(self._delete, where))

    async def drop(self) -> int:
        """Remove the index, and then the collection with all its passages; return their number.

        It is 0 if the collection does not exist. If the call is cancelled or fails, all passages
        are there or none; without the index, searches are exact.

        Raises:
            StoreError: as `upsert` and `index`; no passage was removed.
        """
        if not (found := await self._read(self._find, None)):
            return 0
        settled = partial(hnsw.settle, place=self._where, key=found[0], dimensions=0, wanted=False)
        await self._pool.run(settled, timeout_s=INDEX_S)
        return await self._write(self._drop)

    async def count(self) -> int:
        return await self._read(self._count, 0)

    async def digests(self) -> dict[str, str]:
        return await self._read(self._digests, {})

    @property
    def _limit_ms(self) -> int:
        return max(1, int(self._pool.timeout_s * 1000))

    @property
    def _where(self) -> str:
        return f"{self._pool.place}: collection {self.name!r}"

    def _check_size(self, dimensions: int) -> None:
        if dimensions > DIMENSIONS_MAX:
            raise StoreError(
                f"{self._where}: the vectors have {dimensions} dimensions, but pgvector accepts at "
                f"most {DIMENSIONS_MAX}; use an embedder with fewer"
            )

    async def _found(
        self, search: Callable[[TrioConnection], Awaitable[list[Passage]]]
    ) -> list[Passage]:
        """The passages that a search has found; without our schema, there is no collection."""
        found = await self._read(search, None)
        if found is None:
            raise self._missing([])
        return found

    def _missing(self, names: Sequence[str]) -> StoreError:
        """The error for this collection if it does not exist; the database has these others."""
        return rules.missing(self._where, self.name, "the database", names)

    async def _read(self, work: Callable[[TrioConnection], Awaitable[T]], absent: T) -> T:
        return await self._pool.run(partial(read, work, absent))

    async def _write(self, work: Callable[[TrioConnection], Awaitable[T]]) -> T:
        writing = partial(write, work, self._limit_ms)
        return await self._pool.run(writing, writes=True)

    async def _find(self, connection: TrioConnection) -> tuple[int, int] | None:
        """The key and the number of dimensions; None if the collection does not exist."""
        found = await rows(
            connection,
            "SELECT key, dimensions FROM orchestra.collection WHERE name = %s",
            [kept(self.name)],
        )
        return found[0] if found else None

    async def _search(self, question: Question, connection: TrioConnection) -> list[Passage]:
        target = await searching.target(
            connection, self.name, question.top, self._limit_ms, indexed=self._indexed
        )
        if target is None:
            raise self._missing(await _names(connection))
        size, passages = len(question.vector), list[Passage]()
        if target.dimensions == size:
            found = await searching.nearest(connection, target, question)
            self._warn(target, found.compared)
            passages = found.passages
        elif await self._count(connection):
            rules.check_dimensions(self._where, expected=target.dimensions, given=size)
        await connection.execute("COMMIT")
        return passages

    async def _search_keywords(
        self, query: str, top: int, where: Mapping[str, Scalar], connection: TrioConnection
    ) -> list[Passage]:
        target = await wording.target(connection, self.name, self._limit_ms)
        if target is None:
            raise self._missing(await _names(connection))
        if not target.worded:
            raise StoreError(
                f"{self._where} was made by an orchestra without keyword search; add its words "
                f"with `orchestra ingest FOLDER --store {self.name}`, or leave out keywords=..."
            )
        found = await wording.search(connection, target.key, query, top, where)
        await connection.execute("COMMIT")
        return found

    async def _complete_words(self) -> None:
        """Add the words of passages that were stored without them, in several transactions."""
        if not await self._read(self._find, None):
            return
        after: str | None = None
        while True:
            after = await self._write(partial(self._add_words, after))
            if after is None:
                return

    async def _add_words(self, after: str | None, connection: TrioConnection) -> str | None:
        key, _ = await self._locked(connection)
        return await wording.complete(connection, key, after)

    def _warn(self, target: searching.Target, compared: int) -> None:
        """Log, once for each collection, that it should have an index but has none."""
        could_be = compared >= hnsw.INDEXED_FROM and target.dimensions <= hnsw.DIMENSIONS_MAX
        if self._indexed and could_be and not target.has_index and self.name not in self._warned:
            self._warned.add(self.name)
            log.warning(
                "%s has no index, and %d passages: searches are exact, and slower, until "
                "`orchestra ingest FOLDER --store %s` has made it",
                self._where,
                compared,
                self.name,
            )

    async def _index(self, connection: TrioConnection) -> None:
        found = await self._find(connection)
        if found is None:
            return
        key, dimensions = found
        count = await self._count(connection) if self._indexed else 0
        wanted = count >= hnsw.INDEXED_FROM and dimensions <= hnsw.DIMENSIONS_MAX
        await hnsw.settle(connection, self._where, key, dimensions, wanted=wanted)

    async def _locked(self, connection: TrioConnection) -> tuple[int, int]:
        """Lock the collection, creating it if needed; returns its key and dimensions."""
        ((key, dimensions),) = await rows(connection, _LOCK, [kept(self.name)])
        return key, dimensions

    async def _upsert(
        self, pairs: Sequence[tuple[Passage, Vector]], connection: TrioConnection
    ) -> None:
        dimensions = len(pairs[0][1])
        key, before = await self._locked(connection)
        if before != dimensions:
            if await self._count(connection):
                rules.check_dimensions(self._where, expected=before, given=dimensions)
            ((key,),) = await rows(connection, _RENEW, [dimensions, key])
        row = _ROW.format(vector_in=connection.vector_in)
        for start in range(0, len(pairs), ROWS_AT_ONCE):
            some = [_record(*pair) for pair in pairs[start : start + ROWS_AT_ONCE]]
            values = [value for record in some for value in (key, *record)]
            statement = f"{_INSERT} {', '.join([row] * len(some))} {_REPLACE}"
            await connection.execute(statement, values)
            passages = [passage for passage, _ in pairs[start : start + ROWS_AT_ONCE]]
            await wording.add(connection, key, passages)

    async def _delete(self, where: Mapping[str, Scalar], connection: TrioConnection) -> int:
        key, _ = await self._locked(connection)
        condition, values = matching(where)
        query = _DELETE.format(condition=condition)
        ((gone,),) = await rows(connection, query, {"key": key, **values})
        return int(gone)

    async def _drop(self, connection: TrioConnection) -> int:
        gone = await self._delete({}, connection)
        query = "DELETE FROM orchestra.collection WHERE name = %s"
        await connection.execute(query, [kept(self.name)])
        return gone

    async def _count(self, connection: TrioConnection) -> int:
        ((count,),) = await rows(connection, f"SELECT count(*) {_HELD}", [kept(self.name)])
        return int(count)

    async def _digests(self, connection: TrioConnection) -> dict[str, str]:
        query = f"SELECT DISTINCT source, metadata -> '{DIGEST}' {_HELD}"
        found = await rows(connection, query, [kept(self.name)])
        return rules.digests((restored(source), restored_scalar(d)) for source, d in found)


_HELD = "FROM orchestra.passage JOIN orchestra.collection ON key = collection WHERE name = %s"
_LOCK = """
INSERT INTO orchestra.collection (name, dimensions, worded) VALUES (%s, 0, true)
ON CONFLICT (name) DO UPDATE SET dimensions = collection.dimensions RETURNING key, dimensions
"""
_RENEW = """
UPDATE orchestra.collection SET key = DEFAULT, dimensions = %s WHERE key = %s RETURNING key
"""
"""Gives the collection a new key: an index belongs to one key and one number of dimensions."""
_INSERT = "INSERT INTO orchestra.passage (collection, id, source, text, metadata, vector) VALUES"
_ROW = "(%s, %s, %s, %s, %s, %s::{vector_in}.vector)"
_REPLACE = """
ON CONFLICT (collection, id) DO UPDATE SET source = excluded.source, text = excluded.text,
    metadata = excluded.metadata, vector = excluded.vector
"""
_DELETE = """
WITH gone AS (
    DELETE FROM orchestra.passage WHERE collection = %(key)s{condition} RETURNING id
), wordless AS (
    DELETE FROM orchestra.wording USING gone WHERE collection = %(key)s AND wording.id = gone.id
)
SELECT count(*) FROM gone
"""
_SUMMARIES = """
SELECT name, count(id), count(DISTINCT source), dimensions
FROM orchestra.collection LEFT JOIN orchestra.passage ON collection = key
GROUP BY key ORDER BY name
"""


async def names_in(connection: TrioConnection) -> list[str]:
    """The names of all collections, in order."""
    return await read(_names, list[str](), connection)


async def summaries_in(connection: TrioConnection) -> list[StoreSummary]:
    """What each collection holds, by name."""
    return await read(_summaries, list[StoreSummary](), connection)


async def _names(connection: TrioConnection) -> list[str]:
    found = await rows(connection, "SELECT name FROM orchestra.collection ORDER BY name", [])
    return [restored(name) for (name,) in found]


async def _summaries(connection: TrioConnection) -> list[StoreSummary]:
    return [StoreSummary.of(restored(n), *rest) for n, *rest in await rows(connection, _SUMMARIES)]


def _record(passage: Passage, vector: Vector) -> tuple[object, ...]:
    """The values of a passage's row."""
    return (
        kept(passage.id),
        kept(passage.source),
        kept(passage.text),
        metadata_json(passage.metadata),
        searching.Sent(vector),
    )
