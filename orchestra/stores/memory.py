"""A collection in memory: for tests, for examples, and as the reference for every other store.

Rules of the file: no method awaits anything between reading and writing, so each is atomic, except
that a keyword search first counts the words of new passages; sums are computed in float64, so the
order of the scores is exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from operator import mul

import attrs
import trio

from orchestra.protocols import DIGEST, VectorStore
from orchestra.stores import keywords, rules
from orchestra.values import Passage, Scalar, Vector


class MemoryStore(VectorStore):
    """A `VectorStore` that lives as long as this object, and needs no packages.

    A search compares the vector with every passage, in Python: about 20 µs each at 256 dimensions.
    A cancelled call has happened completely, or not at all.
    """

    def __init__(self, name: str = "memory") -> None:
        self._place = f"the collection {name!r} in memory"
        self._held: dict[str, tuple[Passage, Vector]] = {}
        self._words: dict[str, Counter[str]] = {}
        """The words of the passages, by id, from the first keyword search after their upsert on."""

    async def search(
        self, vector: Vector, *, top: int, where: Mapping[str, Scalar] | None = None
    ) -> list[Passage]:
        await trio.lowlevel.checkpoint()
        rules.check_top(self._place, top)
        query = self._fitting(vector)
        found = [
            attrs.evolve(
                passage,
                score=rules.score(sum(map(mul, query, stored))),
                metadata=dict(passage.metadata),
            )
            for passage, stored in self._held.values()
            if rules.matches(passage.source, passage.metadata, where or {})
        ]
        return sorted(found, key=lambda passage: (-passage.score, passage.id))[:top]

    async def search_keywords(
        self, query: str, *, top: int, where: Mapping[str, Scalar] | None = None
    ) -> list[Passage]:
        """The `top` best passages with a word of the query that match `where`, with their BM25.

        The words of a passage are counted by the first such search after its upsert.
        """
        await trio.lowlevel.checkpoint()
        rules.check_top(self._place, top)
        for number, name in enumerate(self._held.keys() - self._words.keys(), 1):
            if number % rules.CHECKED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            self._count_words(name)
        for name in self._held.keys() - self._words.keys():
            self._count_words(name)  # those that came during the checkpoints
        found = [
            attrs.evolve(passage, score=score, metadata=dict(passage.metadata))
            for name, score in self._ranked(query)
            for passage, _ in [self._held[name]]
            if rules.matches(passage.source, passage.metadata, where or {})
        ]
        return found[:top]

    async def upsert(self, passages: Sequence[Passage], vectors: Sequence[Vector]) -> None:
        """Insert passages, replacing those with the same id; of two with one id, the later wins.

        The first vectors set the number of dimensions, until the collection is empty again.
        """
        pairs = await rules.checked(self._place, passages, vectors)
        if pairs:
            self._fitting(pairs[0][1])
        for passage, vector in pairs:
            kept = attrs.evolve(passage, score=0.0, metadata=dict(passage.metadata))
            self._held[passage.id] = kept, vector
            self._words.pop(passage.id, None)

    async def delete(self, *, where: Mapping[str, Scalar]) -> int:
        await trio.lowlevel.checkpoint()
        gone = [
            passage.id
            for passage, _ in self._held.values()
            if rules.matches(passage.source, passage.metadata, where)
        ]
        for key in gone:
            del self._held[key]
            self._words.pop(key, None)
        return len(gone)

    async def count(self) -> int:
        await trio.lowlevel.checkpoint()
        return len(self._held)

    async def digests(self) -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        return rules.digests(
            (passage.source, passage.metadata.get(DIGEST)) for passage, _ in self._held.values()
        )

    def _count_words(self, name: str) -> None:
        if name in self._held:
            passage, _ = self._held[name]
            self._words[name] = keywords.words_of(passage.text, passage.metadata)

    def _ranked(self, query: str) -> list[tuple[str, float]]:
        lengths = {name: words.total() for name, words in self._words.items()}
        collected = keywords.Collected(len(lengths), sum(lengths.values()))
        hits = {
            word: {name: words[word] for name, words in self._words.items() if word in words}
            for word in keywords.words_asked(query)
        }
        chosen = keywords.telling({word: len(of_word) for word, of_word in hits.items()})
        return keywords.ranked([hits[word] for word in chosen], lengths, collected)

    def _fitting(self, vector: Vector) -> Vector:
        """The vector scaled to unit length, after checking its dimensions against those stored."""
        for _, stored in self._held.values():
            rules.check_dimensions(self._place, expected=len(stored), given=len(vector))
            break
        return rules.unit(vector, f"{self._place}: the vector")
