"""The approximate index of a collection: pgvector's HNSW, built and removed as `[stores]` says.

The theory: each large collection has its own index, of its vectors in half precision, which take
half the space. The index returns candidates, twice as many as requested, and the search compares
these exactly. So rounding to half precision matters only if more candidates than these are nearly
equal. If only few candidates match `where`, pgvector goes on scanning the index, up to a limit of
its own (`hnsw.max_scan_tuples`). Postgres does not use the index if `where` alone selects few rows,
and the search falls back to an exact one if the index has found too few. All vectors have length 1
or 0, so the inner product orders them like the cosine, and is also defined for length 0.

Rules of the file:

1. An index is built and removed while others read and write (`CONCURRENTLY`), outside of any
   transaction.
2. An index that is not valid is either being built, as the server's progress view tells, or was
   left by a build that was interrupted: then it is built again.
3. Postgres builds one index of a table at a time, and a build waits for whoever waits for it, which
   is a deadlock. So whoever wants a change while another index is being built tries again later.
4. The key of a collection changes with its number of dimensions, so that no index ever contains
   vectors of different dimensions.
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
"""The fewest passages for an index; an exact search of fewer is about as fast as the index."""
DIMENSIONS_MAX = 4_000
"""The most dimensions of a pgvector index in half precision."""
AGAIN_S = 0.5
"""How long to wait before checking again whether another index has been built, in seconds."""
VERSION_MIN = (0, 8)
"""The oldest supported pgvector: older versions do not go on scanning if too few rows match."""
TOP_MAX = 500
"""The most passages to search with an index, since `ef_search` can be at most 1,000."""
EF_SEARCH_MIN = 100
"""The fewest candidates that pgvector tracks during a search. With its own default, 40, one of 60
searches in 100,000 vectors, in 500 clusters, got stuck in a wrong cluster and found none of the
nearest vectors.
"""

USABLE = """coalesce((
    SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('orchestra.passage_hnsw_' || key)
), false)"""
"""An SQL expression: whether the collection with this `key` has an index that searches can use."""
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
    """An existing index, of the collection with this key."""

    key: int
    is_valid: bool
    is_being_made: bool


def candidates(top: int) -> int:
    """How many candidates the index must return to find `top` passages."""
    return 2 * top


def settings(top: int) -> str:
    """The SQL expression that configures a search with an index, for its transaction only."""
    ef_search = max(EF_SEARCH_MIN, candidates(min(top, TOP_MAX)))
    return (
        "set_config('hnsw.iterative_scan', 'relaxed_order', true) || "
        f"set_config('hnsw.ef_search', '{ef_search}', true)"
    )


def order(vector_in: str, dimensions: int, most: int) -> str:
    """The ORDER BY and LIMIT of a statement that uses the index; its parameter is `query`."""
    half = f"{vector_in}.halfvec({dimensions})"
    return (
        f" ORDER BY vector::{half} OPERATOR({vector_in}.<#>) "
        f"%(query)s::{vector_in}.vector::{half} LIMIT {most}"
    )


def changes(
    found: Collection[Index], key: int, there: Collection[int], *, wanted: bool
) -> tuple[list[int], bool] | None:
    """The keys whose indexes must be removed, and whether one must be built for `key`.

    While any index is being built, nothing is changed. None means to wait for that build, because
    the index of `key` is not yet as `wanted`. `there` has the keys of all collections.
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
    """Build the index of a collection if it is `wanted`, or else remove it.

    Also removes the indexes of collections that no longer exist.

    Raises:
        StoreError: pgvector is too old, the user is not the owner of the table, or the user's
            `statement_timeout` is too short.
        psycopg.Error: the index cannot be built or removed.
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
            f"{place}: Postgres has cancelled the work on the index "
            f"({error.diag.message_primary}); lift the role's time limit, such as with ALTER ROLE "
            "the_user SET statement_timeout = 0, and run `orchestra ingest` again. "
            f"{_NO_LOSS}"
        ) from error


async def _settle(
    connection: TrioConnection, place: str, key: int, dimensions: int, *, wanted: bool
) -> None:
    while True:
        found = [Index(*row) for row in await rows(connection, _INDEXES)]
        there = [row[0] for row in await rows(connection, "SELECT key FROM orchestra.collection")]
        to_do = changes(found, key, there, wanted=wanted)
        if to_do is not None:
            with suppress(psycopg.errors.DeadlockDetected):  # two processes began at once
                removed, made = to_do
                await _remove(connection, removed)
                if made:
                    await _make(connection, place, key, dimensions)
                return
        await trio.sleep(AGAIN_S * (1 + random.random()))  # noqa: S311 - jitter, no secret


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
            f'{place}: index = "hnsw" needs pgvector 0.8 or later, but this is {version}; install '
            "a newer version and run ALTER EXTENSION vector UPDATE, or remove index from [stores]; "
            "until then, searches are exact"
        )
