"""Collections in one SQLite file, searched exactly in a matrix that is cached in memory.

If the process is killed, each call has happened completely or not at all. Several processes may use
the file at once: each sees what the others have committed. A search reads one snapshot.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import attrs
import trio

from orchestra.closing import Closing
from orchestra.protocols import DIGEST, VectorStore
from orchestra.stores import keyword_index, rules
from orchestra.stores.index import ROWS_AT_ONCE, Cache, Described, Index, load
from orchestra.stores.sqlite_files.connection import FileConnection, place_of
from orchestra.stores.summary import StoreSummary
from orchestra.values import Passage, Scalar, Vector

CACHE_BYTES = 1 << 30


class SqliteStores(Closing):
    """The collections in one SQLite file. Nothing is opened or imported before it is needed.

    Belongs to one `trio.run` at a time; close it, or use it in a `with` statement. The vectors of
    searched collections are cached in memory, `CACHE_BYTES` in total: the collection that was
    searched longest ago is dropped first, but the last one is always kept. 100,000 vectors of 256
    numbers take 103 MB.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.place = str(path)
        """The path, as messages name it; stores in a database have a `place`, too."""
        self._place = place_of(self.path)
        self._reads = FileConnection(self._place, begin="BEGIN")
        self._writes = FileConnection(self._place, begin="BEGIN IMMEDIATE")
        self._cache = Cache(CACHE_BYTES)
        self._indexing = trio.Lock()

    def collection(self, name: str) -> SqliteCollection:
        """The collection of this name; its first `upsert` or `make` creates it in the file."""
        return SqliteCollection(
            self.path, name, self._reads, self._writes, self._cache, self._indexing
        )

    def names(self) -> list[str]:
        """The names of the existing collections, in order; none if there is no file.

        Blocks, for less than a millisecond.

        Raises:
            StoreError: the file is not one of ours, has disappeared since it was opened, or cannot
                be reached.
        """
        if not self._place.is_there():
            return []
        connection = FileConnection(self._place, begin="BEGIN")
        try:
            return connection.run_here(_names)
        finally:
            connection.close()

    async def summaries(self) -> list[StoreSummary]:
        """What each collection holds, by name; none if there is no file.

        Raises:
            StoreError: the file is not one of ours, or cannot be read.
        """
        return await self._reads.run(_summaries) if self._place.is_there() else []

    def close(self) -> None:
        """Close the file and drop the cache; later calls raise StoreError."""
        self._reads.close()
        self._writes.close()
        self._cache.clear()


