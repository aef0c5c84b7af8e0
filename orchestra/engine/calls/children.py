"""Children: pipelines that a step runs, as parts of its own run.

The theory: a child is one more frame of the run, entered in the task that runs it. So its tasks are
descendants of the step's task, and whatever ends the step ends them: a deadline, a lost race, a
client that has left. Its steps write into the run's journal, under paths of their own, and each has
its own usage. So all usage is counted once, where it arose.

A child that is streamed is entered in a task beside the step's, in the nursery of its region, and
the block `async with context.stream(...)` ends it and waits for its end. A nursery of the block's
own would be open at every `yield` of the step, where `calls` may have to leave an expired scope.
The chunks pass through a second bounded lane, which has the end only when the child has ended, and
its error if it failed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from math import inf
from typing import Any, TypeVar, cast
from weakref import ReferenceType

import attrs
import trio

from orchestra.compiler.blocks.slots import Operation, Source
from orchestra.engine.frames.cuts import forget_cuts, is_cut, models_answered
from orchestra.engine.frames.frame import Children, Frame
from orchestra.engine.frames.nesting import Nesting
from orchestra.engine.frames.reading import collected, read
from orchestra.engine.frames.scope import Failure
from orchestra.engine.inputs import by_name, complete
from orchestra.engine.lanes.child_lane import UNREAD, ChildLane
from orchestra.engine.lanes.lane import Lane
from orchestra.engine.lanes.outflow import Restart
from orchestra.errors import DeadlineError, EdgeTypeError, InputError, LimitExceededError, RunError
from orchestra.graph.nodes import Call
from orchestra.graph.pipelines import Pipeline
from orchestra.policies.limits.shares import LENT

T = TypeVar("T")


@attrs.define(eq=False, weakref_slot=False)  # one for each call of a step that takes a context
class Parent:
    """A step that may run pipelines, and the task in which it runs."""

    frame: Frame
    operation: Operation[Call]
    task: ReferenceType[trio.lowlevel.Task]
    """Weak: the task's context variables hold the step's context, which holds this."""

    @property
    def step(self) -> str:
        """The path of the step."""
        return self.frame.path + self.operation.name

    async def run(
        self, pipeline: Pipeline[..., Any], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> object:
        """Run a pipeline, and return its result; raises what `protocols.Context.run` says."""
        child = await self._begun("run", pipeline, args, kwargs)
        (found,) = await self._taken(child, pipeline, partial(_collected, child))
        return found

    @asynccontextmanager
    async def stream(
        self, pipeline: Pipeline[..., Any], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> AsyncGenerator[Lane[object]]:
        """The chunks of a pipeline, as they come; raises what `protocols.Context.stream` says."""
        child = await self._begun("stream", pipeline, args, kwargs)
        if child.block.regions[0].source.lane is None:
            raise EdgeTypeError(
                f"step {self.step!r} streams pipeline {pipeline.name!r}, whose result is a value, "
                f"not a stream; write `await context.run({pipeline.name}, ...)`"
            )
        lane, reading = ChildLane(self.frame.run.shared.limits.lane_chunks), trio.CancelScope()
        fill = partial(self._fill, lane, reading, child, pipeline)
        self.frame.scope_of(self.operation).nursery.start_soon(fill, name=child.path)
        try:
            yield lane
        finally:
            lane.end()
            if not self._is_stopping(child):
                child.close(0, UNREAD)
            reading.cancel()
            with trio.CancelScope(shield=True):  # as long as a nursery would wait for its tasks
                await lane.filled.wait()  # noqa: ASYNC102 - only for what its steps have shielded

    async def _fill(
        self,
        lane: ChildLane,
        reading: trio.CancelScope,
        child: Frame,
        pipeline: Pipeline[..., Any],
    ) -> None:
        """Run a child, and put its chunks into the lane; then its end, or its error."""
        try:
            with reading:
                await self._taken(child, pipeline, partial(self._pass_on, child, lane))
                lane.close()
        except Exception as error:  # noqa: BLE001 - the reader raises it
            lane.fail(error)
        except BaseException:
            lane.fail(self._stopped(pipeline, "was stopped"))  # for a reader in a shield
            raise
        finally:
            lane.filled.set()

    async def _pass_on(self, child: Frame, lane: ChildLane, source: Source) -> tuple[()]:
        try:
            async for chunk in cast("Lane[object]", read(child, source)):
                if type(chunk) is Restart:
                    raise RunError(
                        f"step {self.step!r} streams a pipeline that restarts its output: "
                        f"{chunk.step!r} goes on to arm {chunk.arm}, and the chunks before are "
                        "void; use context.run, or write the fallback without restart=True"
                    )
                await lane.put(chunk)
        finally:  # the step may pass on what it has read, however this ends
            self._pass_on_cut(child)
        return ()

    async def _begun(
        self,
        call: str,
        pipeline: Pipeline[..., Any],
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
    ) -> Frame:
        """The frame of a child that may start."""
        self._refuse_elsewhere(call)
        child = self._child(pipeline, args, kwargs)
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.frame.scope_of(self.operation).stopped is not None or self.frame.late:
            await trio.lowlevel.checkpoint()  # only here, Trio notices a deadline that just passed
            raise self._stopped(pipeline, "cannot start")
        return child

    async def _taken(
        self, child: Frame, pipeline: Pipeline[..., Any], take: Callable[[Source], Awaitable[T]]
    ) -> T:
        """Enter the child and `take` its result; everything in it has ended on return."""
        with trio.move_on_at(child.nesting.until_s):
            if (found := await self._entered(child, take)) is not None:
                return found
            raise self._stopped(pipeline, "was stopped")
        raise DeadlineError(
            f"pipeline {pipeline.name!r}, which step {self.step!r} ran, was not done within "
            f"deadline_s={pipeline.deadline_s:g} s",
            limit="deadline_s",
        )

    def _child(
        self, pipeline: Pipeline[..., Any], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> Frame:
        """The frame of the child, with its inputs, and a path that no other child has."""
        frame, run = self.frame, self.frame.run
        try:
            named = by_name(pipeline, args, kwargs)
            plan = run.shared.plans.of(pipeline)
            inputs = complete(plan, named, run.shared.limits)
        except InputError as error:  # the step's error, not that of the client who started the run
            raise EdgeTypeError(f"step {self.step!r} runs a pipeline wrongly: {error}") from error
        path = f"{self.step}[{self._number(pipeline)}]/{pipeline.name}/"
        child = Frame(run, plan.block, path, inputs, frame.scope_of(self.operation))
        deadline_s = inf if pipeline.deadline_s is None else pipeline.deadline_s
        child.nesting = Nesting(
            frame.nesting,
            frame.nesting.depth + 1,
            LENT.get(),
            is_cut(frame, self.operation.slot),
            trio.current_time() + deadline_s,
            f"deadline_s={deadline_s:g} s of pipeline {pipeline.name!r} passed",
            trio.current_effective_deadline() > min(run.until_s, frame.nesting.due_s),
        )
        return child

    def _number(self, pipeline: Pipeline[..., Any]) -> int:
        """The number of the step's next child, from 0."""
        frame, limits = self.frame, self.frame.run.shared.limits
        if frame.nesting.depth >= limits.pipelines_deep:
            raise LimitExceededError(
                f"step {self.step!r} runs pipeline {pipeline.name!r}, but is already nested in "
                f"{frame.nesting.depth} pipelines that steps run; end the recursion, or raise "
                "Limits(pipelines_deep=...) if that is intended",
                limit="pipelines_deep",
            )
        children = frame.children.setdefault(self.operation.slot, Children())
        if children.count >= limits.each_items:
            raise LimitExceededError(
                f"step {self.step!r} has run {children.count} pipelines, and is to run "
                f"{pipeline.name!r}; end its loop, or raise Limits(each_items=...) if that is "
                "intended",
                limit="each_items",
            )
        children.count += 1
        return children.count - 1

    async def _entered(self, child: Frame, take: Callable[[Source], Awaitable[T]]) -> T | None:
        """What `take` returns; None if the child was stopped. Raises the error of its step."""
        try:
            found = await child.enter(0, take)
            self._pass_on_cut(child)
            return found  # noqa: TRY300 - only a failure continues below
        except Failure as error:
            failure = error
            self.frame.children[self.operation.slot].failures.append(failure)
        finally:
            forget_cuts(child)
        try:
            raise failure.error  # here, where the failure does not become its context
        finally:
            del failure  # as in `tasks`

    def _pass_on_cut(self, child: Frame) -> None:
        """Record whether the child's result is cut, as that of the step's last answer."""
        cut = is_cut(child, child.block.regions[0].source.slot)
        if cut or models_answered(child):
            child.run.cuts[self.step] = cut

    def _refuse_elsewhere(self, call: str) -> None:
        """Check that the current task is the step's, or a descendant of it."""
        own = None if self.operation.plain else self.task()  # a plain step has no task of its own
        task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        while task is not None and task is not own:
            task = None if task.parent_nursery is None else task.parent_nursery.parent_task
        if task is None:
            raise RunError(
                f"context.{call} of step {self.step!r} was called in a task that would outlive it; "
                "call it in the step, or in a nursery that the step has opened"
            )

    def _is_stopping(self, child: Frame) -> bool:
        """Whether something else stops the child, which is then the reason in its events."""
        return bool(self.frame.scope_of(self.operation).stopped or child.late)

    def _stopped(self, pipeline: Pipeline[..., Any], outcome: str) -> RunError:
        """The error for a step that runs on in a shield; any other code would be cancelled."""
        reason = self.frame.stopped(self.operation)
        return RunError(
            f"step {self.step!r} is being stopped ({reason}), so pipeline {pipeline.name!r} "
            f"{outcome}; clean up in the step itself, without running a pipeline"
        )


async def _collected(frame: Frame, source: Source) -> tuple[object]:
    """The child's result in a tuple, which tells a result of None from a stopped child."""
    return (await collected(frame, source),)
