"""A model behind a cache: a `Model` whose complete answers are cached.

Rules of the file: every call to the state is bounded in time, and a state that cannot be reached
is a cache miss; an answer is cached as a whole or not at all, after its last event was passed on;
answers are never shared between tenants; a run that repeats a request gets at most one cached
answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self

import attrs
import msgspec
import trio

from orchestra.accounts import Usage
from orchestra.answers import Completion
from orchestra.errors import MalformedStreamError
from orchestra.events import StepCached
from orchestra.policies.account import PRESENT, Account
from orchestra.policies.answers.replayed import events_of
from orchestra.policies.caching.cache import (
    CacheRule,
    Recording,
    decode,
    decode_ranking,
    decode_vector,
    encode,
    encode_ranking,
    encode_vector,
    key_of,
    keys_of_texts,
)
from orchestra.policies.caching.requested_keys import RequestedKeys
from orchestra.policies.caching.similar import Meaning, Similar
from orchestra.policies.caching.store import CacheStore
from orchestra.policies.requests.extras import CACHE, cache_mode_in, refreshed, without
from orchestra.protocols import Model, ModelReply, State
from orchestra.rankings import Ranking, RerankRequest
from orchestra.values import (
    Began,
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    ModelEvent,
    Vector,
)


class CachedModel(Model):
    """A model whose answers are cached, so that it is not asked the same again.

    `name` is the model's name in the journal, and `identity` describes its whole configuration:
    models with equal identities share their answers, within a tenant. A hit costs nothing, and is
    recorded as `StepCached`.

    Of equal calls in one run, only the first may be a hit. A request can change this with
    `extras={"orchestra": {"cache": ...}}`: with "use", each of them may be a hit; "refresh"
    replaces the cached answer; "off" neither reads nor writes the cache. With `similar`, the
    answer to a question that asks the same in other words is a hit, too.
    """

    def __init__(
        self,
        model: Model,
        state: State,
        rule: CacheRule,
        *,
        name: str,
        identity: str,
        similar: Similar | None = None,
    ) -> None:
        self.model = model
        self.name = name
        self._answers = _Answers(CacheStore(state, name, rule.ttl_s), rule, identity, similar)

    @property
    def capabilities(self) -> Capabilities:
        """The model's capabilities, as far as they are known."""
        return self.model.capabilities

    def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
        """Ask; entered when a cached answer is found, or when the model accepted the request.

        An answer is cached when its reader receives the end, which waits for the state for up to
        `STATE_WAIT_S`, or a few times as long with `similar`. An answer that is left early, or
        fails, is not cached.

        Raises:
            InvalidRequestError: the request's cache setting in the extras is wrong.
            ModelError: on entry or on receive.
        """
        return _CachedAnswer(self._answers, self.model, request)

    async def complete(self, request: ChatRequest) -> Completion:
        """Ask, and wait for the whole answer. If cancelled meanwhile, nothing is cached.

        Raises:
            ModelError: as for `stream`.
        """
        question, found = await self._answers.look(request)
        if found is not None:
            await trio.lowlevel.checkpoint()
            return found.answer
        answer = await self.model.complete(question.request)
        await self._answers.keep(question, answer)
        return answer

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector for each text, in order; the model is asked only for those not cached.

        Raises:
            ModelError: as for `stream`.
        """
        mode, tenant = cache_mode_in(request.extras), PRESENT.get().caller.tenant
        asked, looks = without(request, CACHE), mode in ("once", "use")
        keys = None if mode == "off" else keys_of_texts(tenant, self._answers.identity, asked)
        request = asked if looks else request
        if keys is None:
            return await self.model.embed(request)
        found = await self._answers.vectors(keys) if looks else {}
        missing = tuple(text for text in keys if text not in found)
        if not missing:
            if keys:
                PRESENT.get().record(StepCached, self.name)
            model = next(iter(found.values()))[1] if found else ""
            await trio.lowlevel.checkpoint()
            return Embeddings(tuple(found[text][0] for text in request.texts), Usage(), model)
        made = await self.model.embed(attrs.evolve(request, texts=missing))
        if len(made.vectors) != len(missing):
            raise MalformedStreamError(
                f"{self.name!r} gave {len(made.vectors)} vectors for {len(missing)} texts; such an "
                "answer is not cached"
            )
        new = dict(zip(missing, made.vectors, strict=True))
        await self._answers.keep_vectors({keys[text]: new[text] for text in missing}, made.model)
        known = {text: vector for text, (vector, _) in found.items()}
        return attrs.evolve(made, vectors=tuple((known | new)[text] for text in request.texts))

    async def rerank(self, request: RerankRequest) -> Ranking:
        """The most relevant texts, best first; equal requests have the same ranking.

        Raises:
            ModelError: as for `stream`.
        """
        mode, tenant = cache_mode_in(request.extras), PRESENT.get().caller.tenant
        asked, looks = without(request, CACHE), mode in ("once", "use")
        key = None if mode == "off" else key_of(tenant, self._answers.identity, asked, "ranking")
        if key is None:
            return await self.model.rerank(request)
        found = await self._answers.ranking(key) if looks else None
        if found is not None:
            PRESENT.get().record(StepCached, self.name)
            await trio.lowlevel.checkpoint()
            return found
        made = await self.model.rerank(asked if looks else request)
        await self._answers.keep_ranking(key, made)
        return made


class _Question(msgspec.Struct, frozen=True):
    """A request for the model, and the cache key of its answer, if it has one.

    Its cache setting is left out, unless it makes a cache look up nothing: then another cache
    further in, such as that of a route's model, has to look up nothing, too.
    """

    request: ChatRequest
    key: str | None
    meaning: Meaning | None = None


@attrs.frozen
class _Found:
    """A cached answer, its original usage, and the similarity of its question to the request's."""

    answer: Completion
    original_usage: Mapping[str, Any]
    similarity: float = 1.0