@attrs.frozen
class SqliteCollection(VectorStore):
    """A `VectorStore`: one collection in a file. Get it from `SqliteStores.collection`.

    Only the direction of a vector is stored. Scores are rounded to nine places; passages with equal
    scores are ordered by id. A cancelled call has happened completely, or not at all.
    """

    path: Path
    name: str
    _reads: FileConnection
    _writes: FileConnection
    _cache: Cache
    _indexing: trio.Lock
    """Held by a search while it adds some words to the index, and in the pause after that: no other
    one of this process adds words then. They take turns, whichever collection they search."""

    async def search(
        self, vector: Vector, *, top: int, where: Mapping[str, Scalar] | None = None
    ) -> list[Passage]:
        """The `top` nearest passages that match `where`, nearest first, equal scores by id.

        The first search after a change reads all vectors into memory: about 5 µs each. The first
        use of a key in `where` reads all metadata.
        """
        rules.check_top(self._place, top)
        query = rules.unit(vector, f"{self._place}: the vector")
        return await self._reads.run(partial(self._search, query, top, where or {}))

    async def search_keywords(
        self, query: str, *, top: int, where: Mapping[str, Scalar] | None = None
    ) -> list[Passage]:
        """The `top` best passages with a word of the query that match `where`, with their BM25.

        The words of a passage are indexed, in the file, by the first such search after its upsert.
        """
        rules.check_top(self._place, top)
        seek = partial(self._search_keywords, query, top, where or {})
        found = await self._reads.run(partial(seek, adds=False))
        if found is not None:
            return found
        while True:
            async with self._indexing:
                found = await self._writes.run(partial(seek, adds=True))
                if found is not None:
                    return found
                await trio.sleep(keyword_index.PAUSE_S)

    async def make(self) -> None:
        """Create the collection, empty, unless it exists.

        Raises:
            StoreError: the file cannot be written.
        """
        await self._writes.run(partial(_make, self.name))

    async def upsert(self, passages: Sequence[Passage], vectors: Sequence[Vector]) -> None:
        """Insert passages, replacing those with the same id; of two with one id, the later wins.

        Creates the collection if it does not exist. The first vectors set its number of dimensions,
        until it is empty again.
        """
        pairs = await rules.checked(self._place, passages, vectors)
        await self._writes.run(partial(self._upsert, pairs))

    async def delete(self, *, where: Mapping[str, Scalar]) -> int:
        return await self._writes.run(partial(self._delete, where))

    async def drop(self) -> int:
        """Remove the collection with all its passages; return their number, 0 if it is missing.

        The file keeps its size: SQLite uses the room for what is stored later.

        Raises:
            StoreError: the file cannot be written; nothing was removed.
        """
        return await self._writes.run(self._drop)

    async def count(self) -> int:
        return await self._reads.run(partial(_count, self.name))

    async def digests(self) -> dict[str, str]:
        return await self._reads.run(partial(_digests, self.name))

    @property
    def _place(self) -> str:
        return f"{self.path}: collection {self.name!r}"

    def _there(self, db: sqlite3.Connection) -> _Collection:
        """The row of this collection. Raises StoreError if it does not exist."""
        row = _find(db, self.name)
        if row is None:
            raise rules.missing(self._place, self.name, "the file", _names(db))
        return row

    def _search(
        self, query: Vector, top: int, where: Mapping[str, Scalar], db: sqlite3.Connection
    ) -> list[Passage]:
        row = self._there(db)
        version = self._reads.opened, row.version
        index = self._cache.get(self.name, version, partial(_load, db, row, version))
        if not len(index.keys):
            return []
        rules.check_dimensions(self._place, expected=row.dimensions, given=len(query))
        rows = index.rows(where, partial(_described, db, row))
        return _passages(db, index.nearest(query, top, rows))

    def _search_keywords(
        self,
        query: str,
        top: int,
        where: Mapping[str, Scalar],
        db: sqlite3.Connection,
        *,
        adds: bool,
    ) -> list[Passage] | None:
        """What matches; None if passages are missing in the index, also after it `adds` some."""
        row = self._there(db)
        look = keyword_index.add_missing if adds else keyword_index.is_complete
        if not look(db, row.key):
            return None
        found = keyword_index.search(db, row.key, query)
        matching = (each for each in found if not where or _matches(db, each[0], where))
        return _passages(db, list(islice(matching, top)))

    def _upsert(self, pairs: Sequence[tuple[Passage, Vector]], db: sqlite3.Connection) -> None:
        if not pairs:
            return
        dimensions = len(pairs[0][1])
        row = _find(db, self.name)
        if row is None or row.dimensions != dimensions:
            if row is not None and _count(self.name, db):
                rules.check_dimensions(self._place, expected=row.dimensions, given=dimensions)
            db.execute(_MAKE, (self.name, dimensions))
        db.executemany(_UPSERT, (_record(self.name, *pair) for pair in pairs))
        db.execute(_CHANGED, (self.name,))

    def _delete(self, where: Mapping[str, Scalar], db: sqlite3.Connection) -> int:
        row = _find(db, self.name)
        if row is None:
            return 0
        gone = [
            (key,)
            for key, source, metadata in _candidates(db, row, where.get("source"))
            if rules.matches(source, json.loads(metadata), where)
        ]
        db.executemany("DELETE FROM passage WHERE key = ?", gone)
        db.execute(_CHANGED, (self.name,))
        return len(gone)

    def _drop(self, db: sqlite3.Connection) -> int:
        gone = self._delete({}, db)
        db.execute("DELETE FROM collection WHERE name = ?", (self.name,))
        return gone


@attrs.frozen
class _Collection:
    """A row of the table `collection`."""

    key: int
    dimensions: int
    version: int


