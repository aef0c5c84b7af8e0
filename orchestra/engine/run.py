"""Runs: one execution of a plan is a nursery of step tasks, and the journal that they write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, cast

import attrs
import trio

from orchestra.engine import tasks
from orchestra.engine.current_run import CURRENT_RUN
from orchestra.engine.frames.cuts import is_cut
from orchestra.engine.frames.frame import Frame
from orchestra.engine.frames.outlet import Outlet
from orchestra.engine.frames.reading import read
from orchestra.engine.frames.scope import Failure, Scope, bare
from orchestra.engine.journal import Journal, Observer
from orchestra.engine.lanes.output import Output
from orchestra.errors import DeadlineError, RunCancelledError, RunError
from orchestra.events import RunCancelled, RunFailed, RunFinished, RunStarted
from orchestra.graph.calls.raised import RunNote, advice_on, name_and_message
from orchestra.groups import split, stopping
from orchestra.tags import NO_TAGS, Tags

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from orchestra.accounts import Caller, Usage
    from orchestra.compiler.blocks.slots import Operation, Source
    from orchestra.compiler.plan import Plan
    from orchestra.engine.calls.kept import Kept
    from orchestra.engine.plans import Plans
    from orchestra.graph.nodes import Node
    from orchestra.graph.rules.policy import Limits
    from orchestra.policies.hedge import Hedges
    from orchestra.policies.limits.shares import Shares
    from orchestra.policies.retry import Retries
    from orchestra.protocols import Bindings

    T_co = TypeVar("T_co", covariant=True, default=object)
else:  # a default, by which `Run` alone is `Run[object]`, is Python's own from 3.13 on
    from typing import TypeVar

    T_co = TypeVar("T_co", covariant=True)


@attrs.frozen(eq=False)
class Shared:
    """What all runs of an engine share."""

    bindings: Bindings
    plans: Plans
    limits: Limits
    nursery: trio.Nursery
    """For tasks that may run as long as the engine is open; they must not raise."""
    token: trio.lowlevel.TrioToken
    kept: Kept
    """The objects that steps keep open until the engine is closed."""
    threads: Shares
    retries: Retries
    hedges: Hedges
    """The delays that hedged races have learned."""


class Run(Generic[T_co]):
    """One execution of a plan, with a result of type `T_co`; its `journal` records its events."""

    __slots__ = (
        "__weakref__",
        "_began_s",
        "_cancelled",
        "_deadline_s",
        "_ended",
        "_error",
        "_failure",
        "_finished",
        "_reason",
        "_scope",
        "_timings_s",
        "_traceback",
        "_usage",
        "_value",
        "caller",
        "cut",
        "cuts",
        "has_task",
        "id",
        "inputs",
        "journal",
        "lane_peak",
        "on_end",
        "plan",
        "request_id",
        "routed",
        "shared",
        "tags",
        "until_s",
        "usage_by_model",
        "usages",
        "variables",
    )

    def __init__(
        self,
        run_id: str,
        plan: Plan,
        inputs: Mapping[str, object],
        shared: Shared,
        *,
        deadline_s: float | None,
        caller: Caller,
        request_id: str,
        tags: Tags = NO_TAGS,
        observer: Observer | None = None,
    ) -> None:
        self.id = run_id
        self.request_id = request_id
        self.caller = caller
        self.tags = dict(tags)
        self.shared = shared
        self.plan = plan
        self.usages: dict[str, Usage] = {}
        """The usage that running steps have reported; removed when they end."""
        self.usage_by_model: dict[str, Usage] = {}
        """The part of `usage` of each model of the deployment; shared calls of a route are under
        the name of the route."""
        self.cut = False
        """Whether the result was made from a model's answer that was cut; set with the result."""
        self.cuts: dict[str, bool] = {}
        """By step, whether the last answer that it got from a model was cut: see `frames.cuts`."""
        self.routed: tuple[str, ...] = ()
        """The models that routes have chosen, and that have begun to answer; each once."""
        self.variables = copy_context()
        """The context variables of the task that started the run, copied for every step."""
        self.variables.run(CURRENT_RUN.set, (run_id, self.tags))
        self.on_end: Callable[[Run], None] | None = None
        """Called after the last event has been written; must neither wait nor raise."""
        self.has_task = False
        """Whether it is executed in a task of its own, and not in its caller's."""
        self.lane_peak = 0
        """The largest number of chunks that waited on one edge."""
        self.inputs = inputs
        self._deadline_s = deadline_s
        self._ended: trio.Event | None = None  # made for the first waiting task
        self._scope: Scope | None = None
        """The scope of the outermost region, which contains all tasks; None before it starts."""
        self.until_s = inf
        """The deadline, as a time of Trio's clock."""
        self._reason = "the task that ran it was cancelled"
        self._cancelled = False
        self._finished = False
        self._value: Any = None
        self._error: Exception | None = None
        self._failure: Failure | None = None
        self._traceback: TracebackType | None = None
        self._timings_s: dict[str, float] = {}
        self._usage: Usage | None = None
        outlet = plan.block.regions[0].source
        self._began_s = trio.current_time()
        output = Output(outlet.chunk, shared.limits)
        self.journal = Journal(shared.limits, output, self._began_s, observer)

    if not TYPE_CHECKING:  # hidden from type checkers, which report these uses

        def __await__(self) -> NoReturn:
            raise _has_begun("and is not awaited: write `await run.result()`")

        def __aiter__(self) -> NoReturn:
            raise _has_begun(
                "and its events are in its journal: write `with run.journal.attach() as reader:` "
                "and `await reader.after(seq)`; for the chunks alone, `open_portal` has `stream`"
            )

    @property
    def pipeline(self) -> str:
        """The name of its pipeline."""
        return self.plan.pipeline.name

    @property
    def ended(self) -> bool:
        """Whether its last event has been written."""
        return self.journal.ended

    @property
    def error(self) -> Exception | None:
        """The error that ended the run; None while it runs, and after a success."""
        return self._error

    @property
    def usage(self) -> Usage | None:
        """The usage and cost of the run's model calls so far; final once the run has `ended`.

        Calls are added when they end, those of losing arms included; None if none was reported.
        """
        if self.ended:
            return self._usage
        known = [each for each in (self._usage, *self.usages.values()) if each is not None]
        return sum(known[1:], known[0]) if known else None

    async def wait_ended(self) -> None:
        """Wait until its last event has been written. Cancelling the wait leaves it running."""
        if self.ended:
            await trio.lowlevel.checkpoint()
            return
        if self._ended is None:
            self._ended = trio.Event()
        await self._ended.wait()

    async def result(self) -> T_co:
        """Wait for the result and return it. Cancelling the wait leaves the run running.

        Raises:
            RunCancelledError: it was cancelled.
            DeadlineError: its deadline has passed.
            Exception: whatever the step that failed has raised.
        """
        await self.wait_ended()
        if self._error is not None:
            raise self._error.with_traceback(self._traceback)  # else it grows with every waiter
        return cast("T_co", self._value)

    def cancel(self, reason: str) -> None:
        """Cancel the run: every step gets `Cancelled` now. No effect after its end."""
        if not self.ended and not self.stopping:
            self._reason = reason
            self._cancelled = True
            if self._scope is not None:
                self._scope.close(reason)

    # ------------------------------------------------- for the engine's own tasks

    async def execute(self) -> None:
        """Run to the end. Called once, by the engine.

        Raises only `Cancelled`, and exceptions that stop the process; never in a group.
        """
        self.journal.append(RunStarted, self.id, self.pipeline, self.request_id, self.tags)
        try:
            frame = Frame(self, self.plan.block, "", self.inputs, None)
            self._value = await frame.enter(0, partial(self._emit, frame))
            self.cut = is_cut(frame, frame.block.regions[0].source.slot)
            self._finished = not self.stopping
        except BaseException as error:  # noqa: ASYNC103, BLE001 - `_keep` re-raises all else
            self._keep(error)
        finally:
            self._end()

    def begin(self, scope: Scope) -> None:
        """Apply the deadline, and an earlier cancellation, to the outermost region's scope."""
        self._scope = scope
        if self._deadline_s is not None:
            self.until_s = self._began_s + self._deadline_s
            scope.nursery.cancel_scope.deadline = self.until_s
        if self._cancelled:
            scope.close(self._reason)

    def _keep(self, error: BaseException) -> None:
        """Keep the run's own error as its outcome; re-raise everything else, ungrouped.

        All runs share one nursery, so a run's errors must not leave its task.
        """
        own, onward = split(error)
        if own is not None and not self.stopping:
            self._failure = own if isinstance(own, Failure) else None
            self._error = bare(own)
        try:
            if onward is not None:
                raise stopping(onward) or onward from onward.__cause__
        finally:
            del error, own, onward  # as in `tasks`

    async def _emit(self, frame: Frame, source: Source) -> object:
        """The result: a value, or the collected chunks of a stream."""
        value = read(frame, source)
        if source.lane is None:
            return value
        await cast("Outlet", value).receive()  # after it, all chunks are in the journal
        return self.journal.output.joined()

    def _end(self) -> None:
        """Write the last event. Never waits, since the task may be cancelled."""
        journal, error = self.journal, self._error
        for path in tuple(self.usages):  # usage reported after the step's end
            self.settle_usage(path)
        usage, by_model = self._usage, dict(sorted(self.usage_by_model.items()))
        if self._finished:
            journal.append(RunFinished, self._value, self._timings_s, usage, self.cut, by_model)
        elif error is None and self._deadline_passed:
            limit = f"deadline_s={self._deadline_s:g} s"
            error = DeadlineError(
                f"pipeline {self.pipeline!r} was not done within {limit}", limit="deadline_s"
            )
        elif error is None:
            error = RunCancelledError(self._reason)
            journal.append(RunCancelled, self._reason, usage, by_model)
        if not journal.ended and error is not None:
            failure = self._failure
            step, where = (failure.step, failure.where) if failure is not None else (None, None)
            what = *name_and_message(error), step, where, usage, by_model
            journal.append(partial(RunFailed, cause=error), *what)
        self._error, self._scope = error, None
        self._traceback = error.__traceback__ if error is not None else None
        if self._ended is not None:
            self._ended.set()
        if self.on_end is not None:
            self.on_end(self)

    @property
    def stopping(self) -> bool:
        """Whether the run was cancelled or is late; how its steps end then does not count."""
        return self._cancelled or self._deadline_passed

    @property
    def _deadline_passed(self) -> bool:
        return not self._cancelled and trio.current_time() >= self.until_s

    @property
    def stopped(self) -> str:
        """The reason why the run's steps are being stopped."""
        if self._deadline_passed:
            return f"deadline_s={self._deadline_s:g} s passed"
        return self._reason

    def keep_time(self, step: str, duration_s: float) -> None:
        """Keep the duration of a step, unless it is in an item or in a pipeline run by a step."""
        if "]" not in step:
            self._timings_s[step] = duration_s

    def settle_usage(self, step: str) -> Usage | None:
        """Add the usage of an ended step to the run's, even if its arm has lost; return it."""
        usage = self.usages.pop(step, None)
        if usage is not None:
            self._usage = usage if self._usage is None else self._usage + usage
        return usage

    def blame(self, error: Exception, step: str, where: str) -> Failure:
        """A step's error with the place of the step; of nested steps, the innermost is named."""
        if isinstance(error, Failure):
            return error
        note = f"in step {step!r} of pipeline {self.pipeline!r}, called at {where}"
        with suppress(AttributeError, TypeError):  # some errors take no notes
            if note not in getattr(error, "__notes__", ()):  # and some are raised many times
                error.add_note(RunNote(note))
                if advice := advice_on(error):
                    error.add_note(RunNote(advice))
        return Failure(error, step, where)

    def interrupted(self, error: BaseException) -> None:
        """Keep an exception that stops the process as the reason for the run's end."""
        self._reason = f"{type(error).__name__} was raised"

    def spawn(self, nursery: trio.Nursery, frame: Frame, operation: Operation[Node]) -> None:
        """Start the task of an operation, with the run's context variables.

        Not with those of the current task, which is whichever task delivered the last input.
        """
        task = tasks.give_value if operation.chunk is None else tasks.give_stream
        start: Callable[..., None] = nursery.start_soon
        self.variables.run(start, task, frame, operation, name=frame.path + operation.name)

    def run_plain(self, frame: Frame, operation: Operation[Node]) -> None:
        """Run a plain step directly."""
        tasks.run_plain(frame, operation)


def _has_begun(instead: str) -> RunError:
    return RunError(f"engine.start(...) returns a run that has begun, {instead}")
