"""Views of a run: convert batches of events into text for standard output and error. Pure.

Only the run's output goes to standard output, so that it can be piped. Progress goes to standard
error, and never into the middle of a line of output.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeAlias

import msgspec

from orchestra.cli import terminal
from orchestra.cli.terminal import ERR, OUT
from orchestra.event_lines import encode, written
from orchestra.events import (
    TERMINAL,
    ArmCommitted,
    ArmFailed,
    ArmRestarted,
    BudgetReached,
    Delta,
    Event,
    ItemFailed,
    RunFailed,
    RunFinished,
    RunStarted,
    Snapshot,
    StepCached,
    StepCoalesced,
    StepCut,
    StepFinished,
    StepRetried,
    StepRouted,
    StepTold,
    ToolFailed,
    ToolFinished,
)

_TOLD_MAX = 100

Write: TypeAlias = tuple[int, bytes]
"""The descriptor of standard output or error, and the bytes to write."""


class View(Protocol):
    """A view of a run."""

    def feed(self, batch: Iterable[Event]) -> list[Write]:
        """What to write for the next events, in order."""


class Words(msgspec.Struct, kw_only=True, eq=False):
    """The output as it arrives: text and bytes unchanged, other chunks as lines of JSON.

    An unstreamed value is written when the run has finished: text unchanged, other values as JSON.
    Progress is shown in lines, unless `quiet`.
    """

    streams: bool
    quiet: bool = False
    visible: Callable[[str], str] = str
    dim: Callable[[str], str] = str
    _chunks: int = 0
    _size: int = 0
    _restarts: int = 0
    _open_line: bool = False
    _held: list[str] = msgspec.field(default_factory=list)

    def feed(self, batch: Iterable[Event]) -> list[Write]:
        """What to write for the next events, in order."""
        return joined(write for event in batch for write in self._one(event))

    def _one(self, event: Event) -> Iterator[Write]:
        if isinstance(event, Delta):
            yield OUT, self._say(event.chunk)
        elif isinstance(event, ArmRestarted):
            yield OUT, self._begin_anew(self._restarts + 1)
        elif isinstance(event, Snapshot):
            yield OUT, self._begin_anew(event.restarts)
            yield OUT, self._catch_up(event.output)
        elif isinstance(event, RunFinished) and not self.streams:
            yield OUT, whole(event.result, self.visible)
        if isinstance(event, TERMINAL) and self._open_line:
            yield OUT, b"\n"
        if not self.quiet and (line := progress(event)):
            self._held.append(terminal.visible(line))
        if isinstance(event, TERMINAL) or not self._chunks:
            lines = "".join(self.dim(line) + "\n" for line in self._held)
            yield ERR, lines.encode("utf-8", "replace")
            self._held.clear()

    def _say(self, chunk: Any) -> bytes:
        self._chunks += 1
        if not isinstance(chunk, str | bytes):
            return self.visible(written(chunk).decode()).encode() + b"\n"
        self._size += len(chunk)
        if isinstance(chunk, bytes):
            return chunk
        if chunk:
            self._open_line = not chunk.endswith("\n")
        return self.visible(chunk).encode("utf-8", "replace")

    def _begin_anew(self, restarts: int) -> bytes:
        """Begin a new line after a restart: the text before cannot be removed."""
        if restarts <= self._restarts:
            return b""
        self._restarts = restarts
        self._chunks = self._size = 0
        was_open, self._open_line = self._open_line, False
        return b"\n" if was_open else b""

    def _catch_up(self, output: Any) -> bytes:
        """Write the new part of a snapshot, which comes if the run was faster than its reader."""
        if isinstance(output, str | bytes):
            return self._say(output[self._size :])
        return b"".join(map(self._say, output[self._chunks :]))


class Lines:
    """Every event as one line of JSON."""

    def feed(self, batch: Iterable[Event]) -> list[Write]:
        """What to write for the next events, in order."""
        return joined([(OUT, encode(_with_problem(event)) + b"\n") for event in batch])


def _with_problem(event: Event) -> Event:
    """The event; that of a failure with the problem that a server would answer."""
    if not isinstance(event, RunFailed):
        return event
    from orchestra.server.runs.fit_events import fit_for_clients  # only failed runs need it

    return fit_for_clients(event, debug=True)


class Result:
    """The result of the run as one line of JSON, at its end."""

    def __init__(self) -> None:
        self._run_id = ""

    def feed(self, batch: Iterable[Event]) -> list[Write]:
        """What to write for the next events, in order."""
        writes: list[Write] = []
        for event in batch:
            if isinstance(event, RunStarted):
                self._run_id = event.run_id
            elif isinstance(event, RunFinished):
                writes.append((OUT, self._encode(event)))
        return writes

    def _encode(self, event: RunFinished) -> bytes:
        result = {
            "run_id": self._run_id,
            "result": event.result,
            "timings_s": event.timings_s,
            "usage": event.usage,
            "usage_by_model": event.usage_by_model,
            "cut": event.cut,
        }
        return written(result) + b"\n"


def _passed_over(event: StepRetried | ToolFailed | ArmFailed | ItemFailed) -> str:
    """The progress text for an error that did not end the run."""
    match event:
        case StepRetried(delay_s=delay_s):
            return f"{event.step} is tried again in {duration(delay_s)}"
        case ToolFailed(tool=tool):
            return f"{event.step} goes on, and its model is told that {tool} failed"
        case ItemFailed(index=index):
            return f"{event.step} goes on without item {index}"
    return f"{event.step} goes on without {event.arm}"


def _answered(event: StepCached | StepCoalesced | StepRouted) -> str:
    """The progress text about the source of a model's answer."""
    match event:
        case StepCached(model=model):
            return f"has its answer from the cache of {model}"
        case StepCoalesced(model=model):
            return f"shares a call of {model} that was under way"
    return f"is answered by {event.model}, of route {event.route}"


