"""The approximate index of a collection: pgvector's HNSW, made and removed as `[stores]` says.

The theory of it: each large collection has an index of its own, of its vectors in half precision,
which take half the room. It gives candidates, twice as many as are asked for, which the search
then compares exactly; so rounding costs nothing but where more than these are nearly equal. Where
a condition leaves few of what the index comes across, pgvector goes on looking, up to a limit of
its own (`hnsw.max_scan_tuples`); Postgres does without the index where the condition alone leaves
few, and so does the search where too few were found. All vectors have length 1 or 0, and so the
inner product sorts them as the cosine does, and has an opinion of those of length 0.

Rules of the file:

1. An index is made and removed beside readers and writers (`CONCURRENTLY`), in no transaction.
2. One that is not valid is under way, as the server's own view of that says, or was left by
   somebody who ended in the middle: then it is made anew.
3. Of one table, Postgres makes one index at a time, and who waits for it is waited for by it: so
   whoever finds one under way, and has something to change, comes again later.
4. The key of a collection changes with its number of dimensions, so that an index never comes
   across a vector of another.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from contextlib import suppress

import attrs
import psycopg
import trio

from orchestra.errors import StoreError
from orchestra.stores.postgres.connection import TrioConnection, rows

INDEXED_FROM = 10_000
"""Passages: fewer are searched exactly in about the time that the index would take."""
DIMENSIONS_MAX = 4_000
"""Of pgvector's index of vectors in half precision."""
AGAIN_S = 0.5
"""How often it is looked whether another index is made by now."""
VERSION_MIN = (0, 8)
"""Of pgvector: older ones do not go on looking where a condition leaves too few."""
TOP_MAX = 500
"""More are searched for exactly: `ef_search` is 1,000 at most."""
EF_SEARCH_MIN = 100
"""Candidates that pgvector holds in mind: with its own default, 40, it lost itself in a cluster
for one of 60 questions to 100,000 vectors in 500 clusters, and found none of the nearest."""

USABLE = """coalesce((
    SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('orchestra.passage_hnsw_' || key)
), false)"""
"""Whether the collection of a `key` has an index that searches may use."""
_INDEXES = """
SELECT substr(relname, 14)::bigint, indisvalid,
    EXISTS (SELECT FROM pg_stat_progress_create_index WHERE index_relid = indexrelid)
FROM pg_index JOIN pg_class ON oid = indexrelid
WHERE indrelid = to_regclass('orchestra.passage') AND relname ~ '^passage_hnsw_[0-9]+$'
"""
_NO_LOSS = "The passages are stored, and a search without an index is exact"
_VERSION = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"


@attrs.frozen
class Index:
    """An index that is there, of the collection of this key."""

    key: int
    is_valid: bool
    is_being_made: bool


def candidates(top: int) -> int:
    """How many the index has to give for `top`."""
    return 2 * top


def settings(top: int) -> str:
    """What a search with an index sets before, for its transaction."""
    in_mind = max(EF_SEARCH_MIN, candidates(min(top, TOP_MAX)))
    return (
        "set_config('hnsw.iterative_scan', 'relaxed_order', true) || "
        f"set_config('hnsw.ef_search', '{in_mind}', true)"
    )


def order(vector_in: str, dimensions: int, most: int) -> str:
    """The end of a statement that lets the index choose; `query` is the vector's name in it."""
    half = f"{vector_in}.halfvec({dimensions})"
    return (
        f" ORDER BY vector::{half} OPERATOR({vector_in}.<#>) "
        f"%(query)s::{vector_in}.vector::{half} LIMIT {most}"
    )


def changes(
    found: Collection[Index], key: int, there: Collection[int], *, wanted: bool
) -> tuple[list[int], bool] | None:
    """The keys whose index is to be removed, and whether one is to be made for `key`.

    While another index is being made, nothing is changed: None if that has to be waited for, since
    the index of `key` is not as it is to be. `there` are the keys of all collections.
    """
    mine = [each for each in found if each.key == key]
    if any(each.is_being_made for each in found):
        usable = any(each.is_valid or each.is_being_made for each in mine)
        return ([], False) if usable == wanted and bool(mine) == wanted else None
    of_no_use = {each.key for each in found if each.key not in there}
    if any(not (wanted and each.is_valid) for each in mine):
        of_no_use.add(key)
    return sorted(of_no_use), wanted and key not in {each.key for each in found} - of_no_use


async def settle(
    connection: TrioConnection, place: str, key: int, dimensions: int, *, wanted: bool
) -> None:
    """Make the index of a collection if it is `wanted`, or remove it; and what others left.

    Raises:
        StoreError: pgvector is too old for it, or the user is not the owner of the table, or may
            not take so long.
        psycopg.Error: it cannot be made.
    """
    try:
        await _settle(connection, place, key, dimensions, wanted=wanted)
    except psycopg.errors.InsufficientPrivilege as error:
        raise StoreError(
            f"{place}: only the owner of the table orchestra.passage can make or remove its "
            f"indexes ({error.diag.message_primary}); run `orchestra ingest` once as that user, or "
            f"as a member of that role. {_NO_LOSS}"
        ) from error
    except psycopg.errors.QueryCanceled as error:
        raise StoreError(
            f"{place}: Postgres has ended the work on its index ({error.diag.message_primary}); "
            "allow the role as long as it takes, such as with ALTER ROLE the_user SET "
            f"statement_timeout = 0, and run `orchestra ingest` again. {_NO_LOSS}"
        ) from error


async def _settle(
    connection: TrioConnection, place: str, key: int, dimensions: int, *, wanted: bool
) -> None:
    while True:
        found = [Index(*row) for row in await rows(connection, _INDEXES)]
        there = [row[0] for row in await rows(connection, "SELECT key FROM orchestra.collection")]
        to_do = changes(found, key, there, wanted=wanted)
        if to_do is not None:
            with suppress(psycopg.errors.DeadlockDetected):  # of two that began at once
                removed, made = to_do
                await _remove(connection, removed)
                if made:
                    await _make(connection, place, key, dimensions)
                return
        await trio.sleep(AGAIN_S * (1 + random.random()))  # noqa: S311 - not to meet again


async def _remove(connection: TrioConnection, keys: Sequence[int]) -> None:
    for key in keys:
        await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS orchestra.passage_hnsw_{key}")


async def _make(connection: TrioConnection, place: str, key: int, dimensions: int) -> None:
    await _check_version(connection, place)
    half = f"{connection.vector_in}.halfvec"
    await connection.execute(
        f"CREATE INDEX CONCURRENTLY IF NOT EXISTS passage_hnsw_{key} ON orchestra.passage "
        f"USING hnsw ((vector::{half}({dimensions})) {half}_ip_ops) WHERE collection = {key}"
    )


async def _check_version(connection: TrioConnection, place: str) -> None:
    ((version,),) = await rows(connection, _VERSION)
    if tuple(map(int, version.split(".")[:2])) < VERSION_MIN:
        raise StoreError(
            f'{place}: index = "hnsw" takes pgvector 0.8 or later, and this is {version}; install '
            "a newer one and run ALTER EXTENSION vector UPDATE, or take index out of [stores]; "
            "until then searches are exact"
        )
