"""The events of a run: the whole content of its journal, in order.

Every view of a run (SSE, logs, metrics, the result, the laws in tests) is a fold over these.
`seq` counts from 1 without gaps; `at_s` is in seconds since the run began. `step` is the path of
the step in the pipeline: `cite`, `inner/cite`, `each[3]/cite`, or, in the first pipeline that the
step `agent` runs, `agent[0]/inner/cite`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import attrs

from orchestra.accounts import Usage
from orchestra.eventclass import event


@event
class _OfRun:
    seq: int
    at_s: float


@event
class _OfStep(_OfRun):
    step: str


@event
class RunStarted(_OfRun):
    """The first event: the pipeline, the run's id and tags, and the request that started it."""

    type: ClassVar[Literal["run.started"]] = "run.started"
    run_id: str
    pipeline: str
    request_id: str = ""
    tags: Mapping[str, str] = attrs.field(factory=dict, hash=False)


@event
class StepStarted(_OfStep):
    """The step has all its inputs, and its function has been called."""

    type: ClassVar[Literal["step.started"]] = "step.started"


@event
class Delta(_OfRun):
    """The next chunk of the run's output."""

    type: ClassVar[Literal["delta"]] = "delta"
    chunk: Any


@event
class StepFinished(_OfStep):
    """The step returned its value, or the last chunk of its stream.

    `chunks` is the number of chunks, None for a value. Both times are in seconds since its start.
    """

    type: ClassVar[Literal["step.finished"]] = "step.finished"
    duration_s: float
    chunks: int | None = None
    first_chunk_s: float | None = None
    usage: Usage | None = None


@event
class StepSkipped(_OfStep):
    """The step never ran: its arm was not taken, or the run ended before its turn."""

    type: ClassVar[Literal["step.skipped"]] = "step.skipped"
    reason: str


@event
class StepFailed(_OfStep):
    """The step raised; `where` is its source line."""

    type: ClassVar[Literal["step.failed"]] = "step.failed"
    error: str
    message: str
    where: str
    usage: Usage | None = None


@event
class StepRetried(_OfStep):
    """An attempt of the step failed before any output; the next begins in `delay_s` seconds.

    `attempt` is the number of the failed attempt, from 1. The next has no `StepStarted`.
    """

    type: ClassVar[Literal["step.retried"]] = "step.retried"
    attempt: int
    delay_s: float
    error: str
    message: str


@event
class StepCached(_OfStep):
    """A cache hit: the model's answer came from the cache, without a call and without cost.

    `similarity` is that of the two requests: 1.0 if they are equal, else less.
    """

    type: ClassVar[Literal["step.cached"]] = "step.cached"
    model: str
    similarity: float = 1.0


@event
class StepCoalesced(_OfStep):
    """The step shares a model call that was already under way; `similarity` as in `StepCached`."""

    type: ClassVar[Literal["step.coalesced"]] = "step.coalesced"
    model: str
    similarity: float = 1.0


@event
class StepRouted(_OfStep):
    """A model of the route that the step called has begun to answer."""

    type: ClassVar[Literal["step.routed"]] = "step.routed"
    route: str
    model: str


@event
class StepCut(_OfStep):
    """A model's answer to the step was cut at the `output_tokens_max` that was asked for."""

    type: ClassVar[Literal["step.cut"]] = "step.cut"
    model: str
    output_tokens_max: int


@event
class ToolStarted(_OfStep):
    """A tool is called, as a model asked; `call` is the id that the model gave the call."""

    type: ClassVar[Literal["tool.started"]] = "tool.started"
    tool: str
    call: str


@event
class ToolFinished(_OfStep):
    """A tool has returned its result; a cancelled tool has no such event."""

    type: ClassVar[Literal["tool.finished"]] = "tool.finished"
    tool: str
    call: str
    duration_s: float


@event
class ToolFailed(_OfStep):
    """A tool raised an exception, or took too long.

    The error is sent to the model, and the step goes on with the model's next answer.
    """

    type: ClassVar[Literal["tool.failed"]] = "tool.failed"
    tool: str
    error: str
    message: str
    call: str = ""


@event
class BudgetReached(_OfStep):
    """A call of the step has brought a budget to a threshold: `percent` of it is spent.

    `budget` names its owner and period: "organisation acme, a month".
    """

    type: ClassVar[Literal["budget.reached"]] = "budget.reached"
    budget: str
    percent: int
    spent_nanodollars: int
    limit_nanodollars: int


@event
class StepCancelled(_OfStep):
    """The step was running and was stopped: it lost a race, or the run ended."""

    type: ClassVar[Literal["step.cancelled"]] = "step.cancelled"
    reason: str
    usage: Usage | None = None


