"""A search as statements: exact, or among what the approximate index finds.

An exact search compares with all vectors, in single precision, which only rules out what its
rounding cannot bring back; the rest is compared in double precision, there too. With an index, the
first step is the index's: it may miss some, but the scores and the order of what it finds are the
exact ones.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

from orchestra.stores import rules
from orchestra.stores.postgres import hnsw
from orchestra.stores.postgres.connection import TrioConnection, rows
from orchestra.stores.postgres.encoding import (
    equals,
    kept,
    metadata_of,
    restored,
    vector_bytes,
)
from orchestra.values import Passage, Scalar, Vector

TOP_MAX = 2**31 - 1
"""No collection has more."""


@attrs.frozen
class Target:
    """What is searched: the collection of this key, whose vectors have so many dimensions."""

    key: int
    dimensions: int
    has_index: bool


@attrs.frozen
class Question:
    """What is asked: the `top` nearest to a vector of length 1, of those that match `where`."""

    vector: Vector
    top: int
    where: Mapping[str, Scalar]


@attrs.frozen
class Found:
    """The passages of a search, and how many were compared to find them."""

    passages: list[Passage]
    compared: int


async def target(
    connection: TrioConnection, name: str, top: int, limit_ms: int, *, indexed: bool
) -> Target | None:
    """The collection of this name, in a transaction that is begun; None if there is none.

    What is read in it is of one moment. Where a pooler gives the connection to others, nothing that
    is set here is set for them. Without `indexed`, no index counts.
    """
    asked = _FIND.format(
        begin=begin("REPEATABLE READ READ ONLY", limit_ms),
        settings=hnsw.settings(top),
        has_index=hnsw.USABLE if indexed else "false",
    )
    done = psycopg.AsyncClientCursor(connection)  # which may send several statements at once
    await done.execute(asked, [kept(name)])
    while done.nextset():
        pass
    row = await done.fetchone()
    return None if row is None else Target(*row[:3])


def begin(level: str, limit_ms: int) -> str:
    """Begins a transaction, which the database ends by itself if we are gone."""
    return (
        f"BEGIN ISOLATION LEVEL {level}; SET LOCAL statement_timeout = {limit_ms}; "
        f"SET LOCAL idle_in_transaction_session_timeout = {limit_ms}"
    )


async def nearest(connection: TrioConnection, target: Target, question: Question) -> Found:
    """The nearest passages of those that match."""
    top = question.top
    if target.has_index and top <= hnsw.TOP_MAX:
        most = hnsw.candidates(top)
        order = hnsw.order(connection.vector_in or "", target.dimensions, most)
        found = await _nearest(connection, target, question, order)
        if found.compared == most:
            return found  # else the index has given up: too few of what it came across match
    return await _nearest(connection, target, question, "")


async def _nearest(
    connection: TrioConnection, target: Target, question: Question, order: str
) -> Found:
    condition, values = matching(question.where)
    asked = _SEARCH.format(
        vector_in=connection.vector_in, key=target.key, condition=condition, order=order
    )
    size = len(question.vector)
    named = {
        "query": Sent(question.vector),
        "top": min(question.top, TOP_MAX),
        "scale": 10.0**rules.SCORE_PLACES,
        "margin": 2 * (size + 2) * 2.0**-23,  # of two float32 products, as in stores/index.py
        **values,
    }
    found = await rows(connection, asked, named)
    passages = [
        Passage(restored(name), restored(text), restored(source), score, metadata_of(metadata))
        for name, text, source, score, metadata, _ in found
    ]
    return Found(passages, found[0][-1] if found else 0)


def matching(where: Mapping[str, Scalar]) -> tuple[str, dict[str, object]]:
    """What matches `where`, as conditions of a statement, and their values."""
    conditions, values = [""], dict[str, object]()
    for key, value in where.items():
        if key == "source":
            sources = [value] if isinstance(value, str) and rules.can_be_kept(value) else []
            asked = [("source = %({})s", kept(source)) for source in sources]
        else:
            asked = [("metadata @> %({})s::jsonb", each) for each in equals(key, value)]
        either = []
        for condition, each in asked:
            values[name := f"v{len(values)}"] = each
            either.append(condition.format(name))
        conditions.append(f"({' OR '.join(either) or 'false'})")
    return " AND ".join(conditions), values


_FIND = """
{begin}; SET LOCAL jit = off;
SELECT key, dimensions, has_index, CASE WHEN has_index THEN {settings} END FROM (
    SELECT key, dimensions, {has_index} AS has_index FROM orchestra.collection WHERE name = %s
) AS found
"""
"""To compile a search takes longer than the search. A pgvector that is too old for an index does
not know its settings, either."""
_SEARCH = """
WITH near AS MATERIALIZED (
    SELECT ctid AS at, vector OPERATOR({vector_in}.<#>) %(query)s::{vector_in}.vector AS far
    FROM orchestra.passage WHERE collection = {key}{condition}{order}
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
    round(greatest(-1, least(1, cosine)) * %(scale)s) / %(scale)s + 0::float8 AS score, metadata,
    (SELECT count(*) FROM near)
FROM exact ORDER BY score DESC, id LIMIT %(top)s
"""
"""A half is rounded to the even neighbour, as numpy and Python do; a `numeric` goes away from 0."""


class Sent:
    """A vector on its way to the database."""

    def __init__(self, vector: Vector) -> None:
        self.data = vector_bytes(vector)


class _SentDumper(Dumper):
    """Gives the bytes as they are; of which type they are, the statement says."""

    format = Format.BINARY

    def dump(self, obj: Sent) -> bytes:
        return obj.data


psycopg.adapters.register_dumper(Sent, _SentDumper)
