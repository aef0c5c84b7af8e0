"""The common part of policies that hold something for as long as a call lasts.

Rules of the file: a call releases what it holds exactly once, however it ends; work is done per
batch rather than per token where possible; if two policies hold something for one answer, the
inner one observes the answer for both.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Generic, Self, TypeVar

import attrs

from orchestra.accounts import Certainty, Usage
from orchestra.policies.answers.accounting import note_begun
from orchestra.policies.requests.tokens import answer_bytes, output_bytes
from orchestra.protocols import Model, ModelReply
from orchestra.values import (
    Began,
    ChatRequest,
    ModelEvent,
    Part,
    Stopped,
    TextDelta,
    UsageReport,
)

WITHOUT_END = 2**63


@attrs.define(eq=False, kw_only=True)
class HeldCall:
    """One running call, and what is known about its answer so far."""

    usage: Usage | None = None
    output_bytes: int = 0
    """The bytes of output received."""
    silent: bool = True
    """Whether there has been no output yet."""
    ended: bool = False
    """Whether the answer is complete."""
    answer_id: str = ""
    answer_model: str = ""
    stopped: Stopped | None = None
    cap_bytes: int = WITHOUT_END
    """The bytes of output beyond which the call has to `grow`."""
    error: Exception | None = None
    """The error that `receive` raised, if any."""

    @property
    def capped(self) -> bool:
        """Whether the call holds money for only a part of the answer."""
        return self.cap_bytes < WITHOUT_END

    @property
    def finish_reason(self) -> str:
        """Why the model stopped, in the provider's word if known; "" before it stopped."""
        return "" if self.stopped is None else self.stopped.raw or self.stopped.reason.value

    def answered(self, usage: Usage | None, parts: tuple[Part, ...] = ()) -> None:
        """Note a complete answer; count its bytes only if the provider has not counted tokens."""
        self.usage, self.ended = usage, True
        if usage is None or usage.certainty is not Certainty.EXACT:
            self.output_bytes = answer_bytes(parts)

    def spoke(self) -> None:
        """Note the first output."""
        self.silent = False

    def with_costs(self, events: tuple[ModelEvent, ...]) -> tuple[ModelEvent, ...]:
        """The events to pass on in place of a batch that contains a usage."""
        return events

    def note(self, events: tuple[ModelEvent, ...]) -> bool:
        """Note events of the answer; return whether they contain a usage."""
        reports = False
        for event in events:
            if type(event) is TextDelta:  # nearly all of them are
                text = event.text
                self.output_bytes += len(text) if text.isascii() else output_bytes(event)
            elif isinstance(event, UsageReport):
                self.usage, reports = event.usage, True
            elif isinstance(event, Stopped):
                self.ended, self.stopped = True, event
            elif isinstance(event, Began):
                self.answer_id, self.answer_model = event.id, event.model
            else:
                self.output_bytes += output_bytes(event)
        return reports

    async def grow(self) -> None:
        """Hold more, since the answer is longer than expected; does nothing without a cap."""

    @abstractmethod
    async def end(self, error: BaseException | None) -> None:
        """Release everything that the call holds; `error` is the model's own error, or None.

        Its awaits are shielded, and bounded in time.
        """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the call: the block asks for a whole answer."""
        await self.end(error)  # noqa: ASYNC102 - it is shielded, and bounded


C = TypeVar("C", bound=HeldCall)


class HeldAnswer(Generic[C]):
    """A streamed answer whose call holds something: a context manager that is its own reply."""

    __slots__ = ("_call", "_inner", "_model", "_reply", "_request")

    _call: C  # this and the next two are set on entry
    _inner: AbstractAsyncContextManager[ModelReply]
    _reply: ModelReply

    def __init__(self, model: Model, request: ChatRequest) -> None:
        self._model = model
        self._request = request

    @abstractmethod
    async def _begin(self) -> C:
        """Acquire what the call has to hold. If cancelled or refused, nothing is held."""

    @property
    def held_call(self) -> HeldCall:
        """The call that observes the answer."""
        return self._call

    async def __aenter__(self) -> ModelReply:
        call = await self._begin()
        try:
            self._inner = self._model.stream(self._request)
            self._reply = await self._inner.__aenter__()
        except BaseException as error:
            await call.end(error)  # noqa: ASYNC102 - it is shielded, and bounded
            raise
        self._call = call
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        try:
            return await self._inner.__aexit__(kind, error, traceback)  # noqa: ASYNC102 - as the model does it
        finally:
            await self._call.end(self._call.error)  # noqa: ASYNC102 - it is shielded, and bounded

    async def receive(self) -> tuple[ModelEvent, ...]:
        """Wait for events and return those since the last call; empty at the end."""
        call = self._call
        try:
            events = await self._reply.receive()
        except Exception as error:
            call.error = error
            if not call.silent:
                note_begun(error)
            raise
        if not events:
            return events
        if call.silent:
            call.spoke()
        if call.note(events):
            events = call.with_costs(events)
        if call.output_bytes > call.cap_bytes and not call.ended:  # else it is paid in full anyway
            await call.grow()
        return events


def held_call_of(reply: ModelReply) -> HeldCall | None:
    """The inner policy's call, which observes the answer already; None if there is none."""
    found: HeldCall | None = getattr(reply, "held_call", None)
    return found
