"""A route: a `Model` that is several, and asks one of them at a time.

Rules of the file: an answer is one model's answer, from its first event to its last. Another
model is asked only before anything was handed out, each at most once. All of that happens on
entry, so that no model's context is entered under a scope that its reader leaves before it.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypeVar

import attrs
import trio

from orchestra.accounts import Certainty, Usage
from orchestra.answers import Completion
from orchestra.errors import (
    ContentFilterError,
    InvalidRequestError,
    ModelError,
    ModelsFailedError,
    OutputError,
)
from orchestra.events import StepRouted
from orchestra.groups import leaves, split
from orchestra.policies.account import PRESENT
from orchestra.policies.accounting import note_begun, was_unsent
from orchestra.policies.held_answer import HeldCall, heard_in
from orchestra.policies.latency import Latencies
from orchestra.policies.needs import needs_of, together
from orchestra.policies.routing import (
    BY_CHANCE,
    ByLatency,
    Candidate,
    Route,
    choose,
    comparable,
    conversation_of,
    refusal,
    sticky_draws,
)
from orchestra.protocols import Model, ModelReply
from orchestra.providers.opening import Opening, refusal_in, stopped_for
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    ModelEvent,
    StopReason,
)

T = TypeVar("T")
Kind: TypeAlias = Literal["stream", "complete", "embed"]
Draw: TypeAlias = Callable[[], float]

_NOT_ITS_FAULT = (InvalidRequestError, ContentFilterError, OutputError)


class RoutedModel(Model):
    """A `Model` that stands for those of a route, each of which is in `models` by its name.

    How fast each is, is remembered for as long as this object lives, for each kind of call by
    itself; nothing else is. `draw` gives numbers from 0 up to and without 1.
    """

    def __init__(
        self, route: Route, models: Mapping[str, Model], draw: Draw = random.random
    ) -> None:
        self.route = route
        self._desk = _Desk(route, models, draw)

    @property
    def capabilities(self) -> Capabilities:
        """What at least one of its models can do, as far as is known."""
        return together(each.capabilities for each in self.route.candidates)

    def stream(self, request: ChatRequest) -> RoutedAnswer:
        """Ask; entered when one of the models has begun to say something.

        What a model has consumed that failed before it is in the account of the step, and not in
        the usage of the one that answers. Leaving it, or cancelling, closes what is open;
        neither counts as a failure.

        Raises:
            CapabilityError: on entry: no model can do what is asked.
            InvalidRequestError: on entry: its extras for a route are wrong.
            ModelsFailedError: on entry: several were asked, and all failed.
            ModelError: on entry: the one that was asked failed; on receive: the answer broke.
        """
        return RoutedAnswer(self._desk, request)

    async def complete(self, request: ChatRequest) -> Completion:

        async def ask(name: str) -> Completion:
            model = self._desk.began("complete", name)
            try:
                found = await model.complete(request)
            finally:
                self._desk.left("complete", name)
            try:
                self._desk.refuse(name, _refusal_of(found))
            except ContentFilterError:
                if found.usage is not None:  # as in `_begin`
                    PRESENT.get().used(found.usage)
                raise
            return found

        return await self._desk.first("complete", request, ask)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector for each text, in order, all from one model.

        Only those models are asked of which vectors can be compared with each other: those of
        the same kind as the first that makes vectors at all.

        Raises:
            ModelError: as of `stream`.
        """

        async def ask(name: str) -> Embeddings:
            model = self._desk.began("embed", name)
            try:
                return await model.embed(request)
            finally:
                self._desk.left("embed", name)

        return await self._desk.first("embed", request, ask)