def progress(event: Event) -> str | None:
    """A line of progress for an event; None for those that have none."""
    at = f"{event.at_s:7.3f} s  "
    match event:
        case StepFinished(step=step, duration_s=duration_s, chunks=None):
            return f"{at}{step} took {duration(duration_s)}"
        case StepFinished(step=step, duration_s=duration_s, chunks=chunks):
            return f"{at}{step} took {duration(duration_s)}, {chunks} chunks"
        case StepRetried() | ToolFailed() | ArmFailed() | ItemFailed():
            return f"{at}{_passed_over(event)}: {event.error}: {event.message}"
        case ToolFinished(step=step, tool=tool, duration_s=duration_s):
            return f"{at}{step} has called {tool}, which took {duration(duration_s)}"
        case StepCached() | StepCoalesced() | StepRouted():
            return f"{at}{event.step} {_answered(event)}"
        case StepCut(step=step, model=model, output_tokens_max=most):
            return f"{at}{step}: the answer of {model} was cut at output_tokens_max={most}"
        case BudgetReached(budget=budget, percent=percent):
            return f"{at}{percent} % of the budget of {budget} is spent"
        case StepTold(step=step, what=what, data=data, tool=tool):
            whence = f" from {tool}" if tool else ""
            return f"{at}{step} tells{whence}: {what}{_short(data)}"
        case ArmCommitted(step=step, arm=arm):
            return f"{at}{step} goes on with {arm}"
        case ArmRestarted(step=step, arm=arm):
            return f"{at}{step} starts again with {arm}: the output before this is void"
        case RunFinished(cut=cut):
            return f"{at}done{', from an answer that was cut' if cut else ''}"
    return None


def _short(data: object) -> str:
    """The data of a `step.told`, shortened to the rest of a line."""
    if data is None:
        return ""
    text = written(data).decode()
    return f" {text}" if len(text) <= _TOLD_MAX else f" {text[:_TOLD_MAX]}…"


def duration(seconds: float) -> str:
    """A duration in a readable unit."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} µs"  # noqa: PLR2004 - 1 ms


def whole(result: Any, visible: Callable[[str], str] = str) -> bytes:
    """A result for people: text with a line feed, other values as JSON."""
    if isinstance(result, bytes):
        return result
    if isinstance(result, str):
        return visible(result.removesuffix("\n")).encode("utf-8", "replace") + b"\n"
    return visible(_indented(written(result)).decode()).encode() + b"\n"


def _indented(data: bytes) -> bytes:
    try:
        return msgspec.json.format(data, indent=2)
    except msgspec.DecodeError:  # a lone surrogate is valid JSON, but msgspec rejects it
        return json.dumps(json.loads(data), indent=2).encode()


def joined(writes: Iterable[Write]) -> list[Write]:
    """The writes, neighbours to one descriptor joined, empty ones left out."""
    merged: list[Write] = []
    for descriptor, data in writes:
        if merged and merged[-1][0] == descriptor:
            merged[-1] = (descriptor, merged[-1][1] + data)
        elif data:
            merged.append((descriptor, data))
    return merged
