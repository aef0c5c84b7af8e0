"""A coalesced model: equal requests at the same time share one call.

Rules of the file: a call that cannot be shared goes to the model unchanged. If the caller that
started a call is refused by a budget or a limit, the other waiters are not: each asks again, on
its own account.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TypeAlias, TypeVar, cast

from orchestra.answers import Completion
from orchestra.policies.answers.replayed import events_of
from orchestra.policies.answers.sizes import held_bytes
from orchestra.policies.flights.board import FlightBoard
from orchestra.policies.flights.coalesce import CoalesceRule
from orchestra.policies.flights.flight import Flight
from orchestra.policies.flights.waiter import Waiter
from orchestra.protocols import Embedder, Model, ModelReply
from orchestra.rankings import AnyRequest, Ranking, RerankRequest
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    ModelEvent,
    TextDelta,
)

Item = TypeVar("Item")
FlightItem: TypeAlias = ModelEvent | Completion
"""An item of a flight: an event of an answer, or the complete answer."""

EVENT_BYTES = 100
"""The size of an event without its content: about the memory that it takes."""
TRIES = 3
"""How often a waiter waits for another caller's call; after that, it makes its own."""


class CoalescedModel(Model):
    """A model whose equal calls share one call, within a tenant and an engine.

    Streams share too. Calls of one run are not shared with each other, unless they ask for it;
    outside a run, no call is shared. `name` is the model's name in journals, and a part of each
    call's key. With an embedder and `rule.similarity`, similar questions share a call, too.
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
        self._chats = FlightBoard[FlightItem](
            name, self.rule, size_bytes=_item_bytes, embedder=embedder, whole=_Whole
        )
        self._embeds = FlightBoard[Embeddings](name, self.rule)
        self._reranks = FlightBoard[Ranking](name, self.rule)

    @property
    def capabilities(self) -> Capabilities:
        """The model's capabilities, as far as they are known."""
        return self.model.capabilities

    @property
    def flights(self) -> int:
        """The number of running calls that can be joined; for tests."""
        return self._chats.open + self._embeds.open + self._reranks.open

    def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
        """Ask, or join an equal call; a joiner receives the answer so far at once.

        The context is entered before any output, so errors come on receive. The usage in the answer
        is that of the whole call, settled; this caller's share is added to its account. When the
        last waiter leaves or is cancelled, the call is stopped.

        Raises:
            InvalidRequestError: on entry: the request's "coalesce" setting in the extras is wrong.
            ModelError: on receive; for a call that is not shared, also on entry.
        """
        return _SharedAnswer(self._chats, self.model, request)

    async def complete(self, request: ChatRequest) -> Completion:
        """Ask, and wait for the whole answer; the call may be shared with streams.

        A call that starts here asks the model for a complete answer: streams that join it receive
        everything at its end.

        Raises:
            ModelError: as for `stream`.
        """

        async def call(flight: Flight[FlightItem]) -> None:
            flight.tell_whole(flight.bill.of_result(await self.model.complete(request)))

        items = await _shared(self._chats, request, call)
        if items is None:
            return await self.model.complete(request)
        if items and isinstance(items[0], Completion):  # a complete answer
            return items[0]
        return Completion.of(cast("Sequence[ModelEvent]", items))

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector for each text, in order; only equal requests share a call.

        Raises:
            ModelError: the call failed.
        """

        async def call(flight: Flight[Embeddings]) -> None:
            flight.tell_whole(flight.bill.of_result(await self.model.embed(request)))

        found = await _shared(self._embeds, request, call)
        return found[0] if found else await self.model.embed(request)

    async def rerank(self, request: RerankRequest) -> Ranking:
        """The most relevant texts, best first; only equal requests share a call.

        Raises:
            ModelError: the call failed.
        """

        async def call(flight: Flight[Ranking]) -> None:
            flight.tell_whole(flight.bill.of_result(await self.model.rerank(request)))

        found = await _shared(self._reranks, request, call)
        return found[0] if found else await self.model.rerank(request)


async def _shared(
    board: FlightBoard[Item],
    request: AnyRequest,
    call: Callable[[Flight[Item]], Awaitable[None]],
) -> list[Item] | None:
    """All items of a shared call; None if the request has to be a call of its own."""
    waiter: Waiter[Item] | None = None
    for _ in range(TRIES):
        waiter = await board.waiter(request, call, in_one_piece=True, again=waiter)
        if waiter is None:
            break
        items = await _all_items(waiter)
        if items is not None:
            return items
    return None


async def _all_items(waiter: Waiter[Item]) -> list[Item] | None:
    """All items of a flight; None if its opener was refused, but not this waiter.

    Raises:
        ModelError: the call failed.
    """
    items: list[Item] = []
    try:
        while batch := await waiter.receive():
            items += batch
            if waiter.ended:
                break
    except Exception as error:
        if not waiter.refused(error):
            raise
        return None
    finally:
        await waiter.leave()  # noqa: ASYNC102 - it is shielded, and bounded
    return items


class _Whole(Flight[FlightItem]):
    """A flight with a complete answer as its only item; streams receive it as events."""

    def unread(self, waiter: Waiter[FlightItem]) -> tuple[FlightItem, ...] | None:
        found = super().unread(waiter)
        if not found or waiter.in_one_piece:
            return found
        answers = cast("tuple[Completion, ...]", found)
        return tuple(event for answer in answers for event in events_of(answer))


class _SharedAnswer:
    """A context manager for a streamed answer, from a flight or from a call of its own."""

    __slots__ = ("_board", "_model", "_own", "_request", "_tries", "_waiter")

    def __init__(self, board: FlightBoard[FlightItem], model: Model, request: ChatRequest) -> None:
        self._board = board
        self._model = model
        self._request = request
        self._waiter: Waiter[FlightItem] | None = None
        self._own: AbstractAsyncContextManager[ModelReply] | None = None
        self._tries = TRIES

    async def __aenter__(self) -> ModelReply:
        waiter = await self._board.waiter(self._request, self._call)
        if waiter is None:
            own = self._model.stream(self._request)
            entered = await own.__aenter__()
            self._own = own  # entered, so `__aexit__` has to leave it
            return entered
        self._waiter = waiter
        waiter.asks_anew = self._ask_anew
        return cast("Waiter[ModelEvent]", waiter)

    async def _ask_anew(self, waiter: Waiter[FlightItem]) -> None:
        """Move the waiter to another flight, or to a new one that nobody else can join.

        The model's context is not entered here: this runs inside cancel scopes of the reader,
        which end before the model's context would.
        """
        self._tries -= 1
        found = None
        if self._tries > 0:
            found = await self._board.waiter(self._request, self._call, again=waiter)
        if found is None:
            self._board.alone(waiter, self._call)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        waiter, self._waiter = self._waiter, None  # they reference each other
        if waiter is not None:
            await waiter.leave()  # noqa: ASYNC102 - it is shielded, and bounded
        elif self._own is not None:
            return await self._own.__aexit__(kind, error, traceback)  # noqa: ASYNC102 - the model's
        return None

    async def _call(self, flight: Flight[FlightItem]) -> None:
        async with self._model.stream(self._request) as reply:
            while batch := await reply.receive():
                await flight.publish(*flight.bill.of_batch(batch))


def _item_bytes(item: FlightItem) -> int:
    if type(item) is TextDelta and item.text.isascii():  # nearly all of them are
        return EVENT_BYTES + len(item.text)
    assert not isinstance(item, Completion), "complete answers go through `tell_whole`"
    return EVENT_BYTES + held_bytes(item)
