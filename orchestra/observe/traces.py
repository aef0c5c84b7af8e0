"""Traces: the spans of each run, passed on when the run has ended.

Rules of the file: no work per token; while a run is in progress, its events are only collected.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import attrs
import trio

from orchestra.events import (
    TERMINAL,
    Event,
    RunStarted,
    StepCancelled,
    StepCoalesced,
    StepFailed,
    StepFinished,
    StepStarted,
)
from orchestra.observe.names import Convention
from orchestra.observe.spans import EndedCall, Link, Span, spans
from orchestra.observe.trace_context import TRACE, TraceContext
from orchestra.policies.observed import ASKED_FIRST, CallEnded, ObservesCalls

EVENTS_MAX = 2_000
"""The most events kept of a run, and the most calls; of further events, only ends of steps."""
_ENDS = (StepFinished, StepFailed, StepCancelled)


@attrs.frozen
class Trace:
    """The spans of a run. `began_ns` is the Unix time at which the run began.

    `context` is the span of the request that started the run, None if no request did. `known` has,
    by path, the ids of those steps' spans to which other spans link already.
    """

    began_ns: int
    context: TraceContext | None
    spans: tuple[Span, ...]
    known: Mapping[str, str] = MappingProxyType({})


Sink: TypeAlias = Callable[[Trace], None]
"""Called with the trace of an ended run, in the run's task; it must neither block nor raise."""


class Traces(ObservesCalls):
    """Makes traces of the runs and calls that it observes. It neither blocks nor raises.

    `parent` gives the parent of a run's span, in the task that starts the run. Without `links`,
    steps do not link to the span of a shared call.
    """

    def __init__(
        self,
        sink: Sink,
        names: Convention,
        time_ns: Callable[[], int] = time.time_ns,
        *,
        parent: Callable[[], TraceContext | None] = TRACE.get,
        links: bool = True,
    ) -> None:
        self.sink = sink
        self._names = names
        self._time_ns = time_ns
        self._parent = parent
        self._links = links
        self._running: dict[str, _Run] = {}

    def observe(self, pipeline: str) -> Callable[[Event], None]:
        """A function to be called with the events of a run."""
        del pipeline  # the first event names it
        return _Run(self, self._parent()).add

    def called(self, ended: CallEnded) -> None:
        """Keep a call for the run that made it; a call outside runs is not traced."""
        run = self._running.get(ended.run_id)
        if run is not None and len(run.calls) < EVENTS_MAX:
            run.calls.append(EndedCall(trio.current_time() - run.began_s, ended))
        elif run is not None:
            run.left_out += 1

    def began(self, run: _Run, run_id: str) -> None:
        """Note that a run has begun; its calls are kept from now on."""
        run.began_ns, run.began_s = self._time_ns(), trio.current_time()
        self._running[run_id] = run

    def ended(self, run: _Run, run_id: str) -> None:
        """Make the trace of a run, and pass it on."""
        del self._running[run_id]
        found = spans(run.events, run.calls, self._names, run.left_out, run.links)
        self.sink(Trace(run.began_ns, run.context, found, run.known))

    def link(self) -> Link | None:
        """A link to the step that started the shared call; None if its trace is not sent."""
        run_id, step = ASKED_FIRST.get()
        run = self._running.get(run_id)
        if not self._links or run is None or run.context is None or not run.context.sampled:
            return None
        if step not in run.known and not run.left_out and len(run.known) < EVENTS_MAX:
            run.known[step] = secrets.token_hex(8)
        span_id = run.known.get(step)
        return None if span_id is None else Link(run.context.trace_id, span_id)


class _Run:
    __slots__ = (
        *("began_ns", "began_s", "calls", "context", "events", "known", "left_out", "links"),
        *("traces", "unended"),
    )

    def __init__(self, traces: Traces, context: TraceContext | None) -> None:
        self.traces = traces
        self.context = context
        self.began_ns = 0
        self.began_s = 0.0
        self.events: list[Event] = []
        self.calls: list[EndedCall] = []
        self.left_out = 0
        self.known: dict[str, str] = {}
        self.links: dict[int, Link] = {}
        self.unended: set[str] | None = None

    def add(self, event: Event) -> None:
        """Keep an event; after the last one, make the trace."""
        ends = isinstance(event, TERMINAL)
        if ends or len(self.events) < EVENTS_MAX or self._ends_one(event):
            self.events.append(event)
            if isinstance(event, StepCoalesced) and (link := self.traces.link()) is not None:
                self.links[event.seq] = link
        else:
            self.left_out += 1
        first = self.events[0]
        if isinstance(event, RunStarted):
            self.traces.began(self, event.run_id)
        elif ends and isinstance(first, RunStarted):
            self.traces.ended(self, first.run_id)

    def _ends_one(self, event: Event) -> bool:
        """Whether the event ends a step whose start was kept.

        Without its end, the step would seem to last as long as the run. There are at most as many
        of these as kept events.
        """
        if self.unended is None:
            began = {each.step for each in self.events if isinstance(each, StepStarted)}
            self.unended = began - {each.step for each in self.events if isinstance(each, _ENDS)}
        if not isinstance(event, _ENDS) or event.step not in self.unended:
            return False
        self.unended.discard(event.step)
        return True
