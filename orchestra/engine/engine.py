"""The engine: starts runs and owns everything that they share."""

from __future__ import annotations

import random
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any, AnyStr, ParamSpec, TypeAlias, TypedDict, TypeVar, Unpack, overload

import trio

from orchestra.accounts import Caller
from orchestra.compiler.plan import Plan
from orchestra.engine.bindings import DeploymentBindings, NoBindings, ScriptedBindings
from orchestra.engine.calls.kept import Kept
from orchestra.engine.inputs import by_name, complete
from orchestra.engine.journal import Observer
from orchestra.engine.opening import Opening
from orchestra.engine.plans import Plans
from orchestra.engine.run import Run, Shared
from orchestra.errors import InputError, LimitExceededError, RunError
from orchestra.graph.pipelines import Pipeline
from orchestra.graph.rules.policy import Limits, is_number
from orchestra.groups import groupless_nursery
from orchestra.policies.hedge import Hedges
from orchestra.policies.limits.shares import Shares
from orchestra.policies.observed import ObservesCalls
from orchestra.policies.retry import Retries
from orchestra.protocols import Bindings, Stream
from orchestra.tags import NO_TAGS, Tags, fault_of

P = ParamSpec("P")
T = TypeVar("T")

Observe: TypeAlias = Callable[[str], Observer | None]

NOBODY = Caller()
_CLOSE_S = 5.0  # for the `finally` blocks of steps
FLUSH_S = 2.0
"""For how long a closing engine waits for a state that has not taken what its calls have cost."""


class StartOptions(TypedDict, total=False):
    """The keywords of `Engine.start`, for type checkers."""

    deadline_s: float | None
    caller: Caller
    request_id: str
    run_id: str | None
    tags: Tags