_MAKE = """
INSERT INTO collection (name, dimensions) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET dimensions = excluded.dimensions
"""
_MAKE_EMPTY = "INSERT INTO collection (name, dimensions) VALUES (?, 0) ON CONFLICT DO NOTHING"
_UPSERT = """
INSERT INTO passage (collection, id, source, text, metadata, vector)
VALUES ((SELECT key FROM collection WHERE name = ?), ?, ?, ?, ?, ?)
ON CONFLICT (collection, id) DO UPDATE SET source = excluded.source, text = excluded.text,
    metadata = excluded.metadata, vector = excluded.vector
"""
_CHANGED = "UPDATE collection SET version = random() WHERE name = ?"
"""The version is random, not counted: a file that replaces another, or a restored backup, may have
the same count.
"""
_SUMMARIES = """
SELECT name, count(passage.key), count(DISTINCT source), dimensions
FROM collection LEFT JOIN passage ON collection = collection.key
GROUP BY collection.key ORDER BY name
"""
_HELD = "FROM passage JOIN collection ON collection.key = collection WHERE name = ?"


def _make(name: str, db: sqlite3.Connection) -> None:
    db.execute(_MAKE_EMPTY, (name,))


def _find(db: sqlite3.Connection, name: str) -> _Collection | None:
    found = db.execute(
        "SELECT key, dimensions, version FROM collection WHERE name = ?", (name,)
    ).fetchone()
    return _Collection(*found) if found else None


def _names(db: sqlite3.Connection) -> list[str]:
    return [name for (name,) in db.execute("SELECT name FROM collection ORDER BY name")]


def _summaries(db: sqlite3.Connection) -> list[StoreSummary]:
    return [StoreSummary.of(*row) for row in db.execute(_SUMMARIES)]


def _count(name: str, db: sqlite3.Connection) -> int:
    return int(db.execute(f"SELECT count(*) {_HELD}", (name,)).fetchone()[0])


def _digests(name: str, db: sqlite3.Connection) -> dict[str, str]:
    digest = f"json_extract(metadata, '$.{DIGEST}')"
    return rules.digests(db.execute(f"SELECT DISTINCT source, {digest} {_HELD}", (name,)))


def _candidates(
    db: sqlite3.Connection, row: _Collection, source: Scalar
) -> Iterator[tuple[int, str, str]]:
    """Key, source and metadata of the passages that may match: those of a source, or all."""
    query = "SELECT key, source, metadata FROM passage WHERE collection = ?"
    if isinstance(source, str):
        return db.execute(f"{query} AND source = ?", (row.key, source))
    return db.execute(query, (row.key,))


def _record(name: str, passage: Passage, vector: Vector) -> tuple[str, str, str, str, str, bytes]:
    metadata = json.dumps(dict(passage.metadata))
    return name, passage.id, passage.source, passage.text, metadata, vector.data


def _load(db: sqlite3.Connection, row: _Collection, version: object) -> Index:
    values = (row.key,)
    count = db.execute("SELECT count(*) FROM passage WHERE collection = ?", values).fetchone()[0]
    cursor = db.execute("SELECT key, vector FROM passage WHERE collection = ? ORDER BY id", values)
    lists = iter(partial(cursor.fetchmany, ROWS_AT_ONCE), [])
    return load(version, count, row.dimensions, lists)


def _matches(db: sqlite3.Connection, key: int, where: Mapping[str, Scalar]) -> bool:
    query = "SELECT source, metadata FROM passage WHERE key = ?"
    source, metadata = db.execute(query, (key,)).fetchone()
    return rules.matches(source, json.loads(metadata), where)


def _described(db: sqlite3.Connection, row: _Collection) -> Described:
    query = "SELECT source, metadata FROM passage WHERE collection = ? ORDER BY id"
    for source, metadata in db.execute(query, (row.key,)):
        yield source, json.loads(metadata)


def _passages(db: sqlite3.Connection, found: Sequence[tuple[int, float]]) -> list[Passage]:
    query = "SELECT id, text, source, metadata FROM passage WHERE key = ?"
    passages = []
    for key, score in found:
        name, text, source, metadata = db.execute(query, (key,)).fetchone()
        passages.append(Passage(name, text, source, score, json.loads(metadata)))
    return passages
