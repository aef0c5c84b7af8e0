"""The keyword index of the collections: the words of each passage, in a table with a GIN index.

The theory: a row has the words that `stores/keywords.py` makes of a passage, and how often it has
each. A word begins with the key of its collection, since all collections share the index. The
ranking is that of all stores (`keywords.ranked`), written in SQL, so that only the best passages
leave the database.

Rules of the file:

1. Who writes a passage writes its words, in the same transaction. So a search only reads, which a
   replica allows, too.
2. A collection that was made in layout 1 lacks words until `complete` has added them: it is not
   `worded`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import attrs

from orchestra.computed import computed
from orchestra.stores import rules
from orchestra.stores.keywords import (
    HITS_MAX,
    LENGTH,
    REPETITION,
    telling,
    weight,
    words_asked,
    words_of,
)
from orchestra.stores.postgres.connection import TrioConnection, last_row, rows
from orchestra.stores.postgres.encoding import kept, metadata_of, passage_of, restored
from orchestra.stores.postgres.searching import TOP_MAX, matching
from orchestra.stores.postgres.transactions import begin
from orchestra.values import Metadata, Passage, Scalar

ADDED_AT_ONCE = 500
"""The most passages whose missing words one transaction adds: others who write wait meanwhile."""


@attrs.frozen
class Target:
    """The collection to search: its key, and whether all of its passages have words."""

    key: int
    worded: bool


async def target(connection: TrioConnection, name: str, limit_ms: int) -> Target | None:
    """Begin a transaction that reads one snapshot, and find the collection of this name in it."""
    first = begin("REPEATABLE READ READ ONLY", limit_ms)
    row = await last_row(connection, _FIND.format(begin=first), [kept(name)])
    return None if row is None else Target(*row)


async def search(
    connection: TrioConnection, key: int, query: str, top: int, where: Mapping[str, Scalar]
) -> list[Passage]:
    """The `top` best passages with a word of the query that match `where`, best first."""
    asked = [f"{key}x{word}" for word in words_asked(query)]
    counts: Mapping[str, int] = dict(
        await rows(connection, _COUNTS, {"words": asked, "most": HITS_MAX + 1})
    )
    words = telling(counts)
    if not words:
        return []
    ((passages, in_all),) = await rows(connection, _COLLECTED, [key])
    condition, values = matching(where)
    named = {
        "key": key,
        "words": words,
        "weights": [weight(counts[word], passages) for word in words],
        "k1": REPETITION,
        "b": LENGTH,
        "average": in_all / passages,
        "scale": 10.0**rules.SCORE_PLACES,
        "top": min(top, TOP_MAX),
        **values,
    }
    return [
        passage_of(name, text, source, round(score, rules.SCORE_PLACES), metadata)
        for name, text, source, score, metadata in await rows(
            connection, _SEARCH.format(condition=condition), named
        )
    ]


async def add(connection: TrioConnection, key: int, passages: Sequence[Passage]) -> None:
    """Write the words of these passages, in the open transaction."""
    some = [(each.id, each.text, each.metadata) for each in passages]
    # A thousand words take a millisecond, in which all other tasks would wait.
    values = await computed(partial(_records, key, some), large=True)
    if values:
        statement = f"{_INSERT} {', '.join([_ROW] * len(some))} {_REPLACE}"
        await connection.execute(statement, values)


async def complete(connection: TrioConnection, key: int, after: str | None) -> str | None:
    """Write the words of some passages of layout 1, those whose ids come after `after`.

    Returns the last of these ids; None if there is no more, and the collection is `worded`.
    """
    ((worded,),) = await rows(connection, _IS_WORDED, [key])
    if worded:  # as it mostly is: a search for missing ones would read all ids
        return None
    found = await rows(connection, _MISSING, {"key": key, "after": after, "most": ADDED_AT_ONCE})
    if not found:
        await connection.execute(_WORDED, [key])
        return None
    missing = [
        Passage(restored(name), restored(text), metadata=metadata_of(metadata))
        for name, text, metadata in found
    ]
    await add(connection, key, missing)
    last: str = found[-1][0]
    return last


def _records(key: int, some: Sequence[tuple[str, str, Metadata]]) -> list[object]:
    """The values of the rows, one after the other."""
    values = list[object]()
    for name, text, metadata in some:
        words = words_of(text, metadata)
        listed = " ".join(f"{key}x{word}" for word in words)
        counted = " ".join(map(str, words.values()))
        values += [key, kept(name), words.total(), listed, counted]
    return values


_FIND = """
{begin}; SET LOCAL jit = off;
SELECT key, coalesce((to_jsonb(found) ->> 'worded')::boolean, false)
FROM orchestra.collection AS found WHERE name = %s
"""
"""In layout 1, `collection` has no column `worded`."""
_COUNTS = """
SELECT word, (
    SELECT count(*) FROM (
        SELECT FROM orchestra.wording WHERE words @> ARRAY[word] LIMIT %(most)s
    ) AS those
) FROM unnest(%(words)s::text[]) AS word
"""
_COLLECTED = "SELECT count(*), sum(length) FROM orchestra.wording WHERE collection = %s"
_SEARCH = """
WITH asked AS (
    SELECT * FROM unnest(%(words)s::text[], %(weights)s::float8[])
    WITH ORDINALITY AS _(word, weight, place)
), hit AS MATERIALIZED (
    SELECT id, length, weight, place, counts[array_position(words, word)]::float8 AS often
    FROM asked JOIN orchestra.wording ON words @> ARRAY[word]
), scored AS (
    SELECT id, sum(
        weight * often * (%(k1)s::float8 + 1)
        / (often + %(k1)s::float8 * (1 - %(b)s::float8 + %(b)s::float8 * length / %(average)s))
        ORDER BY place
    ) AS score
    FROM hit GROUP BY id
)
SELECT passage.id, text, source, score, metadata
FROM scored JOIN orchestra.passage ON collection = %(key)s AND passage.id = scored.id{condition}
ORDER BY round(score * %(scale)s) DESC, passage.id LIMIT %(top)s
"""
"""The sum is that of `keywords.ranked`, in the same order, so that the scores are equal."""
_INSERT = "INSERT INTO orchestra.wording (collection, id, length, words, counts) VALUES"
_ROW = "(%s, %s, %s, string_to_array(%s, ' '), string_to_array(%s, ' ')::integer[])"
_REPLACE = """
ON CONFLICT (collection, id) DO UPDATE
SET length = excluded.length, words = excluded.words, counts = excluded.counts
"""
_MISSING = """
SELECT id, text, metadata FROM orchestra.passage
WHERE collection = %(key)s AND (%(after)s::text IS NULL OR id > %(after)s) AND NOT EXISTS (
    SELECT FROM orchestra.wording AS there
    WHERE there.collection = passage.collection AND there.id = passage.id
) ORDER BY id LIMIT %(most)s
"""
_IS_WORDED = "SELECT worded FROM orchestra.collection WHERE key = %s"
_WORDED = "UPDATE orchestra.collection SET worded = true WHERE key = %s"
