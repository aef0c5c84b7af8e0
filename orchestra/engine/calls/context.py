"""The context of a step: its access to the run that it is part of."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from orchestra.accounts import Caller, Usage, add_to
from orchestra.engine.calls.kept import Opened
from orchestra.errors import LimitExceededError
from orchestra.event_lines import read_back, written
from orchestra.events import Note, StepCut, StepRouted, StepTold
from orchestra.groups import contained
from orchestra.protocols import Embedder, Model, VectorStore

if TYPE_CHECKING:
    from orchestra.engine.calls.children import Parent
    from orchestra.engine.run import Run
    from orchestra.graph.pipelines import Pipeline
    from orchestra.policies.account import Attempt

T = TypeVar("T")
log = logging.getLogger("orchestra.engine")

TOLD_BYTES = 16_384
"""The most JSON bytes that a step can tell in one event; a journal keeps thousands of events."""


class StepContext:
    """One step's `protocols.Context`, and its `protocols.Account`."""

    __slots__ = (
        *("__weakref__", "_parent", "_tool", "attempt"),
        *("caller", "run_id", "run_key", "step"),
    )

    def __init__(
        self,
        parent: Parent,
        tool: tuple[str, str] | None = None,
        attempt: Attempt | None = None,
    ) -> None:
        self._parent = parent
        self._tool = tool
        self.attempt = attempt
        """The attempt of a step with a `Retry`; None for other steps, and in a tool."""
        self.step = parent.step
        """The path of the step."""
        self.run_key: Run = parent.frame.run
        """The run: policies compare it, and it is where notes and usage go."""
        self.run_id = self.run_key.id
        """The id of the run."""
        self.caller: Caller = self.run_key.caller
        """The caller that started the run."""

    @property
    def call_id(self) -> str | None:
        """In a tool, the id of the model's call: see `protocols.Context`."""
        return None if self._tool is None else self._tool[1]

    def model(self, name: str) -> Model:
        """The model of this name. Raises BindingError."""
        if self.run_key.cuts:  # from now on, this model's answer counts, and it is not cut yet
            self.run_key.cuts[self.step] = False
        return self.run_key.shared.bindings.model(name)

    def embedder(self, name: str) -> Embedder:
        """The embedder of this name. Raises BindingError."""
        return self.run_key.shared.bindings.embedder(name)

    def store(self, name: str) -> VectorStore:
        """The store of this name. Raises BindingError."""
        return self.run_key.shared.bindings.store(name)

    def used(self, usage: Usage | None, model: str = "") -> None:
        """Add the usage of a call to the step's account; after the step's end, to the run's."""
        if usage is None or usage.settled:
            return
        add_to(self.run_key.usages, self.step, usage)
        if model:
            add_to(self.run_key.usage_by_model, model, usage)

    def record(self, note: type[Note], *fields: object) -> None:
        """Write an event of this step into the run's journal, unless the run has ended."""
        if not self.run_key.ended:
            event = self.run_key.journal.append(note, self.step, *fields)
            if isinstance(event, StepRouted):
                self.run_key.routed = tuple(dict.fromkeys((*self.run_key.routed, event.model)))
            elif isinstance(event, StepCut):
                self.run_key.cuts[self.step] = True

    def of_tool(self, tool: str, call: str) -> StepContext:
        """The context for a tool call in the step: its events carry the tool's name."""
        return StepContext(self._parent, (tool, call))

    async def run(self, pipeline: Pipeline[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run a pipeline as a part of this step; raises what `protocols.Context` says."""
        return await self._parent.run(pipeline, args, kwargs)

    def stream(
        self, pipeline: Pipeline[..., Any], /, *args: Any, **kwargs: Any
    ) -> AbstractAsyncContextManager[Any]:
        """The chunks of a pipeline, as they come; raises what `protocols.Context` says."""
        return self._parent.stream(pipeline, args, kwargs)

    async def kept(self, opened: Opened[T]) -> T:
        """The object that `opened()` opens, once per engine; raises as `protocols.Context` says."""
        return await self.run_key.shared.kept.get(opened)

    def tell(self, what: str, data: object = None) -> None:
        """Write a `step.told` into the run's journal, from any thread: see `protocols.Context`.

        Raises:
            LimitExceededError: `data` as JSON is longer than `TOLD_BYTES`.
        """
        line = written(data)
        if (size := len(line) + len(what)) > TOLD_BYTES:
            raise LimitExceededError(
                f"tell({what[:100]!r}, ...): its data has {size} bytes of JSON, over {TOLD_BYTES}; "
                "tell only the progress, and return results as the step's value",
                limit="told_bytes",
            )
        run, token, plain = self.run_key, self.run_key.shared.token, read_back(line)
        if trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is token:
            self.record(StepTold, what, plain, *(self._tool or ()))
            return
        run.journal.post(StepTold, self.step, what, plain, *(self._tool or ()))
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(run.journal.take_posted)

    def spawn(self, task: Callable[[], Awaitable[None]], name: str) -> None:
        """Run a task beside the runs until the engine is closed; its errors are only logged."""
        what = f"the background task {name} failed"
        self.run_key.shared.nursery.start_soon(contained, task, log, what, name=name)
