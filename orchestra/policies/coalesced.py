"""A coalesced model: the same question, asked several times at once, is one call.

Rules of the file: between finding a flight and joining it, nothing is awaited; a call that
cannot be shared is the model's own, untouched.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from types import TracebackType
from typing import Generic, TypeAlias, TypeVar, cast

import attrs
import trio

from orchestra.answers import Completion
from orchestra.errors import BindingError, ModelError
from orchestra.events import StepCoalesced
from orchestra.policies.account import NOBODY, PRESENT
from orchestra.policies.alike import may_ask_the_same
from orchestra.policies.coalesce import (
    CoalesceRule,
    Question,
    Sharing,
    nearest,
    question_of,
    sharing_of,
)
from orchestra.policies.flight import Flight, Waiter
from orchestra.policies.tokens import answer_bytes, said_bytes
from orchestra.policies.told import events_of
from orchestra.protocols import Account, Embedder, Model, ModelReply
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    ModelEvent,
    TextDelta,
    Vector,
)

Item = TypeVar("Item")
Said: TypeAlias = ModelEvent | Completion
"""What a flight says of an answer: its events, or all of it."""

EVENT_BYTES = 100
"""What an event counts for beside its text: about what it takes."""
COMPARE_S = 1.0
"""Longer than that, a question waits for no comparison."""


class CoalescedModel(Model):
    """A model whose equal calls share one, streams included, within a tenant and an engine.

    Calls of one run do not share with each other, unless they say so; outside of a run, each call
    is alone. `name` is what joiners' journals call the model, and part of what makes calls equal.
    With an embedder and `rule.similarity`, questions that are alike share a call, too.
    """

    def __init__(
        self,
        model: Model,
        *,
        name: str,
        rule: CoalesceRule | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        self.model = model
        self.name = name
        self.rule = rule or CoalesceRule()
        self._chats = _Board[Said](name, self.rule, _said_bytes, embedder)
        self._embeds = _Board[Embeddings](name, self.rule, _vectors_bytes, None)

    @property
    def capabilities(self) -> Capabilities:
        """What it can do, as far as is known."""
        return self.model.capabilities

    @property
    def flights(self) -> int:
        """How many calls are under way that somebody may join."""
        return self._chats.open + self._embeds.open

    def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
        """Ask, or join whoever asks the same; what was said so far then comes at once.

        Entered before anything has been said: errors come on receive. Usage that it reports is
        that of the whole call, settled; this caller's share is in its account. Whoever leaves
        last, or is cancelled, stops the answer.

        Raises:
            InvalidRequestError: its extras for this are wrong.
            ModelError: on entry, of a call of its own; else on receive.
        """
        sharing = sharing_of(request)
        if sharing is Sharing.ALONE or PRESENT.get() is NOBODY:
            return self.model.stream(request)
        return _SharedAnswer(self._chats, self.model, request, sharing)

    async def complete(self, request: ChatRequest) -> Completion:
        """Ask, and wait for the whole answer: it shares calls with streams.

        A call that this one begins is asked for a whole answer: streams that join it have all of
        it at once, at its end.

        Raises:
            ModelError: as of `stream`.
        """

        async def call(flight: Flight[Said]) -> None:
            await flight.say(flight.ledger.found(await self.model.complete(request)))

        waiter = await self._chats.waiter(request, sharing_of(request), call, whole=True)
        if waiter is None:
            return await self.model.complete(request)
        try:
            said: list[Said] = []
            while batch := await waiter.receive():
                said += batch
                if waiter.ended:
                    break
        finally:
            await waiter.leave()  # noqa: ASYNC102 - it is shielded, and bounded
        if said and isinstance(said[0], Completion):  # it was told whole
            return said[0]
        return Completion.of(cast("Sequence[ModelEvent]", said))

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector for each text, in order; all texts have to be the same to be shared.

        Raises:
            ModelError: it failed.
        """

        async def call(flight: Flight[Embeddings]) -> None:
            await flight.say(flight.ledger.found(await self.model.embed(request)))

        waiter = await self._embeds.waiter(request, sharing_of(request), call)
        if waiter is None:
            return await self.model.embed(request)
        try:
            (found,) = await waiter.receive()
            return found
        finally:
            await waiter.leave()  # noqa: ASYNC102 - it is shielded, and bounded


class _SharedAnswer:
    """A streamed answer of a flight, or one of its own where no flight can be: a context."""

    def __init__(
        self, board: _Board[Said], model: Model, request: ChatRequest, sharing: Sharing
    ) -> None:
        self._board = board
        self._model = model
        self._request = request
        self._sharing = sharing
        self._waiter: Waiter[Said] | None = None
        self._own: AbstractAsyncContextManager[ModelReply] | None = None

    async def __aenter__(self) -> ModelReply:
        self._waiter = await self._board.waiter(self._request, self._sharing, self._call)
        if self._waiter is not None:
            waiter = cast("Waiter[ModelEvent]", self._waiter)
            return _Retold(self._waiter) if waiter.flight.whole else waiter
        self._own = self._model.stream(self._request)
        return await self._own.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if self._waiter is None:
            assert self._own is not None, "entered"
            return await self._own.__aexit__(kind, error, traceback)  # noqa: ASYNC102 - the model's
        await self._waiter.leave()  # noqa: ASYNC102 - it is shielded, and bounded
        return None

    async def _call(self, flight: Flight[Said]) -> None:
        async with self._model.stream(self._request) as reply:
            while batch := await reply.receive():
                await flight.say(*flight.ledger.all_heard(batch))


