"""Keyword search in Postgres: the words of each passage in a column, and their ranking as SQL.

The theory: the column `words` has what `stores/keywords.py` makes of a passage, as `jsonb`: each
word with how often it is there. An index finds the passages with a word, and nothing is written in
the query language of Postgres. A word begins with the key of its collection, so that collections
are counted apart. A search has two statements in one snapshot: the first counts the passages of
each word, the second ranks those with the rarest words.

Rules of the file:

1. A passage without words has to be indexed: a search that finds one has all of them indexed first.
2. A trigger removes the words of a passage that changes without them: an older orchestra may write
   to the same tables. `MARK` makes the words of two versions of a passage different.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

from orchestra.stores import keywords, rules
from orchestra.stores.keywords import LENGTH, REPETITION
from orchestra.stores.postgres.connection import TrioConnection, rows
from orchestra.stores.postgres.encoding import metadata_json, metadata_of, restored
from orchestra.stores.postgres.searching import TOP_MAX, matching
from orchestra.values import Metadata, Passage, Scalar

ADDED_AT_ONCE = 50
"""The most passages whose words are counted at once: about 5 ms, in which all other tasks wait."""
MARK = ""
"""The key of a checksum of the whole passage, beside its words."""

_COLLECTED = """
SELECT count(*), coalesce(sum(word_count), 0), EXISTS (
    SELECT FROM orchestra.passage WHERE collection = %(key)s AND word_count IS NULL
) FROM orchestra.passage WHERE collection = %(key)s AND word_count IS NOT NULL
"""
_COUNTS = """
SELECT word, (
    SELECT count(*) FROM (SELECT FROM orchestra.passage WHERE words ? word LIMIT %s) AS those
) FROM unnest(%s::text[]) AS word
"""
_RANK = """
WITH found AS (
    SELECT ctid AS at, id, (
        SELECT sum(weight * count * %(most)s / (count + %(repetition)s * (
            1 - %(length)s + %(length)s * word_count / %(average)s)))
        FROM unnest(%(words)s::text[], %(weights)s::float8[]) AS _ (word, weight),
            LATERAL (SELECT (words ->> word)::float8) AS __ (count)
    ) AS bm25
    FROM orchestra.passage WHERE words ?| %(words)s::text[]{condition}
), best AS (
    SELECT at, id, round(bm25 * %(scale)s) / %(scale)s AS score
    FROM found ORDER BY score DESC, id LIMIT %(top)s
)
SELECT best.id, text, source, score, metadata
FROM best JOIN orchestra.passage ON ctid = at ORDER BY score DESC, id
"""
_MISSING = """
SELECT id, text, metadata FROM orchestra.passage
WHERE collection = %s AND word_count IS NULL LIMIT %s
"""
_ADD = """
UPDATE orchestra.passage SET words = %s::jsonb, word_count = %s WHERE collection = %s AND id = %s
"""


def record(collection: int, passage: Passage) -> tuple[str, int]:
    """The words of a passage as `jsonb`, and how many they are."""
    return _record(collection, passage.text, passage.metadata)


async def search(
    connection: TrioConnection, collection: int, query: str, top: int, where: Mapping[str, Scalar]
) -> tuple[list[Passage], bool]:
    """The best passages with a word of the query, and whether all passages were indexed.

    If they were not, there are no passages.
    """
    if not connection.has_words:
        return [], False
    ((count, total, missing),) = await rows(connection, _COLLECTED, {"key": collection})
    if missing:
        return [], False
    asked = [f"{collection}x{word}" for word in keywords.words_asked(query)]
    counts = dict(await rows(connection, _COUNTS, [keywords.HITS_MAX + 1, asked]))
    words = keywords.telling(counts)
    if not words:
        return [], True
    condition, values = matching(where)
    named = {
        "words": words,
        "weights": [keywords.weight(counts[word], count) for word in words],
        "average": total / count,
        "repetition": REPETITION,
        "most": REPETITION + 1,
        "length": LENGTH,
        "scale": 10.0**rules.SCORE_PLACES,
        "top": min(top, TOP_MAX),
        **values,
    }
    found = await rows(connection, _RANK.format(condition=condition), named)
    passages = [
        Passage(restored(name), restored(text), restored(source), score, metadata_of(metadata))
        for name, text, source, score, metadata in found
    ]
    return passages, True


async def add_missing(connection: TrioConnection, collection: int) -> bool:
    """Index some passages that have no words, and return whether there may be more."""
    found = await rows(connection, _MISSING, [collection, ADDED_AT_ONCE])
    for name, text, metadata in found:
        words, count = _record(collection, restored(text), metadata_of(metadata))
        await connection.execute(_ADD, [words, count, collection, name])
    return len(found) == ADDED_AT_ONCE


def _record(collection: int, text: str, metadata: Metadata) -> tuple[str, int]:
    counted = keywords.words_of(text, metadata)
    mark = zlib.crc32(f"{text}\n{metadata_json(metadata)}".encode())
    words = {f"{collection}x{word}": count for word, count in counted.items()}
    return json.dumps({**words, MARK: mark}, ensure_ascii=False), counted.total()
