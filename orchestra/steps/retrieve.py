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
RANK_SHIFT = 60
"""The usual constant of reciprocal rank fusion: how little the first ranks differ."""
SCORE_SHARE_MIN = 0.25
"""Of the score of the best passage by keywords: with less, its words do not count.

Measured with 160 questions for one of 2,000 articles that differ in a code: with 0, 109 found
theirs among the first three; with 0.2 to 0.7, all did. Questions in words are answered as before.
"""


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
    both rankings are fused: names, codes and numbers are found, which vectors hardly tell apart. A
    score is then 1 for the first of both, and less for later ranks. With None as the vector, only
    keywords count, and scores are those of BM25. A passage that has none of the words, or only
    common ones where another has a rare one, is found by its vector only; a text without any word
    finds nothing.

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
    _check_has_keywords(kept, store)
    if vector is None:
        return await kept.search_keywords(keywords, top=top, where=where)
    most = max(CANDIDATES_MIN, 2 * top)
    near = await kept.search(vector, top=most, where=where)
    worded = await kept.search_keywords(keywords, top=most, where=where)
    return fused(telling(worded), near)[:top]


def telling(worded: Sequence[Passage]) -> list[Passage]:
    """The passages of a keyword search whose score is at least a quarter of the best one's.

    The others have only words that are common, or few of them. In a fusion, where ranks count and
    scores do not, some fifty of these would come before the one passage that has the code.
    """
    if not worded or worded[0].score <= 0:  # the store tells no scores, or has others than BM25
        return list(worded)
    return [each for each in worded if each.score >= SCORE_SHARE_MIN * worded[0].score]


def fused(one: Sequence[Passage], other: Sequence[Passage]) -> list[Passage]:
    """Two rankings as one, by reciprocal rank fusion; of equal scores, those of `one` come first.

    The score is 1 for a passage that is first in both rankings, and never 0.
    """
    passages: dict[str, Passage] = {}
    scores: dict[str, float] = {}
    for ranking in (one, other):
        for rank, passage in enumerate(ranking, 1):
            passages.setdefault(passage.id, passage)
            share = (RANK_SHIFT + 1) / (RANK_SHIFT + rank) / 2
            scores[passage.id] = scores.get(passage.id, 0.0) + share
    found = (attrs.evolve(passages[name], score=score) for name, score in scores.items())
    return sorted(found, key=attrgetter("score"), reverse=True)


def has_keyword_search(store: VectorStore) -> bool:
    """Whether a store has a `search_keywords` of its own, which it may leave out."""
    found = getattr(type(store), "search_keywords", None)
    return found not in (None, VectorStore.search_keywords)


def _check_has_keywords(store: VectorStore, name: str) -> None:
    if not has_keyword_search(store):
        raise StoreError(
            f"the store {name!r}, a {type(store).__name__}, has no keyword search; leave out "
            "keywords=..., keep it in SQLite, or write `search_keywords` if the class is yours"
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
