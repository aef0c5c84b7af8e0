"""A search as SQL statements: exact, or among the candidates of the approximate index.

An exact search first compares all vectors in single precision, and excludes those that are too far
away even if the rounding error was at its largest. The remaining ones are compared in double
precision, also in the database. With an index, the index finds the candidates instead: it may miss
some, but the scores and the order of those that it finds are exact.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

from orchestra.stores import rules
from orchestra.stores.postgres import hnsw
from orchestra.stores.postgres.connection import TrioConnection, last_row, rows
from orchestra.stores.postgres.encoding import equals, kept, passage_of, vector_bytes
from orchestra.stores.postgres.transactions import begin
from orchestra.surrogates import is_utf8
from orchestra.values import Passage, Scalar, Vector

TOP_MAX = 2**31 - 1
"""A larger `top` is lowered to this; no collection has as many passages."""


@attrs.frozen
class Target:
    """The collection to search: its key, its number of dimensions, and whether it has an index."""

    key: int
    dimensions: int
    has_index: bool


@attrs.frozen
class Question:
    """What to search for: the `top` passages nearest to a unit vector, filtered by `where`."""

    vector: Vector
    top: int
    where: Mapping[str, Scalar]


@attrs.frozen
class Found:
    """The passages that a search has found, and how many vectors it compared."""

    passages: list[Passage]
    compared: int


async def target(
    connection: TrioConnection, name: str, top: int, limit_ms: int, *, indexed: bool
) -> Target | None:
    """Begin a transaction, and find the collection of this name in it; None if there is none.

    The transaction reads one snapshot. Its settings end with it, so they do not affect others if a
    pooler shares the connection. Without `indexed`, indexes are not used.
    """
    statements = _FIND.format(
        begin=begin("REPEATABLE READ READ ONLY", limit_ms),
        settings=hnsw.settings(top),
        has_index=hnsw.USABLE if indexed else "false",
    )
    row = await last_row(connection, statements, [kept(name)])
    return None if row is None else Target(*row[:3])


async def nearest(connection: TrioConnection, target: Target, question: Question) -> Found:
    """The nearest passages of those that match, from the index or from an exact search."""
    top = question.top
    if target.has_index and top <= hnsw.TOP_MAX:
        most = hnsw.candidates(top)
        order = hnsw.order(connection.vector_in or "", target.dimensions, most)
        found = await _nearest(connection, target, question, order)
        if found.compared == most:
            return found  # otherwise the index stopped early: too few of its vectors match `where`
    return await _nearest(connection, target, question, "")


async def _nearest(
    connection: TrioConnection, target: Target, question: Question, order: str
) -> Found:
    condition, values = matching(question.where)
    query = _SEARCH.format(
        vector_in=connection.vector_in, key=target.key, condition=condition, order=order
    )
    named = {
        "query": Sent(question.vector),
        "top": min(question.top, TOP_MAX),
        "scale": 10.0**rules.SCORE_PLACES,
        "margin": rules.error_max(len(question.vector)),
        **values,
    }
    found = await rows(connection, query, named)
    return Found([passage_of(*row) for *row, _ in found], found[0][-1] if found else 0)


def matching(where: Mapping[str, Scalar]) -> tuple[str, dict[str, object]]:
    """The SQL conditions for `where`, each after an AND, and the values of their parameters."""
    conditions, values = [""], dict[str, object]()
    for key, value in where.items():
        if key == "source":
            sources = [value] if isinstance(value, str) and is_utf8(value) else []
            choices = [("source = %({})s", kept(source)) for source in sources]
        else:
            choices = [("metadata @> %({})s::jsonb", each) for each in equals(key, value)]
        either = []
        for condition, each in choices:
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
"""JIT is off, since compiling a search takes longer than the search. The index's settings are set
only if there is an index: a pgvector that is too old for one does not know them.
"""
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
"""Scores are rounded as `float8`: half to even, as numpy and Python do. PostgreSQL rounds `numeric`
half away from zero.
"""


class Sent:
    """A vector as a parameter of a statement."""

    def __init__(self, vector: Vector) -> None:
        self.data = vector_bytes(vector)


class _SentDumper(Dumper):
    """Sends the bytes unchanged; the statement itself has a cast to their type."""

    format = Format.BINARY

    def dump(self, obj: Sent) -> bytes:
        return obj.data


psycopg.adapters.register_dumper(Sent, _SentDumper)
