"""The flights of one model that may be joined, and who joins which.

Rule of the file: between finding a flight and joining it, nothing is awaited.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Generic, TypeVar

import trio

from orchestra.errors import BindingError, ModelError
from orchestra.events import StepCoalesced
from orchestra.policies.account import NOBODY, PRESENT
from orchestra.policies.alike import may_ask_the_same
from orchestra.policies.coalesce import CoalesceRule, Question, Sharing, nearest, question_of
from orchestra.policies.flight import Flight, Waiter
from orchestra.protocols import Account, Embedder
from orchestra.values import ChatRequest, EmbedRequest, Vector

Item = TypeVar("Item")

COMPARE_S = 1.0
"""Longer than that, a question waits for no comparison."""


class FlightBoard(Generic[Item]):
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
        self._scopes: dict[bytes, dict[Flight[Item], None]] = {}
        """Those that may be compared, by where; the youngest last. There may be thousands."""

    async def waiter(
        self,
        request: ChatRequest | EmbedRequest,
        sharing: Sharing,
        call: Callable[[Flight[Item]], Awaitable[None]],
        *,
        in_one_piece: bool = False,
        until_s: float | None = None,
    ) -> Waiter[Item] | None:
        """One who waits for this request's answer; None for a call of its own.

        That is one that is not to be shared, or cannot be. Cancelled, it waits for none.
        `in_one_piece` is how the call that it may begin says its answer. It waits until `until_s`;
        by default, until the present task's deadline.
        """
        account = PRESENT.get()
        if sharing is Sharing.ALONE or account is NOBODY:
            return None
        await trio.lowlevel.checkpoint_if_cancelled()
        question = question_of(account.caller.tenant, self._name, request, self._rule)
        if question.key is None:
            return None
        together = sharing is Sharing.ANY
        if until_s is None:
            until_s = trio.current_effective_deadline()
        if flight := self._joinable(question.key, account, together=together):
            return self._joined(flight, account, until_s)
        near = question.near and self._near(question, account, together=together)
        if near:
            similar = await self._alike(question, near)
            if flight := self._joinable(question.key, account, together=together):
                return self._joined(flight, account, until_s)  # it began while we compared
            if similar is not None and similar[0].open:
                return self._joined(similar[0], account, until_s, similar[1])
        return self._opened(question, account, until_s, call, in_one_piece=in_one_piece)

    def alone(
        self, left: Waiter[Item], call: Callable[[Flight[Item]], Awaitable[None]]
    ) -> Waiter[Item]:
        """One who waits for a call that nobody else joins, in place of another that was `left`."""
        flight = Flight(left.flight.question, self._rule, self._size_bytes, _unlisted)
        return self._begun(flight, left.account, left.until_s, call)

    def _joinable(self, key: bytes, account: Account, *, together: bool) -> Flight[Item] | None:
        for flight in self._flights.get(key, ()):
            if flight.open and (together or not flight.has_served(account.run_id)):
                return flight
        return None

    def _joined(
        self, flight: Flight[Item], account: Account, until_s: float, similarity: float = 1.0
    ) -> Waiter[Item]:
        account.record(StepCoalesced, self._name, similarity)
        return flight.join(account, until_s)

    def _opened(
        self,
        question: Question,
        account: Account,
        until_s: float,
        call: Callable[[Flight[Item]], Awaitable[None]],
        *,
        in_one_piece: bool,
    ) -> Waiter[Item] | None:
        if self.open >= self._rule.flights_max:
            return None
        flight = Flight(question, self._rule, self._size_bytes, self._closed)
        flight.in_one_piece = in_one_piece
        assert question.key is not None, "asked before"
        self._flights.setdefault(question.key, []).append(flight)
        if question.near is not None:
            self._scopes.setdefault(question.near, {})[flight] = None
        self.open += 1
        return self._begun(flight, account, until_s, call)

    def _begun(
        self,
        flight: Flight[Item],
        account: Account,
        until_s: float,
        call: Callable[[Flight[Item]], Awaitable[None]],
    ) -> Waiter[Item]:
        waiter = flight.join(account, until_s)
        try:
            flight.start(account, partial(call, flight), self._title)
        except BaseException:
            flight.left(waiter)
            raise
        return waiter

    def _closed(self, flight: Flight[Item]) -> None:
        self.open -= 1
        key, near = flight.question.key, flight.question.near
        assert key is not None, "asked when it was opened"
        flights = self._flights[key]
        flights.remove(flight)
        if not flights:
            del self._flights[key]
        if near is not None:
            scope = self._scopes[near]
            del scope[flight]
            if not scope:
                del self._scopes[near]

    def _near(
        self, question: Question, account: Account, *, together: bool
    ) -> Sequence[Flight[Item]]:
        """Flights that may ask the same in other words, among the youngest."""
        if question.near is None or self._embedder is None:
            return ()
        paraphrases = self._rule.paraphrases
        youngest = (
            flight
            for flight in reversed(self._scopes.get(question.near, {}))
            if flight.open and (together or not flight.has_served(account.run_id))
        )
        found = list(islice(youngest, self._rule.compared_max))
        return [
            flight
            for flight in reversed(found)
            if may_ask_the_same(flight.question.text, question.text, paraphrases=paraphrases)
        ]

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
        assert self._rule.similarity is not None, "else no question is near another"
        found = nearest(mine, vectors, self._rule.similarity)
        return None if found is None else (known[found[0]][0], found[1])


def _unlisted(flight: Flight[Item]) -> None:
    """Nobody could join it."""
