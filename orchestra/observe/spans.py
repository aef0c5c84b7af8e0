"""The spans of a run, as a tree, made from its events and its model calls. Pure.

Rules of the file: there is no span per chunk, and no span contains a prompt or an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import attrs

from orchestra.accounts import Certainty, Usage
from orchestra.events import (
    TERMINAL,
    ArmCommitted,
    ArmFailed,
    ArmRestarted,
    BudgetReached,
    Event,
    ItemFailed,
    RunFailed,
    RunStarted,
    StepCached,
    StepCancelled,
    StepCoalesced,
    StepCut,
    StepFailed,
    StepFinished,
    StepRetried,
    StepRouted,
    StepStarted,
    Terminal,
    ToolFailed,
    ToolFinished,
    ToolStarted,
)
from orchestra.observe.metrics import step_label
from orchestra.observe.names import PROVIDERS, SETTINGS, Convention
from orchestra.policies.observed import CANCELLED, CallEnded

Attribute: TypeAlias = str | int | float | bool | tuple[str, ...]
Kind = Literal["run", "group", "step", "call", "tool"]
"""A `call` is a model call; a `tool` is a tool call that a model asked its step to make. A `group`
contains steps and is not a step itself: an inner pipeline, or one item of an `each`."""

SPAN_EVENTS = (
    *(StepRetried, StepCached, StepCoalesced, StepRouted, StepCut, BudgetReached),
    *(ArmCommitted, ArmFailed, ArmRestarted, ItemFailed),
)
"""The events of a run that become events of a step's span."""
_LEFT_OUT = {"seq", "at_s", "step"}


@attrs.frozen
class SpanEvent:
    """Something that happened within a span; `at_s` is in seconds since the run began."""

    name: str
    at_s: float
    attributes: Mapping[str, Attribute]


@attrs.frozen
class Link:
    """A link to a span of another trace, by hexadecimal ids: to the step whose call is shared."""

    trace_id: str
    span_id: str


@attrs.define
class Span:
    """Something that took time; times are in seconds since the run began.

    `ended_s` is infinite while the span is open. `parent` is the index of the parent among the
    spans of the run, None for the run itself. `path` is the path of the step, or of the step that
    made the call. `error` is the class name of the error, "" if there was none; a cancellation is
    not an error.
    """

    kind: Kind
    name: str
    path: str
    parent: int | None
    began_s: float
    ended_s: float = inf
    attributes: dict[str, Attribute] = attrs.field(factory=dict)
    events: list[SpanEvent] = attrs.field(factory=list)
    links: list[Link] = attrs.field(factory=list)
    error: str = ""
    message: str = ""


@attrs.frozen
class EndedCall:
    """A call that has ended, and when, in seconds since its run began."""

    at_s: float
    ended: CallEnded


def spans(
    events: Iterable[Event],
    calls: Iterable[EndedCall],
    names: Convention,
    left_out: int = 0,
    links: Mapping[int, Link] = MappingProxyType({}),
) -> tuple[Span, ...]:
    """The spans of a run: the run's own first, and each one after its parent.

    `events` are the events of its journal, in order. Chunks are ignored, and a span without an end
    ends with the last event. Without events, there are no spans. `left_out` is the number of events
    and calls that were not kept; it becomes an attribute of the run's span. `links` has the link
    for an event, by the event's `seq`.
    """
    builder = _SpanBuilder(names, links)
    for event in events:
        builder.add(event)
    for call in calls:
        builder.called(call)
    return builder.closed(left_out)


