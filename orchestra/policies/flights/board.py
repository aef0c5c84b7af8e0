"""The flights (shared calls) of one model that can be joined, and which waiters join them.

Rules of the file: nothing is awaited between finding a flight and joining it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import islice
from typing import Generic, TypeVar

import trio

from orchestra.errors import MalformedStreamError
from orchestra.events import StepCoalesced
from orchestra.policies.account import NOBODY, PRESENT
from orchestra.policies.caching.alike import may_ask_the_same
from orchestra.policies.flights.coalesce import (
    CoalesceRule,
    Question,
    nearest,
    question_of,
)
from orchestra.policies.flights.flight import Flight
from orchestra.policies.flights.waiter import Waiter
from orchestra.policies.observed import ASKED_FIRST
from orchestra.policies.outages import Outages
from orchestra.policies.requests.extras import Sharing, sharing_in
from orchestra.protocols import Embedder
from orchestra.rankings import AnyRequest
from orchestra.values import Vector

Item = TypeVar("Item")

COMPARE_S = 1.0
"""The longest wait for the vectors of the questions to compare."""

log = logging.getLogger("orchestra.policies")


class FlightBoard(Generic[Item]):
    """The flights of one model that can be joined, by their questions."""

    def __init__(
        self,
        name: str,
        rule: CoalesceRule,
        *,
        size_bytes: Callable[[Item], int] | None = None,
        embedder: Embedder | None = None,
        whole: type[Flight[Item]] | None = None,
    ) -> None:
        self.open = 0
        self._name = name
        self._rule = rule
        self._size_bytes = size_bytes
        self._embedder = embedder
        self._whole = whole
        self._outages = Outages(log, f"coalescing of calls of {name}")
        self._flights: dict[bytes, list[Flight[Item]]] = {}
        self._scopes: dict[bytes, dict[Flight[Item], None]] = {}
        """The flights whose questions can be compared, by scope, the youngest last.
        There may be thousands.
        """

    async def waiter(
        self,
        request: AnyRequest,
        call: Callable[[Flight[Item]], Awaitable[None]],
        *,
        in_one_piece: bool = False,
        again: Waiter[Item] | None = None,
    ) -> Waiter[Item] | None:
        """A waiter for this request's answer; None if the request has to be a call of its own.

        That is one that may not, or cannot, be shared. If cancelled, no waiter is left behind.
        The waiter waits until the current task's deadline. If a call is started here,
        `in_one_piece` says whether it gives a complete answer instead of a stream. `again` is a
        waiter that has left another flight, and is to wait here instead.

        Raises:
            InvalidRequestError: as for `sharing_in`.
        """
        sharing, account = sharing_in(request.extras), PRESENT.get()
        if sharing is Sharing.ALONE or account is NOBODY:
            return None
        await trio.lowlevel.checkpoint_if_cancelled()
        question = question_of(account.caller.tenant, self._name, request, self._rule)
        if question is None:
            return None
        together = sharing is Sharing.ANY
        until_s = trio.current_effective_deadline()
        waiter = again or Waiter(account, until_s, in_one_piece=in_one_piece)
        if flight := self._joinable(question.key, waiter, together=together):
            return self._joined(flight, waiter)
        near = question.near and self._near(question, waiter, together=together)
        if near:
            similar = await self._alike(question, near)
            if flight := self._joinable(question.key, waiter, together=together):
                return self._joined(flight, waiter)  # it began during the comparison
            if similar is not None and _serves(similar[0], waiter, together=together):
                return self._joined(similar[0], waiter, similar[1])
        return self._opened(question, waiter, call)

    def alone(
        self, left: Waiter[Item], call: Callable[[Flight[Item]], Awaitable[None]]
    ) -> Waiter[Item]:
        """Start a flight for a waiter that has `left` another one; nobody else can join it."""
        flight = Flight(left.flight.question, self._rule, self._size_bytes, lambda _: None)
        return self._started(flight, left, call)

    def _joinable(self, key: bytes, waiter: Waiter[Item], *, together: bool) -> Flight[Item] | None:
        for flight in self._flights.get(key, ()):
            if _serves(flight, waiter, together=together):
                return flight
        return None

    def _joined(
        self, flight: Flight[Item], waiter: Waiter[Item], similarity: float = 1.0
    ) -> Waiter[Item]:
        before = ASKED_FIRST.set((flight.run_id, flight.step))
        try:
            waiter.account.record(StepCoalesced, self._name, similarity)
        finally:
            ASKED_FIRST.reset(before)
        return flight.join(waiter)

    def _opened(
        self,
        question: Question,
        waiter: Waiter[Item],
        call: Callable[[Flight[Item]], Awaitable[None]],
    ) -> Waiter[Item] | None:
        if self.open >= self._rule.flights_max:
            return None
        made = self._whole if waiter.in_one_piece and self._whole is not None else Flight
        flight = made(question, self._rule, self._size_bytes, self._closed)
        same = self._flights.setdefault(question.key, [])
        same.append(flight)
        if len(same) > 1:
            for each in same:
                each.overtakes = self._overtaken
        if question.near is not None:
            self._scopes.setdefault(question.near, {})[flight] = None
        self.open += 1
        return self._started(flight, waiter, call)

    def _started(
        self,
        flight: Flight[Item],
        waiter: Waiter[Item],
        call: Callable[[Flight[Item]], Awaitable[None]],
    ) -> Waiter[Item]:
        flight.join(waiter)
        try:
            flight.start(waiter.account, partial(call, flight), self._name)
        except BaseException:
            flight.left(waiter)
            raise
        return waiter

    def _overtaken(self, flight: Flight[Item]) -> None:
        """Move the waiters of equal flights that have not begun to this flight."""
        for other in self._flights.get(flight.question.key, ())[:]:
            for waiter in [] if other.begun else other.waiters[:]:
                if _serves(flight, waiter, together=False):
                    other.left(waiter)
                    self._joined(flight, waiter)
                    waiter.wake()

    def _closed(self, flight: Flight[Item]) -> None:
        self.open -= 1
        key, near = flight.question.key, flight.question.near
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
        self, question: Question, waiter: Waiter[Item], *, together: bool
    ) -> Sequence[Flight[Item]]:
        """Those of the `compared_max` youngest flights that may ask the same in other words."""
        if question.near is None or self._embedder is None:
            return ()
        paraphrases = self._rule.paraphrases
        youngest = (
            flight
            for flight in reversed(self._scopes.get(question.near, {}))
            if _serves(flight, waiter, together=together)
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
        """The flight with the most similar question, and its similarity.

        None if no question is similar enough, or their vectors are missing.
        """
        unknown = [flight for flight in flights if flight.vector is None]
        texts = [question.text, *(flight.question.text for flight in unknown)]
        vectors = await self._vectors(texts)
        if not vectors:
            return None
        asked, *others = vectors
        for flight, vector in zip(unknown, others, strict=True):
            flight.vector = vector
        known = [(each, each.vector) for each in flights if each.open and each.vector is not None]
        assert self._rule.similarity is not None, "without it, no questions are compared"
        found = nearest(asked, [vector for _, vector in known], self._rule.similarity)
        return None if found is None else (known[found[0]][0], found[1])

    async def _vectors(self, texts: Sequence[str]) -> Sequence[Vector]:
        """The vectors of these texts; none if the embedder fails or is too slow, which is logged.

        Sharing only saves money, and must not fail a call.
        """
        embedder = self._embedder
        assert embedder is not None, "flights are compared only with an embedder"

        async def embed() -> Sequence[Vector]:
            vectors = await embedder.embed(texts, purpose="query")
            if len(vectors) != len(texts):
                raise MalformedStreamError(
                    f"it returned {len(vectors)} vectors for {len(texts)} texts"
                )
            return vectors

        return await self._outages.bounded("embedder", embed, COMPARE_S) or ()


def _serves(flight: Flight[Item], waiter: Waiter[Item], *, together: bool) -> bool:
    """Whether a waiter may join a flight: never one that waits for another caller's limits.

    Without `together`, it must not be a flight that has served the waiter's own run before.
    """
    account = waiter.account
    if not flight.open or (not together and flight.has_served(account.run_id)):
        return False
    if flight.queued or (waiter.turned_away and not flight.begun):
        return flight.caller == account.caller
    return True
