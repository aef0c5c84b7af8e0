"""A coalesced model: the same question, asked several times at once, is one call.

Rules of the file: a call that cannot be shared is the model's own, untouched; and what is refused
to the caller who asked first, for a budget or a limit, is refused to nobody else: who waited asks
anew, on their own behalf.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TypeAlias, TypeVar, cast

from orchestra.answers import Completion
from orchestra.policies.account import NOBODY, PRESENT
from orchestra.policies.flights.board import FlightBoard
from orchestra.policies.flights.coalesce import (
    CoalesceRule,
    Sharing,
    sharing_of,
)
from orchestra.policies.flights.flight import Flight
from orchestra.policies.flights.waiter import Waiter
from orchestra.policies.replayed_answer import events_of
from orchestra.policies.tokens import said_bytes
from orchestra.protocols import Embedder, Model, ModelReply
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    ModelEvent,
    TextDelta,
)

Item = TypeVar("Item")
Said: TypeAlias = ModelEvent | Completion
"""What a flight says of an answer: its events, or all of it."""

EVENT_BYTES = 100
"""What an event counts for beside its text: about what it takes."""
TRIES = 3
"""So often somebody waits for another's call; then the call is their own."""


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
        self._chats = FlightBoard[Said](
            name, self.rule, size_bytes=_said_bytes, embedder=embedder, whole=_Whole
        )
        self._embeds = FlightBoard[Embeddings](name, self.rule)

    @property
    def capabilities(self) -> Capabilities:
        """What it can do, as far as is known."""
        return self.model.capabilities

    @property
    def flights(self) -> int:
        """How many calls are under way that somebody may join. For whoever watches it: a test."""
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
            flight.tell_whole(flight.bill.found(await self.model.complete(request)))

        waiter: Waiter[Said] | None = None
        for _ in range(TRIES):
            waiter = await self._chats.waiter(
                request, sharing_of(request), call, in_one_piece=True, again=waiter
            )
            if waiter is None:
                break
            said = await _all_said(waiter)
            if said and isinstance(said[0], Completion):  # it was told whole
                return said[0]
            if said is not None:
                return Completion.of(cast("Sequence[ModelEvent]", said))
        return await self.model.complete(request)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector for each text, in order; all texts have to be the same to be shared.

        Raises:
            ModelError: it failed.
        """

        async def call(flight: Flight[Embeddings]) -> None:
            flight.tell_whole(flight.bill.found(await self.model.embed(request)))

        waiter: Waiter[Embeddings] | None = None
        for _ in range(TRIES):
            waiter = await self._embeds.waiter(request, sharing_of(request), call, again=waiter)
            if waiter is None:
                break
            if found := await _all_said(waiter):
                return found[0]
        return await self.model.embed(request)


async def _all_said(waiter: Waiter[Item]) -> list[Item] | None:
    """All of a flight; None where it was refused to whoever has opened it, and not to us.

    Raises:
        ModelError: the call failed.
    """
    said: list[Item] = []
    try:
        while batch := await waiter.receive():
            said += batch
            if waiter.ended:
                break
    except Exception as error:
        if not waiter.refused(error):
            raise
        return None
    finally:
        await waiter.leave()  # noqa: ASYNC102 - it is shielded, and bounded
    return said


class _Whole(Flight[Said]):
    """A flight that says its answer in one piece; who reads a stream is told it as events."""

    def heard(self, waiter: Waiter[Said]) -> tuple[Said, ...] | None:
        found = super().heard(waiter)
        if not found or waiter.in_one_piece:
            return found
        answers = cast("tuple[Completion, ...]", found)
        return tuple(event for answer in answers for event in events_of(answer))


class _SharedAnswer:
    """A streamed answer of a flight, or one of its own where no flight can be: a context."""

    __slots__ = ("_board", "_model", "_own", "_request", "_sharing", "_tries", "_waiter")

    def __init__(
        self, board: FlightBoard[Said], model: Model, request: ChatRequest, sharing: Sharing
    ) -> None:
        self._board = board
        self._model = model
        self._request = request
        self._sharing = sharing
        self._waiter: Waiter[Said] | None = None
        self._own: AbstractAsyncContextManager[ModelReply] | None = None
        self._tries = TRIES

    async def __aenter__(self) -> ModelReply:
        waiter = await self._board.waiter(self._request, self._sharing, self._call)
        if waiter is None:
            own = self._model.stream(self._request)
            entered = await own.__aenter__()
            self._own = own  # entered, and to be left
            return entered
        self._waiter = waiter
        waiter.asks_anew = self._ask_anew
        return cast("Waiter[ModelEvent]", waiter)

    async def _ask_anew(self, waiter: Waiter[Said]) -> None:
        """Have it wait for another flight, or for one that nobody else joins.

        The model's context is not entered here: this is inside of scopes of the reader's, which
        are left before it is.
        """
        self._tries -= 1
        found = None
        if self._tries > 0:
            found = await self._board.waiter(self._request, self._sharing, self._call, again=waiter)
        if found is None:
            self._board.alone(waiter, self._call)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        waiter, self._waiter = self._waiter, None  # each holds the other
        if waiter is not None:
            await waiter.leave()  # noqa: ASYNC102 - it is shielded, and bounded
        elif self._own is not None:
            return await self._own.__aexit__(kind, error, traceback)  # noqa: ASYNC102 - the model's
        return None

    async def _call(self, flight: Flight[Said]) -> None:
        async with self._model.stream(self._request) as reply:
            while batch := await reply.receive():
                await flight.say(*flight.bill.all_heard(batch))


def _said_bytes(said: Said) -> int:
    if type(said) is TextDelta and said.text.isascii():  # nearly all of them are
        return EVENT_BYTES + len(said.text)
    assert not isinstance(said, Completion), "it is told whole"
    return EVENT_BYTES + said_bytes(said)
