"""Turns: models that are scripted call by call, or by request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import attrs

from orchestra.errors import ModelError
from orchestra.eventclass import not_default
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

TurnPart: TypeAlias = str | ToolCall | ModelEvent
"""A part of a turn: text, a tool call, or any event."""


@attrs.define(eq=False, repr=False)
class ScriptedTurns(Model):
    """A `protocols.Model` that answers its first call with the first turn, and so on.

    `asked` keeps every request, in order. A call after the last turn is an error, since most tests
    know how often their model is called; with `repeats`, it gets the last turn again. Every
    `simulate` begins with the first turn again; in an engine, use one object per run.
    """

    turns: tuple[ScriptedModel, ...]
    capabilities: Capabilities = Capabilities()
    repeats: bool = attrs.field(default=False, kw_only=True)
    """Whether calls after the last turn get the last turn again."""
    asked: list[ChatRequest] = attrs.field(factory=list, repr=False)
    """Every request since the first turn."""

    @classmethod
    def saying(
        cls,
        *turns: TurnPart | Sequence[TurnPart],
        every_s: float = 0.0,
        capabilities: Capabilities = Capabilities(),
        repeats: bool = False,
    ) -> ScriptedTurns:
        """A model with these turns; each is one part, or several in order.

        Each part comes `every_s` seconds after the one before. A turn without a `Stopped` ends
        normally, with `StopReason.TOOL_CALLS` if it has tool calls.
        """
        scripts = tuple(scripted(turn, every_s) for turn in turns)
        return cls(scripts, capabilities, repeats=repeats)

    def __repr__(self) -> str:
        """As source code."""
        rest = not_default(self, "capabilities", "repeats")
        return f"{type(self).__name__}({', '.join([repr(self.turns), *rest])})"

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        """Give the next turn.

        Raises:
            ModelError: there are no more turns.
        """
        number = len(self.asked)
        self.asked.append(request)
        if number >= len(self.turns) and not (self.repeats and self.turns):
            raise ModelError(
                f"the scripted model was called {number + 1} times, but has {len(self.turns)} "
                "turns; add one more, or repeat the last: ScriptedTurns.saying(..., repeats=True)"
            )
        yield self.turns[min(number, len(self.turns) - 1)].reply()


@attrs.frozen(repr=False)
class ScriptedAnswers(Model):
    """A `protocols.Model` whose answer to a request is the result of `by`.

    That is text, a tool call, any event, or several of these in order; or a `ScriptedModel`, which
    may also be slow, or fail. `asked` keeps every request, in order; each `simulate` begins with
    none.
    """

    by: Callable[[ChatRequest], TurnPart | Sequence[TurnPart] | ScriptedModel]
    every_s: float = attrs.field(default=0.0, validator=valid.wait)
    capabilities: Capabilities = Capabilities()
    asked: list[ChatRequest] = attrs.field(factory=list, init=False, repr=False, eq=False)

    def __repr__(self) -> str:
        """As source code, with the name of the function."""
        by = getattr(self.by, "__qualname__", None) or repr(self.by)
        rest = not_default(self, "every_s", "capabilities")
        return f"{type(self).__name__}({', '.join([by, *rest])})"

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        """Give the answer to the request. Raises the exceptions of `by`."""
        self.asked.append(request)
        answer = self.by(request)
        model = answer if isinstance(answer, ScriptedModel) else scripted(answer, self.every_s)
        yield model.reply()


def scripted(turn: TurnPart | Sequence[TurnPart], every_s: float) -> ScriptedModel:
    """A model that gives one turn with its stop reason, and waits `every_s` before each part."""
    return ScriptedModel(_timed(turn, every_s))


def _timed(
    turn: TurnPart | Sequence[TurnPart], every_s: float
) -> tuple[tuple[float, ModelEvent], ...]:
    parts = [turn] if isinstance(turn, str) or not isinstance(turn, Sequence) else turn
    events: list[ModelEvent] = []
    calls = 0
    for each in parts:
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
