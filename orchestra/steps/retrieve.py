"""The nearest passages: `retrieve` searches a store, `nearest` a list of passages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import nlargest
from operator import attrgetter, mul

import attrs
import trio

from orchestra.errors import InputError, StoreError
from orchestra.graph.steps import step
from orchestra.protocols import Context, EmbedderName, StoreName, VectorStore, injected
from orchestra.steps.ingest import BATCH, embedded
from orchestra.values import Passage, Scalar, Vector

CANDIDATES_MIN = 50
"""Of each of two searches, at least so many passages are fused."""


@step
async def retrieve(
    vector: Vector | None,
    *,
    store: StoreName,
    top: int = 8,
    where: Mapping[str, Scalar] | None = None,
    keywords: str | None = None,
    context: Context = injected,
) -> list[Passage]:
    """The `top` passages nearest to a vector, nearest first, each with its score.

    `where` selects the passages whose metadata has all of these values; `source` may be a key, too.

    With `keywords`, the store also searches for the passages that have the words of this text, and
    the scores of both searches are fused: names, codes and numbers are found, which vectors hardly
    tell apart. A score is then from 0 to 1, for a passage that is first in both searches. With None
    as the vector, only keywords count, and scores are those of BM25: a text without any word finds
    nothing.

    A run may raise:
        InputError: `top` is less than 1, or there is neither a vector nor keywords.
        StoreError: the vector's length differs from that of the store's vectors, or the store
            cannot be reached, or has no keyword search.
    """
    if top < 1:
        raise InputError(f"retrieve(top={top}): it has to be 1 or more", field="top")
    kept = context.store(store)
    if keywords is None:
        if vector is None:
            raise InputError(
                "retrieve(None, keywords=None): there is nothing to search for; write "
                "retrieve(embed(question), ...), or keywords=question",
                field="keywords",
            )
        return await kept.search(vector, top=top, where=where)
    check_has_keywords(kept, store)
    if vector is None:
        return await kept.search_keywords(keywords, top=top, where=where)
    most = max(CANDIDATES_MIN, 2 * top)
    near = await kept.search(vector, top=most, where=where)
    worded = await kept.search_keywords(keywords, top=most, where=where)
    return fused(worded, near, most)[:top]


def fused(worded: Sequence[Passage], near: Sequence[Passage], most: int) -> list[Passage]:
    """Keyword hits and near passages in one ranking, by the scores that both searches gave them.

    Each search counts half: its first passage gets 1/2, and one that it did not find gets 0. Of
    equal sums, keyword hits come first. `most` is how many passages each search was asked for.

    Scores say what ranks do not: that one passage has the code, and fifty have only common words.
    A store may have them on any scale: they are only compared with each other.
    """
    passages = {each.id: each for each in (*worded, *near)}
    shares = _shares(worded, from_zero=len(worded) < most), _shares(near)
    found = [
        attrs.evolve(passage, score=sum(each.get(name, 0.0) for each in shares) / 2)
        for name, passage in passages.items()
    ]
    return sorted(found, key=attrgetter("score"), reverse=True)


def _shares(ranking: Sequence[Passage], *, from_zero: bool = False) -> dict[str, float]:
    """Where each score is between that of the last passage, or zero, and that of the first: 0 to 1.

    The last of many candidates is hardly better than those that were not found. But if there are
    few keyword hits, all other passages have none of the words: their score is 0.
    """
    if not ranking:
        return {}
    least = min(ranking[-1].score, 0.0) if from_zero else ranking[-1].score
    span = ranking[0].score - least
    return {each.id: (each.score - least) / span if span else 1.0 for each in ranking}


def has_keyword_search(store: VectorStore) -> bool:
    """Whether a store has a `search_keywords` of its own, which it may leave out."""
    found = getattr(type(store), "search_keywords", None)
    return found not in (None, VectorStore.search_keywords)


def check_has_keywords(store: VectorStore, name: str) -> None:
    """Check that the store of this name can be searched with keywords.

    Raises:
        StoreError: it has no such search.
    """
    if not has_keyword_search(store):
        raise StoreError(
            f"the store {name!r}, a {type(store).__name__}, has no keyword search; leave out "
            "keywords=..., or write `search_keywords` if the class is yours"
        )


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