class _Answers:
    """The cached answers of one model, found by key or by meaning."""

    def __init__(
        self, store: CacheStore, rule: CacheRule, identity: str, similar: Similar | None
    ) -> None:
        self.rule = rule
        self.identity = identity
        self._store = store
        self._similar = similar
        self._requested = RequestedKeys()

    async def look(self, request: ChatRequest) -> tuple[_Question, _Found | None]:
        """The question of a request, and the cached answer, if one exists and may be used."""
        mode, account = cache_mode_in(request.extras), PRESENT.get()
        tenant = account.caller.tenant
        asked = without(request, CACHE)
        key = None if mode == "off" else key_of(tenant, self.identity, asked)
        if key is None:
            return _Question(request, None), None
        first = self._requested.first(account, key)
        looks = mode == "use" or (mode == "once" and first)
        passed = asked if looks else attrs.evolve(asked, extras=refreshed(asked.extras))
        found = await self._answer(key) if looks else None
        meaning = None
        if found is None and self._similar is not None:
            meaning = await self._similar.meaning(self._store, tenant, self.identity, asked)
            if meaning is not None and looks:
                once = account if mode == "once" else None
                found = await self._near(self._similar, meaning, once)
        if found is not None:
            account.record(StepCached, self._store.name, found.similarity)
        return _Question(passed, key, meaning), found

    async def keep(self, question: _Question, answer: Completion) -> None:
        """Cache an answer, if it may be cached."""
        key = question.key
        data = None if key is None else encode(key, answer, self.rule.answer_bytes_max)
        if key is None or data is None:
            return
        await self._store.remember(key, data)
        if self._similar is not None and question.meaning is not None:
            await self._similar.keep(self._store, question.meaning, key)

    async def _answer(self, key: str, similarity: float = 1.0) -> _Found | None:
        data = await self._store.recall(key)
        found = None if data is None else decode(key, data)
        return None if found is None else _Found(*found, similarity)

    async def _near(
        self, similar: Similar, meaning: Meaning, once: Account | None
    ) -> _Found | None:
        """The answer to a similar question; with `once`, one that its run has not had before."""
        for similarity, known in await similar.near(self._store, meaning):
            if once is not None and not self._requested.first(once, known.key):
                continue
            found = await self._answer(known.key, similarity)
            if found is not None:
                await similar.used(self._store, meaning.scope, known)
                return found
        return None

    async def vectors(self, keys: Mapping[str, str]) -> dict[str, tuple[Vector, str]]:
        """The cached vector and model of each text, without those missing or not read in time."""
        kept = await self._store.recall_all(list(keys.values()))
        found: dict[str, tuple[Vector, str]] = {}
        for text, key in keys.items():
            vector = decode_vector(key, kept[key]) if key in kept else None
            if vector is not None:
                found[text] = vector
        return found

    async def keep_vectors(self, vectors: Mapping[str, Vector], model: str) -> None:
        """Cache the vectors, as many as the state accepts in time."""
        written = {key: encode_vector(key, vector, model) for key, vector in vectors.items()}
        await self._store.remember_all(
            {key: data for key, data in written.items() if data is not None}
        )

    async def ranking(self, key: str) -> Ranking | None:
        """The cached ranking; None if there is none, or it is not read in time."""
        data = await self._store.recall(key)
        return None if data is None else decode_ranking(key, data)

    async def keep_ranking(self, key: str, ranking: Ranking) -> None:
        """Cache a ranking, if the state accepts it in time."""
        data = encode_ranking(key, ranking)
        if data is not None:
            await self._store.remember(key, data)


class _CachedAnswer:
    """A streamed answer, cached or new: a context manager that is its own reply."""

    def __init__(self, answers: _Answers, model: Model, request: ChatRequest) -> None:
        self._answers = answers
        self._model = model
        self._request = request
        self._question = _Question(request, None)
        self._replay: Iterator[ModelEvent] | None = None
        self._inner: AbstractAsyncContextManager[ModelReply] | None = None
        self._reply: ModelReply | None = None
        self._recording = Recording(answers.rule.answer_bytes_max)

    async def __aenter__(self) -> Self:
        self._question, found = await self._answers.look(self._request)
        if found is not None:
            self._replay = events_of(found.answer, found.original_usage)
            return self
        if self._question.key is None:
            self._recording.spoil()
        self._inner = self._model.stream(self._question.request)
        self._reply = await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._recording.spoil()
        if self._inner is None:
            return None
        return await self._inner.__aexit__(kind, error, traceback)  # noqa: ASYNC102 - as the model does it

    async def receive(self) -> tuple[ModelEvent, ...]:
        """Wait for events and return those since the last call; empty at the end."""
        if self._reply is None:
            await trio.lowlevel.checkpoint()
            return self._next()
        try:
            batch = await self._reply.receive()
        except BaseException:
            self._recording.spoil()
            raise
        if batch:
            self._recording.add(batch)
        elif (answer := self._recording.whole()) is not None:
            await self._answers.keep(self._question, answer)
        return batch

    def _next(self) -> tuple[ModelEvent, ...]:
        """The next batch of a replayed answer: a piece of content, or the end."""
        batch: list[ModelEvent] = []
        for event in self._replay or ():
            batch.append(event)
            if not isinstance(event, Began):
                break
        return tuple(batch)
