"""A route: a `Model` that stands for several, and asks one of them at a time.

Rules of the file: every answer comes from one model, from its first to its last event. Another
model is asked only as long as no event was returned, and each model at most once. All of this
happens on entry, so that no model's context is entered inside a scope that its reader leaves first.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypeVar, get_args

import trio

from orchestra.answers import Completion
from orchestra.errors import (
    ContentFilterError,
    InvalidRequestError,
    ModelError,
    ModelsFailedError,
    OutputError,
    StateError,
)
from orchestra.events import StepRouted
from orchestra.groups import leaves, split
from orchestra.policies.account import PRESENT
from orchestra.policies.answers.accounting import as_partial, note_begun, was_unsent
from orchestra.policies.answers.held import HeldCall, held_call_of
from orchestra.policies.health.latency import Latencies
from orchestra.policies.requests.needs import needs_of, together
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
from orchestra.rankings import AnyRequest, Ranking, RerankRequest
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    ModelEvent,
    StopReason,
)

T = TypeVar("T")
Kind: TypeAlias = Literal["stream", "complete", "embed", "rerank"]
Draw: TypeAlias = Callable[[], float]

_NOT_ITS_FAULT = (InvalidRequestError, ContentFilterError, OutputError)


class RoutedModel(Model):
    """A `Model` that stands for the models of a route; `models` maps names to models.

    Its only state is the measured latencies of each model and kind of call. `draw` returns random
    numbers from 0 up to, but not including, 1.
    """

    def __init__(
        self, route: Route, models: Mapping[str, Model], draw: Draw = random.random
    ) -> None:
        self.route = route
        self._desk = _Desk(route, models, draw)

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities that at least one of its models is known to have."""
        return together(each.capabilities for each in self.route.candidates)

    def stream(self, request: ChatRequest) -> RoutedAnswer:
        """Ask the models in turn; the context is entered when one of them has begun its answer.

        The usage of models that failed before is in the account of the step, not in the usage of
        the answer. Leaving the context or cancelling closes open connections; neither counts as a
        failure.

        Raises:
            CapabilityError: on entry: no model can handle the request.
            InvalidRequestError: on entry: the request's extras for routes are invalid.
            ModelsFailedError: on entry: several models were asked, and all failed.
            ModelError: on entry: the only model asked failed; on receive: the answer failed.
        """
        return RoutedAnswer(self._desk, request)

    async def complete(self, request: ChatRequest) -> Completion:

        async def ask(name: str, model: Model) -> Completion:
            found = await model.complete(request)
            try:
                self._desk.refuse(name, _refusal_of(found))
            except ContentFilterError:
                if found.usage is not None:  # as in `_begin`
                    PRESENT.get().used(found.usage)
                raise
            return found

        return await self._desk.whole("complete", request, ask)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector for each text, in order, all from one model.

        Only models whose vectors are comparable are asked: those with the same kind of vectors as
        the route's first model with embeddings.

        Raises:
            ModelError: as in `stream`.
        """
        return await self._desk.whole("embed", request, lambda _, model: model.embed(request))

    async def rerank(self, request: RerankRequest) -> Ranking:
        """The most relevant texts, best first, all from one model.

        Raises:
            ModelError: as in `stream`.
        """
        return await self._desk.whole("rerank", request, lambda _, model: model.rerank(request))


class RoutedAnswer:
    """One streamed answer of a route: a context manager that returns the reply of one model."""

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
    def held_call(self) -> HeldCall | None:
        """What is known so far of the answer, if the model's reply tracks it; else None."""
        return None if self._reply is None else held_call_of(self._reply)

    def receive(self) -> Coroutine[Any, Any, tuple[ModelEvent, ...]]:
        """The events since the last call, waiting for some; empty at the end.

        After the opening, this returns the model's own coroutine, to avoid a layer for each token.

        Raises:
            ModelError: when awaited: the answer failed, or was cut.
        """
        if self._opening or self._reply is None:
            return self._opened_with()
        return self._desk.watched(self._name, self._reply)

    async def _opened_with(self) -> tuple[ModelEvent, ...]:
        await trio.lowlevel.checkpoint_if_cancelled()  # no wait: these events came on entry
        opening, self._opening = self._opening, ()
        return opening

    async def _begin(self, name: str) -> ModelReply:
        """The reply of this model, once it has begun its answer."""
        self._name, opening = name, Opening()
        try:
            reply = await self._opened(name, opening)
        except (ModelError, BaseExceptionGroup) as error:
            usage = opening.usage  # not recorded elsewhere: a guarded model settles only its own
            if usage is not None and _failure(error) is not None:
                PRESENT.get().used(as_partial(usage))
            raise
        return reply

    async def _opened(self, name: str, opening: Opening) -> ModelReply:
        """Enter a model's context and wait for its opening; leave the context after a failure."""
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

    It measures their latencies if the route chooses by latency.
    """

    def __init__(self, route: Route, models: Mapping[str, Model], draw: Draw) -> None:
        self._route = route
        self._models = {each.name: models[each.name] for each in route.candidates}
        self._draw = draw
        self._by_chance = isinstance(route.by, BY_CHANCE)
        self._latencies: Mapping[Kind, Latencies] = {}
        if isinstance(route.by, ByLatency):
            self._latencies = {kind: Latencies(self._models) for kind in get_args(Kind)}

    async def first(self, kind: Kind, request: AnyRequest, ask: Callable[[str], Awaitable[T]]) -> T:
        """The result of the first model that does not fail; each is asked at most once.

        After an error that is not in the route's `falls_back_on`, no other model is asked.
        """
        failed: dict[str, ModelError] = {}
        for candidate in self._order(kind, request):
            name = candidate.name
            began_s = trio.current_time() if self._latencies else 0.0
            try:
                found = await ask(name)
            except (trio.Cancelled, StateError) as stopped:
                # StateError: a policy cannot ask its state
                if isinstance(stopped, trio.Cancelled):
                    self._cut(kind, name, began_s)
                if not all(map(was_unsent, failed.values())):
                    note_begun(stopped)
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

    async def whole(
        self, kind: Kind, request: AnyRequest, ask: Callable[[str, Model], Awaitable[T]]
    ) -> T:
        """As `first`, for calls that end with their result; `ask` gets the model and its name."""

        async def asked(name: str) -> T:
            model = self.began(kind, name)
            try:
                return await ask(name, model)
            finally:
                self.left(kind, name)

        return await self.first(kind, request, asked)

    def refuse(self, name: str, why: str | None) -> None:
        """Treat a refusal as a failure if this route falls back on refusals; else as an answer.

        Raises:
            ContentFilterError: the model refused, for the reason `why`.
        """
        if why is not None and issubclass(ContentFilterError, self._route.falls_back_on):
            raise ContentFilterError(f"model {name!r} refused to answer: {why}", model=name)

    def began(self, kind: Kind, name: str) -> Model:
        """The model of this name; its call counts as pending until `left` is called."""
        if self._latencies:
            self._latencies[kind].began(name)
        return self._models[name]

    def left(self, kind: Kind, name: str) -> None:
        """Note that a call of this model has ended, for whatever reason."""
        if self._latencies:
            self._latencies[kind].left(name)

    def blame(self, kind: Kind, name: str, error: ModelError, took_s: float = 0.0) -> None:
        """Record a failure of a model, unless the request caused the error."""
        if self._latencies and not isinstance(error, _NOT_ITS_FAULT):
            self._latencies[kind].failed(name, took_s, trio.current_time())

    def _cut(self, kind: Kind, name: str, began_s: float) -> None:
        """Record how long a caller had waited when it was cancelled."""
        if self._latencies:
            now_s = trio.current_time()
            self._latencies[kind].cut(name, now_s - began_s, now_s)

    def watched(self, name: str, reply: ModelReply) -> Coroutine[Any, Any, tuple[ModelEvent, ...]]:
        """The next events of this model's answer; records a failure if latencies are measured."""
        return self._watched(name, reply) if self._latencies else reply.receive()

    async def _watched(self, name: str, reply: ModelReply) -> tuple[ModelEvent, ...]:
        try:
            return await reply.receive()
        except ModelError as error:
            self.blame("stream", name, error)
            raise

    def _order(self, kind: Kind, request: AnyRequest) -> Sequence[Candidate]:
        """The models for a request, in the order in which to ask them."""
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

    def _draws(self, request: AnyRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        by = self._route.by
        assert isinstance(by, BY_CHANCE), "other rules draw nothing"
        if by.sticky and isinstance(request, ChatRequest):
            return sticky_draws(conversation_of(request), [each.name for each in candidates])
        return [self._draw() for _ in candidates]


def _refusal_of(found: Completion) -> str | None:
    """Why a complete answer is a refusal or was stopped by a content filter; None if neither."""
    if found.stopped.reason is StopReason.CONTENT_FILTER:
        return found.refusal or stopped_for(found.stopped.raw)
    return found.refusal or None


async def _left_with(inner: AbstractAsyncContextManager[ModelReply], error: BaseException) -> None:
    """Leave the context of a failed model; its nursery may raise the error again in a group."""
    try:
        await inner.__aexit__(type(error), error, error.__traceback__)
    except BaseExceptionGroup as group:
        _, onward = split(group)
        if onward is not None or all(each is not error for each in leaves(group)):
            raise


def _failure(raised: ModelError | BaseExceptionGroup) -> ModelError | None:
    """The model's own error; a model with a nursery raises it in a group. None if there is more."""
    if isinstance(raised, ModelError):
        return raised
    own, onward = split(raised)
    return own if onward is None and isinstance(own, ModelError) else None


def _error_of_all(route: str, failed: Mapping[str, ModelError]) -> ModelError:
    """The error of the only model that was asked, or one error that stands for several models."""
    *before, last = failed.values()
    if not before:
        return last
    message = f"{len(failed)} models of route {route!r} failed, one after the other:"
    error = ModelsFailedError(message, failed, model=route)
    error.__cause__ = last
    return error
