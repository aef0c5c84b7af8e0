"""The keyword index of a file of collections: the words of passages, in a table of FTS5.

The theory: the table has what `stores/keywords.py` makes of each passage, as words that FTS5 takes
as they are. FTS5 only keeps where each word is; nothing is written in its query language, and the
ranking is that of all stores. A word begins with the key of its collection, so that collections are
counted apart.

Rules of the file:

1. Triggers remove a passage from the index when it changes or goes, whoever writes: also an older
   orchestra, which does not know the index. So the index may lack passages, but it is never wrong.
2. A keyword search has the passages that are missing added first. Writers add nothing, and the
   tables are made by the first keyword search: a file without such searches pays for none.
3. The index has the words as they were defined when it was made. Whoever changes `words_of` after a
   release renames the tables, so that all files are indexed anew.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing

from orchestra.errors import StoreError
from orchestra.stores.keywords import Collected, ranked, telling, words_asked, words_of
from orchestra.values import Metadata

MODULE = "fts5"
ADDED_AT_ONCE, CHARS_AT_ONCE = 500, 500_000
"""The most missing passages that one transaction adds, and about how many characters of text: other
writers wait meanwhile, some 0.1 s."""
PAUSE_S = 0.02
"""The pause between two such transactions. Without it, another process that writes waits for its
turn in vain: SQLite looks only every 0.1 s whether the file is free, and gives up after `BUSY_S`.
"""

_DROP = "DELETE FROM wording WHERE key = old.key; DELETE FROM word WHERE rowid = old.key;"
_TABLES = (
    """CREATE TABLE IF NOT EXISTS wording (
        key INTEGER PRIMARY KEY, collection INTEGER NOT NULL, id TEXT NOT NULL,
        words INTEGER NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS wording_collection ON wording (collection, words)",
    "CREATE VIRTUAL TABLE IF NOT EXISTS word USING fts5 (words, tokenize = 'ascii')",
    "CREATE VIRTUAL TABLE IF NOT EXISTS word_count USING fts5vocab (word, row)",
    "CREATE VIRTUAL TABLE IF NOT EXISTS word_place USING fts5vocab (word, instance)",
    *(
        f"CREATE TRIGGER IF NOT EXISTS after_{event} AFTER {event} ON passage BEGIN {_DROP} END"
        for event in ("delete", "update")
    ),
)
_MISSING = """
SELECT passage.key, passage.id, text, metadata FROM passage LEFT JOIN wording USING (key)
WHERE passage.collection = ? AND wording.key IS NULL LIMIT ?
"""
_IS_COMPLETE = """
SELECT (SELECT count(*) FROM passage WHERE collection = :collection)
    = (SELECT count(*) FROM wording WHERE collection = :collection)
"""
_DESCRIBED = """
SELECT wording.key, wording.id, words FROM wording JOIN json_each(?) ON value = wording.key
"""


def add_missing(db: sqlite3.Connection, collection: int) -> bool:
    """Index some passages that are not in the index, and return whether all are now.

    Raises:
        StoreError: SQLite has no FTS5.
    """
    if not is_available(db):
        raise StoreError(
            f"keyword search needs FTS5, which the SQLite {sqlite3.sqlite_version} of this Python "
            "was compiled without; use another Python, or leave out keywords=..."
        )
    for table in _TABLES:
        db.execute(table)
    added = chars = 0
    with closing(db.execute(_MISSING, (collection, ADDED_AT_ONCE))) as missing:
        for row in missing:
            _add(db, collection, row)
            added, chars = added + 1, chars + len(row[2])
            if chars >= CHARS_AT_ONCE:
                return False
    return added < ADDED_AT_ONCE


def is_available(db: sqlite3.Connection) -> bool:
    """Whether SQLite was compiled with FTS5."""
    query = "SELECT 1 FROM pragma_module_list WHERE name = ?"
    return db.execute(query, (MODULE,)).fetchone() is not None


def is_complete(db: sqlite3.Connection, collection: int) -> bool:
    """Whether all passages of a collection are in the index."""
    made = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'word_place'").fetchone()
    if made is None or not is_available(db):
        return False
    return bool(db.execute(_IS_COMPLETE, {"collection": collection}).fetchone()[0])


def search(db: sqlite3.Connection, collection: int, query: str) -> list[tuple[int, float]]:
    """The keys of all passages with a word of the query, best first, each with its score."""
    total = "SELECT count(*), coalesce(sum(words), 0) FROM wording WHERE collection = ?"
    collected = Collected(*db.execute(total, (collection,)).fetchone())
    counts = {word: _count(db, f"{collection}x{word}") for word in words_asked(query)}
    of_keys = [_hits(db, f"{collection}x{word}") for word in telling(counts)]
    keys = sorted({key for hits in of_keys for key in hits})
    ids, lengths, key_of = dict[int, str](), dict[str, int](), dict[str, int]()
    for key, name, words in db.execute(_DESCRIBED, (json.dumps(keys),)):
        ids[key], lengths[name], key_of[name] = name, words, key
    hits = [{ids[key]: count for key, count in each.items()} for each in of_keys]
    return [(key_of[name], score) for name, score in ranked(hits, lengths, collected)]


def _add(db: sqlite3.Connection, collection: int, row: tuple[int, str, str, str]) -> None:
    key, name, text, stored = row
    metadata: Metadata = json.loads(stored)
    words = words_of(text, metadata)
    listed = " ".join(f"{collection}x{word}" for word in words.elements())
    db.execute("INSERT INTO wording VALUES (?, ?, ?, ?)", (key, collection, name, words.total()))
    db.execute("INSERT INTO word (rowid, words) VALUES (?, ?)", (key, listed))


def _count(db: sqlite3.Connection, word: str) -> int:
    """The number of passages with a word."""
    found = db.execute("SELECT doc FROM word_count WHERE term = ?", (word,)).fetchone()
    return int(found[0]) if found else 0


def _hits(db: sqlite3.Connection, word: str) -> Mapping[int, int]:
    """How often a word is in each passage that has it."""
    query = "SELECT doc, count(*) FROM word_place WHERE term = ? GROUP BY doc"
    return dict(db.execute(query, (word,)))
