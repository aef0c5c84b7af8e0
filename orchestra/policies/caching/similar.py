"""The semantic part of a cache: it finds answered questions by their meaning.

Rules of the file: no failure of a state or an embedder fails a call. If two tasks write to one
scope at the same time, one of their two entries may be lost, never more; the model is then asked
that question once more.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from orchestra.policies.caching.alike import (
    Known,
    decode_index,
    encode_index,
    nearest,
    question_of,
    scope_of,
    with_known,
)
from orchestra.policies.caching.cache import SemanticRule
from orchestra.policies.caching.store import CacheStore
from orchestra.protocols import Embedder
from orchestra.values import ChatRequest, Vector

EMBED_WAIT_S = 1.0
"""The longest wait for the vector of a question; after it, only an equal request is a hit."""


@attrs.frozen
class Meaning:
    """The meaning of a request: its scope, its question, and the question's vector."""

    scope: str
    question: str
    vector: Vector


class Similar:
    """The answered questions of one model, by scope, in the store of its cache.

    `embedder` is called for each question; it returns the embedder that `embedder_identity`
    identifies.
    """

    def __init__(
        self, rule: SemanticRule, embedder: Callable[[], Embedder], embedder_identity: str
    ) -> None:
        self._rule = rule
        self._embedder = embedder
        self._identity = embedder_identity

    async def meaning(
        self, store: CacheStore, tenant: str, identity: str, request: ChatRequest
    ) -> Meaning | None:
        """The meaning of a request; None if it cannot be compared, or its vector is late.

        Raises:
            BindingError: there is no such embedder, or its package is missing.
        """
        question = question_of(request)
        if question is None:
            return None
        scope = scope_of(tenant, identity, self._identity, request)
        vectors = await store.bounded(
            lambda: self._embedder().embed([question], purpose="query"),
            limit_s=EMBED_WAIT_S,
            what="embedder",
        )
        return Meaning(scope, question, vectors[0]) if scope and vectors else None

    async def near(self, store: CacheStore, meaning: Meaning) -> list[tuple[float, Known]]:
        """The answered questions that ask the same, with their cosines; the nearest first."""
        known = decode_index(meaning.scope, await store.recall(meaning.scope))
        rule, question = self._rule, meaning.question
        return nearest(
            known, question, meaning.vector, rule.threshold, paraphrases=rule.paraphrases
        )

    async def keep(self, store: CacheStore, meaning: Meaning, key: str) -> None:
        """Store the key under which the answer to a question is cached."""
        await self.used(store, meaning.scope, Known(key, meaning.question, meaning.vector))

    async def used(self, store: CacheStore, scope: str, entry: Known) -> None:
        """Mark an entry as the last used one of its scope."""
        known = decode_index(scope, await store.recall(scope))
        if entry in known[len(known) // 2 :]:  # it will not be dropped soon
            return
        data = encode_index(scope, with_known(known, entry, self._rule.entries_max))
        if data is not None:
            await store.remember(scope, data)