class RoutedAnswer:
    """One streamed answer of a route: a context, and in it the reply of one model."""

    def __init__(self, desk: _Desk, request: ChatRequest) -> None:
        self._desk = desk
        self._request = request
        self._inner: AbstractAsyncContextManager[ModelReply] | None = None
        self._reply: ModelReply | None = None
        self._name = ""
        self._opening: tuple[ModelEvent, ...] = ()

    async def __aenter__(self) -> Self:
        self._reply = await self._desk.first("stream", self._request, self._begin)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        assert self._inner is not None, "entered"
        self._reply, self._opening = None, ()
        try:
            return await self._inner.__aexit__(kind, error, traceback)  # noqa: ASYNC102 - the model's own
        finally:
            self._desk.left("stream", self._name)

    @property
    def heard(self) -> HeldCall | None:
        """What is known of the answer, where its model listens to it."""
        return None if self._reply is None else heard_in(self._reply)

    def receive(self) -> Coroutine[Any, Any, tuple[ModelEvent, ...]]:
        """What has arrived since the last call, waiting for something; empty at the end.

        Behind the opening it is the model's own: what is awaited for each token has no layer more.

        Raises:
            ModelError: when awaited: the answer failed, or was cut.
        """
        if self._opening or self._reply is None:
            return self._opened_with()
        return self._desk.watched(self._name, self._reply)

    async def _opened_with(self) -> tuple[ModelEvent, ...]:
        await trio.lowlevel.checkpoint_if_cancelled()  # it was waited for on entry
        opening, self._opening = self._opening, ()
        return opening

    async def _begin(self, name: str) -> ModelReply:
        """The reply of this model, once it has said something."""
        self._name, opening = name, Opening()
        try:
            reply = await self._opened(name, opening)
        except (ModelError, BaseExceptionGroup) as error:
            told = opening.usage  # which nobody else hears of; a guard's is settled
            if told is not None and _failure(error) is not None:
                PRESENT.get().used(_partial(told))
            raise
        return reply

    async def _opened(self, name: str, opening: Opening) -> ModelReply:
        """As `_begin`; where it fails, the model is left."""
        model = self._desk.began("stream", name)
        try:
            inner = model.stream(self._request)
            reply = await inner.__aenter__()
            try:
                self._opening = await opening.wait(reply)
                self._desk.refuse(name, refusal_in(self._opening))
            except BaseException as error:
                await _left_with(inner, error)  # noqa: ASYNC102 - the model's own
                raise
        except BaseException:
            self._desk.left("stream", name)
            raise
        self._inner = inner
        return reply


