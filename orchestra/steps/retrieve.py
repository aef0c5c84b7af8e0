"""The nearest passages: `retrieve` searches a store, `nearest` a list of passages."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import nlargest
from operator import attrgetter, mul

import attrs
import trio

from orchestra.errors import InputError
from orchestra.graph.steps import step
from orchestra.protocols import Context, EmbedderName, StoreName, injected
from orchestra.steps.ingest import BATCH, embedded
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
    """The `top` passages nearest to a vector, nearest first, each with its score.

    `where` selects the passages whose metadata has all of these values; `source` may be a key, too.

    A run may raise:
        InputError: `top` is less than 1.
        StoreError: the vector's length differs from that of the store's vectors, or the store
            cannot be reached.
    """
    if top < 1:
        raise InputError(f"retrieve(top={top}): it has to be 1 or more", field="top")
    return await context.store(store).search(vector, top=top, where=where)


@step
async def nearest(
    passages: list[Passage],
    question: str,
    *,
    top: int = 8,
    model: EmbedderName = "default",
    context: Context = injected,
) -> list[Passage]:
    """The `top` passages nearest to a question, nearest first, each with its score.

    For documents that are not in a store: all passages are embedded in every call.

    A run may raise:
        InputError: `top` is less than 1.
        BindingError: the embedder needs a package that is not installed.
        ModelError: the call of the embedder failed.
    """
    if top < 1:
        raise InputError(f"nearest(top={top}): it has to be 1 or more", field="top")
    embedder = context.embedder(model)
    (asked,) = await embedder.embed([question], purpose="query")
    scored: list[Passage] = []
    for start in range(0, len(passages), BATCH):
        batch = passages[start : start + BATCH]
        vectors = await embedder.embed([embedded(each) for each in batch], purpose="document")
        await trio.lowlevel.checkpoint()  # an in-process embedder may have no checkpoint
        scored += [
            attrs.evolve(each, score=sum(map(mul, asked, vector)))
            for each, vector in zip(batch, vectors, strict=True)
        ]
    return nlargest(top, scored, key=attrgetter("score"))
