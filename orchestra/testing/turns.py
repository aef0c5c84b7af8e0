"""Turns: models that are scripted call by call, or by what they are asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import attrs

from orchestra.errors import ModelError
from orchestra.protocols import Model, ModelReply
from orchestra.testing import valid
from orchestra.testing.world import ScriptedModel
from orchestra.values import (
    Capabilities,
    ChatRequest,
    ModelEvent,
    Stopped,
    StopReason,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)

Said: TypeAlias = str | ToolCall | ModelEvent
"""What a turn is made of: text, a call, or any event."""


@attrs.define(eq=False)
class ScriptedTurns(Model):
    """A `protocols.Model` whose first call gives its first turn, its second the second, ...

    `asked` keeps every request, in order. A call after the last turn is an error that says so:
    a test knows how often its model is asked. Every `simulate` begins with the first turn again;
    in an engine, one object is for one run.
    """

    turns: tuple[ScriptedModel, ...]
    capabilities: Capabilities = Capabilities()
    asked: list[ChatRequest] = attrs.field(factory=list, repr=False)
    """Every request since the first turn."""

    @classmethod
    def saying(
        cls,
        *turns: Said | Sequence[Said],
        every_s: float = 0.0,
        capabilities: Capabilities = Capabilities(),
    ) -> ScriptedTurns:
        """A model with these turns, each of them what it says, or several things in order.

        `every_s` seconds are before each. A turn without a `Stopped` ends well: because of its
        calls, where it has some.
        """
        scripts = tuple(scripted(turn, every_s) for turn in turns)
        return cls(scripts, capabilities)

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        """The next turn.

        Raises:
            ModelError: there is none.
        """
        number = len(self.asked)
        self.asked.append(request)
        if number >= len(self.turns):
            raise ModelError(
                f"the scripted model was asked {number + 1} times, and has {len(self.turns)} "
                "turns; script one more"
            )
        async with self.turns[number].stream(request) as reply:
            yield reply


@attrs.frozen
class ScriptedAnswers(Model):
    """A `protocols.Model` that answers by what it is asked: what `by` gives for the request.

    That is text, a call, or any event, or several things in order; or a `ScriptedModel`, which
    may also be slow, or fail. It keeps nothing, so that one object is for many runs.
    """

    by: Callable[[ChatRequest], Said | Sequence[Said] | ScriptedModel]
    every_s: float = attrs.field(default=0.0, validator=valid.wait)
    capabilities: Capabilities = Capabilities()

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        """The answer to the request. Raises what `by` raises."""
        answer = self.by(request)
        model = answer if isinstance(answer, ScriptedModel) else scripted(answer, self.every_s)
        async with model.stream(request) as reply:
            yield reply


def scripted(turn: Said | Sequence[Said], every_s: float) -> ScriptedModel:
    """A model that says one turn, and why it ends, each thing so many seconds after the last."""
    return ScriptedModel(_timed(turn, every_s))


def _timed(turn: Said | Sequence[Said], every_s: float) -> tuple[tuple[float, ModelEvent], ...]:
    said = [turn] if isinstance(turn, str) or not isinstance(turn, Sequence) else turn
    events: list[ModelEvent] = []
    calls = 0
    for each in said:
        if isinstance(each, str):
            events.append(TextDelta(each))
        elif isinstance(each, ToolCall):
            events.append(ToolCallDelta(calls, each.id, each.name, each.arguments, each.signature))
            calls += 1
        else:
            events.append(each)
    timed = [(every_s, event) for event in events]
    if not any(isinstance(event, Stopped) for event in events):
        timed.append((0.0, Stopped(StopReason.TOOL_CALLS if calls else StopReason.END)))
    return tuple(timed)