class _Desk:
    """Asks the models of a route, one after the other.

    It remembers how fast they were, where the route wants to know.
    """

    def __init__(self, route: Route, models: Mapping[str, Model], draw: Draw) -> None:
        self._route = route
        self._models = {each.name: models[each.name] for each in route.candidates}
        self._draw = draw
        self._by_chance = isinstance(route.by, BY_CHANCE)
        kinds: tuple[Kind, ...] = ("stream", "complete", "embed")
        self._latencies: Mapping[Kind, Latencies] = {}
        if isinstance(route.by, ByLatency):
            self._latencies = {kind: Latencies(self._models) for kind in kinds}

    async def first(
        self, kind: Kind, request: ChatRequest | EmbedRequest, ask: Callable[[str], Awaitable[T]]
    ) -> T:
        """What the first of the models gives that does not fail, each asked at most once."""
        failed: dict[str, ModelError] = {}
        for candidate in self._order(kind, request):
            name = candidate.name
            began_s = trio.current_time() if self._latencies else 0.0
            try:
                found = await ask(name)
            except trio.Cancelled as cancelled:
                self._cut(kind, name, began_s)
                if not all(map(was_unsent, failed.values())):
                    note_begun(cancelled)
                raise
            except (ModelError, BaseExceptionGroup) as raised:
                error = _failure(raised)
                if error is None:
                    if split(raised)[0] is None:
                        self._cut(kind, name, began_s)
                    raise
                failed[name] = error
                self.blame(kind, name, error, trio.current_time() - began_s)
                if not isinstance(error, self._route.falls_back_on):
                    break
            else:
                if self._latencies:
                    now_s = trio.current_time()
                    self._latencies[kind].answered(name, now_s - began_s, now_s)
                PRESENT.get().record(StepRouted, self._route.name, name)
                return found
        raise _error_of_all(self._route.name, failed)

    def refuse(self, name: str, why: str | None) -> None:
        """Take a refusal for a failure, where this route goes on after one; else it is an answer.

        Raises:
            ContentFilterError: there is a reason why the model refused.
        """
        if why is not None and issubclass(ContentFilterError, self._route.falls_back_on):
            raise ContentFilterError(f"model {name!r} refused to answer: {why}", model=name)

    def began(self, kind: Kind, name: str) -> Model:
        """The model of this name, which is waited for until it is `left`."""
        if self._latencies:
            self._latencies[kind].began(name)
        return self._models[name]

    def left(self, kind: Kind, name: str) -> None:
        """A call of this model has ended, however it did."""
        if self._latencies:
            self._latencies[kind].left(name)

    def blame(self, kind: Kind, name: str, error: ModelError, took_s: float = 0.0) -> None:
        """Remember a failure of a model, unless it is that of the request."""
        if self._latencies and not isinstance(error, _NOT_ITS_FAULT):
            self._latencies[kind].failed(name, took_s, trio.current_time())

    def _cut(self, kind: Kind, name: str, began_s: float) -> None:
        """Remember how long a caller has waited in vain."""
        if self._latencies:
            now_s = trio.current_time()
            self._latencies[kind].cut(name, now_s - began_s, now_s)

    def watched(self, name: str, reply: ModelReply) -> Coroutine[Any, Any, tuple[ModelEvent, ...]]:
        """The next of this model's answer; that it fails is remembered, where somebody asks."""
        return self._watched(name, reply) if self._latencies else reply.receive()

    async def _watched(self, name: str, reply: ModelReply) -> tuple[ModelEvent, ...]:
        try:
            return await reply.receive()
        except ModelError as error:
            self.blame("stream", name, error)
            raise

    def _order(self, kind: Kind, request: ChatRequest | EmbedRequest) -> Sequence[Candidate]:
        """Who is asked for a request, one after the other."""
        route, needs = self._route, needs_of(request)
        candidates = route.candidates if kind != "embed" else comparable(route.candidates)
        loads: Mapping[str, float] = {}
        if self._latencies:
            loads = self._latencies[kind].loads(trio.current_time())
        draws = self._draws(request, candidates) if self._by_chance else ()
        order = choose(route.by, candidates, needs, loads, draws)
        if not order:
            raise refusal(route, needs, candidates or route.candidates)
        return order if route.falls_back_on else order[:1]

    def _draws(
        self, request: ChatRequest | EmbedRequest, candidates: Sequence[Candidate]
    ) -> Sequence[float]:
        by = self._route.by
        assert isinstance(by, BY_CHANCE), "else nothing is drawn"
        if by.sticky and isinstance(request, ChatRequest):
            return sticky_draws(conversation_of(request), [each.name for each in candidates])
        return [self._draw() for _ in candidates]


def _refusal_of(found: Completion) -> str | None:
    """Why a whole answer is none, if it was refused, or stopped by a content filter."""
    if found.stopped.reason is StopReason.CONTENT_FILTER:
        return found.refusal or stopped_for(found.stopped.raw)
    return found.refusal or None


async def _left_with(inner: AbstractAsyncContextManager[ModelReply], error: BaseException) -> None:
    """Leave a model that has failed with this error, which its nursery may put into a group."""
    try:
        await inner.__aexit__(type(error), error, error.__traceback__)
    except BaseExceptionGroup as group:
        _, onward = split(group)
        if onward is not None or all(each is not error for each in leaves(group)):
            raise


def _failure(raised: ModelError | BaseExceptionGroup) -> ModelError | None:
    """The model's error in what a call raised: a model that has a nursery raises it in a group."""
    if isinstance(raised, ModelError):
        return raised
    own, onward = split(raised)
    return own if onward is None and isinstance(own, ModelError) else None


def _error_of_all(route: str, failed: Mapping[str, ModelError]) -> ModelError:
    """The error of the one model that was asked, or those of several together."""
    *before, last = failed.values()
    if not before:
        return last
    message = f"{len(failed)} models of route {route!r} failed, one after the other:"
    error = ModelsFailedError(message, failed, model=route)
    error.__cause__ = last
    return error


def _partial(usage: Usage) -> Usage:
    """What was told of an answer that failed: never the whole count."""
    if usage.certainty is not Certainty.EXACT:
        return usage
    return attrs.evolve(usage, certainty=Certainty.PARTIAL)