class Engine:
    """Runs pipelines. Opened with `open_engine`; all runs end before it is closed."""

    def __init__(self, shared: Shared, observe: Observe | None = None) -> None:
        self.shared = shared
        self._runs: dict[str, Run] = {}
        self._observe = observe
        self._idle = trio.lowlevel.ParkingLot()
        self._closed = False

    @property
    def runs(self) -> Mapping[str, Run]:
        """The runs in flight, by id."""
        return self._runs

    def plan(self, pipeline: Pipeline[..., object] | Plan, unchecked: Collection[str] = ()) -> Plan:
        """The plan of a pipeline for this deployment; the last 1024 plans are cached.

        `unchecked` lists kinds of names that are not looked up: "model", "embedder" or "store".

        Raises:
            CheckError: the pipeline has problems; the error lists all of them.
            DefinitionError: the argument is not a pipeline.
        """
        if isinstance(pipeline, Plan):
            return pipeline
        return self.shared.plans.of(pipeline, unchecked)

    @overload
    def start(
        self, pipeline: Plan, inputs: Mapping[str, object], **options: Unpack[StartOptions]
    ) -> Run[Any]: ...
    @overload
    def start(  # type: ignore[overload-overlap]
        self,
        pipeline: Pipeline[..., Stream[AnyStr]],
        inputs: Mapping[str, object],
        **options: Unpack[StartOptions],
    ) -> Run[AnyStr]: ...
    @overload
    def start(
        self,
        pipeline: Pipeline[..., Stream[T]],
        inputs: Mapping[str, object],
        **options: Unpack[StartOptions],
    ) -> Run[list[T]]: ...
    @overload
    def start(
        self,
        pipeline: Pipeline[..., T],
        inputs: Mapping[str, object],
        **options: Unpack[StartOptions],
    ) -> Run[T]: ...
    def start(
        self,
        pipeline: Pipeline[..., Any] | Plan,
        inputs: Mapping[str, object],
        *,
        deadline_s: float | None = None,
        caller: Caller = NOBODY,
        request_id: str = "",
        run_id: str | None = None,
        tags: Tags = NO_TAGS,
    ) -> Run[Any]:
        """Start a run in a task of its own, on behalf of `caller`.

        `deadline_s` is the number of seconds that the run may take, in place of its pipeline's
        deadline; with 0 or less the run fails at once. `request_id` is recorded in the run's first
        event; `run_id` is used as the run's id, instead of a new one. `tags` are at most 16 names
        with values, for logs and traces: a name has 1 to 64 characters, a value at most 512. A
        reader that attaches to the journal before the next await misses no event.

        Raises:
            CheckError: the pipeline has problems.
            DefinitionError: the argument is not a pipeline.
            InputError: an input is missing, unknown, or of the wrong type; or the deadline is not a
                number; or the tags exceed their bounds.
            RunError: a run with this id is in flight; or the engine was opened in another run of
                Trio, such as another thread's.
            LimitExceededError: there are `Limits.runs` runs in flight already.
            trio.ClosedResourceError: the engine is closed.
        """
        run = self._make(
            pipeline,
            inputs,
            deadline_s,
            caller=caller,
            request_id=request_id,
            run_id=run_id,
            tags=tags,
        )
        run.has_task = True
        self.shared.nursery.start_soon(self._execute, run, name=run.pipeline)
        return run

    @overload
    async def run(self, pipeline: Plan, /, *args: object, **kwargs: object) -> Any: ...
    @overload
    async def run(  # type: ignore[overload-overlap]
        self, pipeline: Pipeline[P, Stream[str]], /, *args: P.args, **kwargs: P.kwargs
    ) -> str: ...
    @overload
    async def run(  # type: ignore[overload-overlap]
        self, pipeline: Pipeline[P, Stream[bytes]], /, *args: P.args, **kwargs: P.kwargs
    ) -> bytes: ...
    @overload
    async def run(
        self, pipeline: Pipeline[P, Stream[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> list[T]: ...
    @overload
    async def run(self, pipeline: Pipeline[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def run(self, pipeline: Pipeline[..., Any] | Plan, /, *args: Any, **kwargs: Any) -> Any:
        """Run a pipeline in this task and return its result; cancelling the task cancels the run.

        The result of a stream is the collected stream. For a plan, the result's type is unknown.

        Raises:
            CheckError: the pipeline has problems.
            DefinitionError: the argument is not a pipeline.
            InputError: an input is missing, unknown, or of the wrong type.
            LimitExceededError: there are `Limits.runs` runs in flight already.
            RunCancelledError: the run was cancelled through its handle.
            DeadlineError: the run's deadline has passed.
            RunError: the engine was opened in another run of Trio, such as another thread's.
            trio.ClosedResourceError: the engine is closed.
            Exception: whatever the step that failed has raised.
        """
        planned = pipeline.pipeline if isinstance(pipeline, Plan) else pipeline
        run = self._make(pipeline, by_name(planned, args, kwargs), None)
        await self._execute(run)
        return await run.result()

    async def wait_idle(self) -> None:
        """Wait until no run is in flight."""
        while self._runs:
            await self._idle.park()

    def cancel_all(self, reason: str) -> None:
        """Cancel every run in flight."""
        for run in tuple(self._runs.values()):
            run.cancel(reason)

    def close(self) -> None:
        """Cancel every run in flight, and refuse new ones. Called when the context is left."""
        self._closed = True
        self.cancel_all("the engine was closed")

    def _make(
        self,
        pipeline: Pipeline[..., object] | Plan,
        inputs: Mapping[str, object],
        deadline_s: float | None,
        *,
        caller: Caller = NOBODY,
        request_id: str = "",
        run_id: str | None = None,
        tags: Tags = NO_TAGS,
    ) -> Run[Any]:
        if self._closed:
            raise trio.ClosedResourceError("the engine is closed: run pipelines in its context")
        self._refuse_other_runs()
        made = self.plan(pipeline)
        if deadline_s is not None and not is_number(deadline_s):
            raise InputError(
                f"engine.start({made.pipeline.name}, ..., deadline_s={deadline_s!r:.80}): it must "
                "be the number of seconds that the run may take, or None; write deadline_s=5"
            )
        if run_id is not None and run_id in self._runs:
            raise RunError(
                f"engine.start({made.pipeline.name}, ..., run_id={run_id!r:.80}): a run with this "
                "id is in flight; wait for it with `await engine.runs[run_id].wait_ended()`, or "
                "leave `run_id` out to get a new id"
            )
        if tags is not NO_TAGS and (fault := fault_of(tags)):
            raise InputError(f"engine.start({made.pipeline.name}, ..., tags=...): {fault}")
        if len(self._runs) >= self.shared.limits.runs:
            raise LimitExceededError(
                f"{len(self._runs)} runs are in flight, and Limits(runs=...) allows no more",
                limit="runs",
            )
        run: Run[Any] = Run(
            run_id or secrets.token_hex(16),
            made,
            complete(made, inputs, self.shared.limits),
            self.shared,
            deadline_s=_first(deadline_s, made.pipeline.deadline_s, self.shared.limits.deadline_s),
            caller=caller,
            request_id=request_id,
            tags=tags,
            observer=None if self._observe is None else self._observe(made.pipeline.name),
        )
        self._runs[run.id] = run
        return run

    def _refuse_other_runs(self) -> None:
        """Refuse calls from other runs of Trio: their tasks would never be woken."""
        here = trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token()
        if here is not self.shared.token:
            raise RunError(
                "the engine was opened in another run of Trio, and works in that one only; take "
                "`token = trio.lowlevel.current_trio_token()` where it is opened, and write "
                "`trio.from_thread.run(engine.run, pipeline, ..., trio_token=token)`, in a thread "
                "that has no Trio of its own"
            )

    async def _execute(self, run: Run) -> None:
        try:
            await run.execute()
        finally:
            del self._runs[run.id]
            if not self._runs:
                self._idle.unpark_all()


def open_engine(
    bindings: Bindings | None = None,
    *,
    limits: Limits | None = None,
    jitter: Callable[[], float] = random.random,
    observe: Observe | None = None,
) -> Opening:
    """A context in which an engine is open; leaving it cancels the runs in flight.

    If a budget or limit of the bindings is in a state that could not be reached when a call ended,
    leaving waits for that state for at most 2 s, also when it is cancelled, and logs what is lost.
    Without bindings, pipelines can use no model, embedder or store. `jitter` returns numbers from
    0 to 1, which randomize the waits before retries. `observe` is called with the name of each
    run's pipeline, and returns an observer of the run's events, or None; it may be a `Telemetry` of
    `orchestra.observe.telemetry`. Exceptions raised in the context leave it unchanged and never in
    a group, as do `KeyboardInterrupt` and exceptions of its nursery.

    Raises:
        RunError: Trio is not running; the bindings or limits have a wrong type; the bindings are in
            use in another run of Trio; or the engine is used without `async with`.
        DefinitionError: the bindings are a `World` with scripts that only `simulate` plays.
    """
    return Opening(_opened(bindings, limits, jitter, observe))


@asynccontextmanager
async def _opened(
    bindings: Bindings | None,
    limits: Limits | None,
    jitter: Callable[[], float],
    observe: Observe | None,
) -> AsyncIterator[Engine]:
    if not trio.lowlevel.in_trio_run():
        raise RunError(
            "an engine runs on Trio, which is not running here: write trio.run(main) for "
            "asyncio.run(main); in a test, simulate(pipeline, ...) in a plain `def`; in an asyncio "
            "program, such as a FastAPI application, `async with orchestra.open_portal() as "
            "portal: await portal.arun(pipeline, ...)`, or run `orchestra serve` beside it"
        )
    _refuse_others(bindings, limits)
    if isinstance(bindings, ScriptedBindings):
        bindings.refuse_scripts()
    with _deployed(bindings, observe) as deployed:
        try:
            async with groupless_nursery() as nursery:
                engine = Engine(_shared(nursery, bindings, limits or Limits(), jitter), observe)
                try:
                    yield engine
                finally:
                    engine.close()
                    nursery.cancel_scope.cancel()
                    try:
                        with trio.move_on_after(_CLOSE_S, shield=True):  # for callers' tasks
                            await engine.wait_idle()
                    finally:
                        engine.shared.kept.close()
        finally:
            if deployed is not None:  # now that calls have ended which outlived their runs, too
                with trio.CancelScope(shield=True):
                    await deployed.flush(FLUSH_S)


@contextmanager
def _deployed(bindings: Bindings | None, observe: object) -> Iterator[DeploymentBindings | None]:
    """The bindings if they are a deployment's: meanwhile, this run of Trio alone may use them.

    `ObservesCalls` observe the calls of their models, too.
    """
    if not isinstance(bindings, DeploymentBindings):
        yield None
        return
    with nullcontext() if bindings.in_use is None else bindings.in_use.by_this_run():
        before = bindings.on_call, bindings.on_budget
        if isinstance(observe, ObservesCalls):
            bindings.on_call = observe.called
            bindings.on_budget = observe.on_budget
        try:
            yield bindings
        finally:
            if isinstance(observe, ObservesCalls):
                bindings.on_call, bindings.on_budget = before


def _shared(
    nursery: trio.Nursery, bindings: Bindings | None, limits: Limits, jitter: Callable[[], float]
) -> Shared:
    bound = bindings or NoBindings()
    return Shared(
        bound,
        Plans(bound),
        limits,
        nursery,
        trio.lowlevel.current_trio_token(),
        Kept(nursery),
        Shares.of_threads(),
        Retries(limits, jitter),
        Hedges(),
    )


def _refuse_others(bindings: object, limits: object) -> None:
    """Raise `RunError` for bindings or limits of a wrong type, before the first run would fail."""
    if bindings is not None and (
        isinstance(bindings, type) or not all(hasattr(bindings, each) for each in _SEAMS)
    ):
        raise RunError(
            f"open_engine({bindings!r:.200}): bindings must resolve the names in pipelines, with "
            "`names`, `model`, `embedder` and `store`, and this does not; write "
            "open_engine(World(models={...})) in a test, or open_engine(bindings) in `with "
            "default_bindings() as bindings:` of orchestra.config. Pipelines are passed to "
            "`engine.run`"
        )
    if not isinstance(limits, Limits | None):
        raise RunError(
            f"open_engine(limits={limits!r:.200}): write limits=Limits(...), such as "
            "limits=Limits(runs=100)"
        )


_SEAMS = ("names", "model", "embedder", "store")


def _first(*deadlines_s: float | None) -> float | None:
    """The first deadline that is not None."""
    return next((deadline_s for deadline_s in deadlines_s if deadline_s is not None), None)