class _SpanBuilder:
    def __init__(self, names: Convention, links: Mapping[int, Link]) -> None:
        self._names = names
        self._links = links
        self._all: list[Span] = []
        self._at: dict[str, int] = {}
        self._tools: dict[tuple[str, str], Span] = {}
        self._last_s = 0.0

    def add(self, event: Event) -> None:
        self._last_s = event.at_s
        match event:
            case RunStarted():
                self._begin(event)
            case StepStarted(step=step, at_s=at_s):
                self._at[step] = self._open("step", step, at_s)
            case StepFinished(step=step, chunks=chunks):
                found = self._of(step)
                if chunks is not None:
                    found.attributes["orchestra.chunks"] = chunks
                if event.first_chunk_s is not None:
                    found.attributes["orchestra.time_to_first_chunk_s"] = event.first_chunk_s
                self._end(found, event.at_s, "finished", event.usage)
            case StepFailed(step=step):
                self._fail(self._of(step), event)
                self._end(self._of(step), event.at_s, "failed", event.usage)
            case StepCancelled(step=step):
                self._of(step).attributes["orchestra.reason"] = event.reason
                self._end(self._of(step), event.at_s, CANCELLED, event.usage)
            case ToolStarted() | ToolFinished() | ToolFailed():
                self._tool(event)
            case _ if isinstance(event, SPAN_EVENTS):
                happened = SpanEvent(event.type, event.at_s, dict(_fields(event)))
                self._of(event.step).events.append(happened)
                if event.seq in self._links:
                    self._of(event.step).links.append(self._links[event.seq])
            case _ if isinstance(event, TERMINAL):
                self._over(event)

    def called(self, call: EndedCall) -> None:
        """Add a call, under the step that made it."""
        if not self._all:
            return
        ended, parent = call.ended, self._at.get(call.ended.step, 0)
        operation = ended.operation
        began_s = max(call.at_s - ended.duration_s, self._all[parent].began_s)
        found = Span(
            *("call", f"{operation} {ended.request_model}", ended.step, parent, began_s),
            ended_s=max(call.at_s, began_s),
            attributes={
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": PROVIDERS.get(ended.provider, ended.provider),
                "gen_ai.request.model": ended.request_model,
                "orchestra.model": ended.model,
            },
            error="" if ended.error == CANCELLED else ended.error,
        )
        if ended.streams:
            found.attributes["gen_ai.request.stream"] = True
        if ended.first_chunk_s is not None:
            found.attributes["gen_ai.response.time_to_first_chunk"] = ended.first_chunk_s
        for name, value in ended.settings.items():
            found.attributes[SETTINGS[name]] = value
        found.attributes.update(_answered(ended))
        if ended.usage is not None:
            found.attributes.update(self._used(ended.usage))
        found.attributes["orchestra.status"] = _status(ended.error)
        self._all.append(found)

    def closed(self, left_out: int) -> tuple[Span, ...]:
        """All spans; those that have not ended end here."""
        if self._all and left_out:
            self._all[0].attributes["orchestra.left_out"] = left_out
        for each in reversed(self._all):  # children first: a group lasts as long as its children
            parent = self._all[each.parent or 0]
            if each.ended_s == inf:
                step = parent if each.kind == "tool" else each
                each.ended_s = min(step.ended_s, max(self._last_s, each.began_s))
            if parent.kind == "group":
                parent.ended_s = max(parent.ended_s, each.ended_s)
        return tuple(self._all)

    def _begin(self, event: RunStarted) -> None:
        found = Span("run", f"invoke_workflow {event.pipeline}", "", None, event.at_s)
        found.attributes = {
            "gen_ai.operation.name": "invoke_workflow",
            self._names.workflow: event.pipeline,
            "orchestra.run_id": event.run_id,
        }
        if event.request_id:
            found.attributes["orchestra.request_id"] = event.request_id
        for name, value in event.tags.items():
            found.attributes[f"orchestra.tag.{name}"] = value
        self._all.append(found)

    def _over(self, event: Terminal) -> None:
        if self._all:
            run = self._all[0]
            if isinstance(event, RunFailed):
                self._fail(run, event)
            self._end(run, event.at_s, event.type.removeprefix("run."), event.usage)

    def _tool(self, event: ToolStarted | ToolFinished | ToolFailed) -> None:
        if isinstance(event, ToolStarted):
            self._of(event.step)
            path, parent = event.step, self._at[event.step]
            found = Span("tool", f"execute_tool {event.tool}", path, parent, event.at_s)
            found.attributes |= {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": event.tool,
                "gen_ai.tool.call.id": event.call,
                "gen_ai.tool.type": "function",
            }
            self._tools[event.step, event.call] = found
            self._all.append(found)
        elif ended := self._tools.get((event.step, event.call)):
            ended.ended_s = event.at_s
            ended.attributes["orchestra.status"] = event.type.removeprefix("tool.")
            if isinstance(event, ToolFailed):
                ended.error, ended.message = event.error, event.message

    def _open(self, kind: Kind, path: str, at_s: float) -> int:
        if not self._all:
            self._all.append(Span("run", "run", "", None, 0.0))
        parent = self._parent(path, at_s)
        found = Span(kind, step_label(path), path, parent, at_s)
        if kind == "group":
            found.ended_s = at_s  # until `closed`
        found.attributes["orchestra.step"] = path
        self._all.append(found)
        return len(self._all) - 1

    def _parent(self, path: str, at_s: float) -> int:
        """The index of a path's parent; a group's span is made with the first span inside it."""
        row = self._at.get(path.rpartition("[")[0]) if path.endswith("]") else None
        above = path.rpartition("/")[0]
        if row is not None or not above:
            return row or 0
        if above not in self._at:
            self._at[above] = self._open("group", above, at_s)
        return self._at[above]

    def _of(self, step: str) -> Span:
        """The span of a step; one whose start was not seen starts here."""
        if step not in self._at:
            self._at[step] = self._open("step", step, self._last_s)
        return self._all[self._at[step]]

    def _fail(self, found: Span, event: StepFailed | RunFailed) -> None:
        found.error, found.message = event.error, event.message
        if event.where:
            found.attributes["orchestra.where"] = event.where

    def _end(self, found: Span, at_s: float, status: str, usage: Usage | None) -> None:
        found.ended_s = at_s
        found.attributes["orchestra.status"] = status
        if usage is not None:
            found.attributes["orchestra.input_tokens"] = usage.input_tokens
            found.attributes["orchestra.output_tokens"] = usage.output_tokens
            found.attributes["orchestra.cost_dollars"] = usage.cost_nanodollars / 1e9

    def _used(self, usage: Usage) -> Mapping[str, Attribute]:
        found: dict[str, Attribute] = {
            "orchestra.cost_dollars": usage.cost_nanodollars / 1e9,
            "orchestra.usage_certainty": usage.certainty.value,
        }
        if usage.unpriced_calls:
            found["orchestra.unpriced"] = True
        if usage.certainty is Certainty.ESTIMATED:  # the conventions allow no estimates
            return found
        tokens = {
            "gen_ai.usage.cache_read.input_tokens": usage.cached_input_tokens,
            self._names.cache_write_tokens: usage.cache_write_input_tokens,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
        }
        found["gen_ai.usage.input_tokens"] = usage.input_tokens
        found["gen_ai.usage.output_tokens"] = usage.output_tokens
        return found | {name: amount for name, amount in tokens.items() if amount}


def _status(error: str) -> str:
    if not error:
        return "finished"
    return CANCELLED if error == CANCELLED else "failed"


def _answered(ended: CallEnded) -> Iterable[tuple[str, Attribute]]:
    """The provider's metadata of the answer, and its address, without those that are unknown."""
    if ended.answer_id:
        yield "gen_ai.response.id", ended.answer_id
    if ended.answer_model:
        yield "gen_ai.response.model", ended.answer_model
    if ended.finish_reason:
        yield "gen_ai.response.finish_reasons", (ended.finish_reason,)
    if ended.address:
        yield "server.address", ended.address
        yield "server.port", ended.port


def _fields(event: Any) -> Iterable[tuple[str, Attribute]]:
    """The fields of an event as attributes, without its time and step."""
    for field in attrs.fields(type(event)):
        if field.name not in _LEFT_OUT:
            yield f"orchestra.{field.name}", getattr(event, field.name)