@event
class ArmCommitted(_OfStep):
    """A race, fallback or quorum has chosen this arm; from now on its output is this arm's.

    The only exception is a fallback that may restart, if the arm fails: see `ArmRestarted`.
    """

    type: ClassVar[Literal["arm.committed"]] = "arm.committed"
    arm: str


@event
class ArmFailed(_OfStep):
    """An arm failed before the choice was made, or disagreed with a quorum; others may go on.

    In a `fallback(..., restart=True)`, the chosen arm may fail as well.
    """

    type: ClassVar[Literal["arm.failed"]] = "arm.failed"
    arm: str
    error: str
    message: str


@event
class ItemFailed(_OfStep):
    """An item of an `each(..., failures_max=...)` failed; the others go on, up to that limit."""

    type: ClassVar[Literal["item.failed"]] = "item.failed"
    index: int
    error: str
    message: str


@event
class ArmRestarted(_OfStep):
    """The output starts again, from this arm: discard every `delta` before this event.

    Only a `fallback(..., restart=True)` restarts, when its chosen arm has failed and it has chosen
    another. The result of the run contains nothing of the discarded output.
    """

    type: ClassVar[Literal["arm.restarted"]] = "arm.restarted"
    arm: str


@event
class Snapshot(_OfRun):
    """The whole output up to `seq`, for a reader who missed some events.

    It is never stored in a journal: a reader gets it in place of events that were dropped. It
    contains no output that an `ArmRestarted` discarded.
    """

    type: ClassVar[Literal["snapshot"]] = "snapshot"
    output: Any
    restarts: int = 0
    """How often the output has restarted; a reader who has seen fewer discards its output."""


@event
class RunFinished(_OfRun):
    """The last event of a run that succeeded.

    `timings_s` maps each finished step to its duration; `usage` is the sum over the
    steps, None if no step reported any, and `usage_by_model` the part of each model of the
    deployment, by its name. `cut` is True if an answer that the result was made from
    had a `StepCut`, so the result may be incomplete.
    """

    type: ClassVar[Literal["run.finished"]] = "run.finished"
    result: Any
    timings_s: Mapping[str, float]
    usage: Usage | None = None
    cut: bool = False
    usage_by_model: Mapping[str, Usage] = attrs.field(factory=dict, hash=False)


@event
class RunFailed(_OfRun):
    """The last event of a run that failed: the error of the step, its path and source line.

    `problem` (RFC 9457) and `retry_after_s` are what a server would have answered, in its body and
    in the header `Retry-After`; `fit_for_clients` of `orchestra.server` adds them. `cause` is the
    exception itself; it is not written for clients.
    """

    type: ClassVar[Literal["run.failed"]] = "run.failed"
    error: str
    message: str
    step: str | None = None
    where: str | None = None
    usage: Usage | None = None
    usage_by_model: Mapping[str, Usage] = attrs.field(factory=dict, hash=False)
    problem: Mapping[str, Any] | None = attrs.field(default=None, hash=False)
    retry_after_s: int | None = None
    cause: Any = attrs.field(default=None, eq=False, repr=False)


@event
class RunCancelled(_OfRun):
    """The last event of a run that was stopped."""

    type: ClassVar[Literal["run.cancelled"]] = "run.cancelled"
    reason: str
    usage: Usage | None = None
    usage_by_model: Mapping[str, Usage] = attrs.field(factory=dict, hash=False)


@event
class StepTold(_OfStep):
    """A message that the step, or one of its tools, sent with `context.tell`; `data` is plain JSON.

    It is not part of the output: a reader may skip it if it does not know `what`. `tool` and `call`
    are those of the tool's `tool.started`; they are None if the step itself sent the message.
    """

    type: ClassVar[Literal["step.told"]] = "step.told"
    what: str
    data: Any = None
    tool: str | None = None
    call: str | None = None


ToolEvent: TypeAlias = ToolStarted | ToolFinished | ToolFailed
_OfCall: TypeAlias = StepCached | StepCoalesced | StepRouted | StepCut | BudgetReached
Note: TypeAlias = _OfCall | ToolEvent | StepTold
"""Events during a step, of which there may be any number."""
Failure: TypeAlias = RunFailed | StepFailed | StepRetried | ArmFailed | ItemFailed | ToolFailed
"""Events that quote an exception."""
Terminal: TypeAlias = RunFinished | RunFailed | RunCancelled
_Life: TypeAlias = StepStarted | StepFinished | StepSkipped | StepFailed | StepRetried
_Choice: TypeAlias = ArmCommitted | ArmFailed | ArmRestarted | ItemFailed
Event: TypeAlias = RunStarted | Delta | _Life | Note | StepCancelled | _Choice | Snapshot | Terminal
TERMINAL = (RunFinished, RunFailed, RunCancelled)
UNWRITTEN = ("cause",)
"""Fields that are not part of an event as it is written: they are for this process only."""
