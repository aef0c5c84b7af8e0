"""`retrieve`: the passages of a store that are nearest to a vector."""

from __future__ import annotations

from collections.abc import Mapping

from orchestra.graph.steps import step
from orchestra.protocols import Context, StoreName, injected
from orchestra.values import Passage, Scalar, Vector


@step
async def retrieve(
    vector: Vector,
    *,
    store: StoreName,
    top: int = 8,
    where: Mapping[str, Scalar] | None = None,
    context: Context = injected,
) -> list[Passage]:
    """The `top` nearest passages, nearest first, each with its score.

    `where` keeps those whose metadata equals every given key; `source` is one of the keys.
    """
    return await context.store(store).search(vector, top=top, where=where)