@attrs.frozen
class _Retold:
    """What one who waits hears of an answer that comes in one piece, as events."""

    waiter: Waiter[Said]

    async def receive(self) -> tuple[ModelEvent, ...]:
        """All of the answer, waiting for it; empty behind it."""
        answers = cast("tuple[Completion, ...]", await self.waiter.receive())
        return tuple(event for answer in answers for event in events_of(answer))


class _Board(Generic[Item]):
    """The flights of one model that can be joined, by what they ask."""

    def __init__(
        self,
        name: str,
        rule: CoalesceRule,
        size_bytes: Callable[[Item], int],
        embedder: Embedder | None,
    ) -> None:
        self.open = 0
        self._name = name
        self._rule = rule
        self._size_bytes = size_bytes
        self._embedder = embedder
        self._title = f"a shared call of {name!r}"
        self._flights: dict[bytes, list[Flight[Item]]] = {}

    async def waiter(
        self,
        request: ChatRequest | EmbedRequest,
        sharing: Sharing,
        call: Callable[[Flight[Item]], Awaitable[None]],
        *,
        whole: bool = False,
    ) -> Waiter[Item] | None:
        """One who waits for this request's answer; None for a call of its own.

        That is one that is not to be shared, or cannot be. Cancelled, it waits for none. `whole`
        is whether the call that it may begin says its answer in one piece.
        """
        account = PRESENT.get()
        if sharing is Sharing.ALONE or account is NOBODY:
            return None
        await trio.lowlevel.checkpoint_if_cancelled()
        question = question_of(account.caller.tenant, self._name, request, self._rule)
        if question.key is None:
            return None
        together = sharing is Sharing.ANY
        if flight := self._joinable(question.key, account, together=together):
            return self._joined(flight, account)
        near = question.near and self._near(question, account, together=together)
        if near:
            similar = await self._alike(question, near)
            if flight := self._joinable(question.key, account, together=together):
                return self._joined(flight, account)  # it began while we compared
            if similar is not None and similar[0].open:
                return self._joined(similar[0], account, similar[1])
        return self._opened(question, account, call, whole=whole)

    def _joinable(self, key: bytes, account: Account, *, together: bool) -> Flight[Item] | None:
        for flight in self._flights.get(key, ()):
            if flight.open and (together or not flight.has_served(account.run_id)):
                return flight
        return None

    def _joined(
        self, flight: Flight[Item], account: Account, similarity: float = 1.0
    ) -> Waiter[Item]:
        account.record(StepCoalesced, self._name, similarity)
        return flight.join(account)

    def _opened(
        self,
        question: Question,
        account: Account,
        call: Callable[[Flight[Item]], Awaitable[None]],
        *,
        whole: bool,
    ) -> Waiter[Item] | None:
        if self.open >= self._rule.flights_max:
            return None
        flight = Flight(question, self._rule, self._size_bytes, self._closed)
        flight.whole = whole
        for key in _keys(question):
            self._flights.setdefault(key, []).append(flight)
        self.open += 1
        waiter = flight.join(account)
        try:
            flight.start(account, partial(call, flight), self._title)
        except BaseException:
            flight.left(waiter)
            raise
        return waiter

    def _closed(self, flight: Flight[Item]) -> None:
        self.open -= 1
        for key in _keys(flight.question):
            flights = self._flights[key]
            flights.remove(flight)
            if not flights:
                del self._flights[key]

    def _near(
        self, question: Question, account: Account, *, together: bool
    ) -> Sequence[Flight[Item]]:
        """Flights that may ask the same in other words, the youngest of them."""
        if question.near is None or self._embedder is None:
            return ()
        paraphrases = self._rule.paraphrases
        found = [
            flight
            for flight in self._flights.get(question.near, ())
            if flight.open
            and (together or not flight.has_served(account.run_id))
            and may_ask_the_same(flight.question.text, question.text, paraphrases=paraphrases)
        ]
        return found[-self._rule.compared_max :]

    async def _alike(
        self, question: Question, flights: Sequence[Flight[Item]]
    ) -> tuple[Flight[Item], float] | None:
        """The flight whose question is most like this one, and how alike they are.

        None too where nothing can be compared, or not in time: it is an economy, and no reason
        for a call to fail.
        """
        assert self._embedder is not None, "there are flights to be compared"
        unknown = [flight for flight in flights if flight.vector is None]
        texts = [question.text, *(flight.question.text for flight in unknown)]
        mine: Vector | None = None
        with trio.move_on_after(COMPARE_S), suppress(ModelError, BindingError):
            mine, *theirs = await self._embedder.embed(texts, purpose="query")
            for flight, vector in zip(unknown, theirs, strict=True):
                flight.vector = vector
        if mine is None:
            return None
        known = [(each, each.vector) for each in flights if each.open and each.vector is not None]
        vectors = [vector for _, vector in known]
        found = nearest(mine, vectors, self._rule.similarity or 1.0)
        return None if found is None else (known[found[0]][0], found[1])


def _keys(question: Question) -> Sequence[bytes]:
    if question.near is None:
        return () if question.key is None else (question.key,)
    return [key for key in (question.key, question.near) if key is not None]


def _said_bytes(said: Said) -> int:
    if type(said) is TextDelta and said.text.isascii():  # nearly all of them are
        return EVENT_BYTES + len(said.text)
    if isinstance(said, Completion):
        return EVENT_BYTES + answer_bytes(said.parts)
    return EVENT_BYTES + said_bytes(said)


def _vectors_bytes(found: Embeddings) -> int:
    return sum(EVENT_BYTES + len(vector.data) for vector in found.vectors)
