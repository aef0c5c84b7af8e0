"""The served version of an application, and its replacement without a pause.

A *generation* is an engine with its bindings and its application. One of them is the present;
those before it go on until they are empty.

Rules of the file: a request stays in the generation that it came to, with its run. What is
loaded is checked before it becomes the present, and what fails leaves everything as it was. A
generation that was replaced ends when it is empty, after `retire_s`, or when `KEPT_MAX` are
older than the present; whatever ends it, `close` of what was loaded is called behind its last run.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import trio

from orchestra.compiler.plan import named_by
from orchestra.engine.bindings import DeploymentBindings
from orchestra.engine.engine import open_engine
from orchestra.errors import OrchestraError, ServeError, StoreError
from orchestra.groups import contained
from orchestra.observe import names
from orchestra.observe.observers import together
from orchestra.observe.tally import Tally
from orchestra.server.app import create_app
from orchestra.server.front.layers import OPEN, Admission
from orchestra.server.health import Readiness, gauges_of, states_of
from orchestra.server.runs.registries import open_runs
from orchestra.server.settings import USUAL_SETTINGS, Settings
from orchestra.stores.state_memory import MemoryState

if TYPE_CHECKING:
    from pathlib import Path

    from hypercorn.typing import (
        ASGIFramework,
        ASGIReceiveCallable,
        ASGISendCallable,
        Scope,
    )

    from orchestra.compiler.plan import Plan
    from orchestra.engine.engine import Engine
    from orchestra.graph.pipelines import Pipeline
    from orchestra.graph.rules.policy import Limits
    from orchestra.observe.counting import Counting
    from orchestra.observe.otel import Tracing
    from orchestra.protocols import Bindings, State
    from orchestra.runs.registry import Registry
    from orchestra.server.processes.worker_place import WorkerPlace

log = logging.getLogger("orchestra.server")

REPLACED = "its version of the server was replaced, and its time is over"
KEPT_MAX = 4
"""Generations that may go on beside the present; the oldest is then ended at once."""


class Loaded(msgspec.Struct, frozen=True):
    """A version to be served: pipelines by name, and their bindings.

    `admit` says who is let in; without it everybody is. `close` is called once, when nothing that
    was started with it is under way any more. `state` is what processes share: runs are known to
    all of them. `flush` is called before `close`, with how many seconds it may take. `by_json` are
    the pipelines that JSON can ask, where they have been looked at.
    """

    pipelines: Mapping[str, Pipeline[..., Any]]
    bindings: Bindings | None = None
    settings: Settings = USUAL_SETTINGS
    admit: Callable[[], Awaitable[Admission]] | None = None
    close: Callable[[], None] = lambda: None
    state: State | None = None
    flush: Callable[[float], Awaitable[object]] | None = None
    by_json: Mapping[str, Pipeline[..., Any]] | None = None


Load: TypeAlias = Callable[[], AbstractContextManager[Loaded]]
"""Loads anew what is served. Left without an exception, it has become the present; left with one,
it was refused, and what it has changed, such as imported modules, is put back."""


class House(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks and settings of a server around the loaded version.

    `reloads` is whether SIGHUP loads anew; `watched` are the files whose change does so, too, asked
    for again and again. `on_retired` is called when what was replaced is gone. `flush` is called at
    the very end, all at once. `place` is that of a worker under a supervisor. `counting` is what
    counts, for `/metrics`, and `tracing` what traces runs.
    """

    limits: Limits | None = None
    reloads: bool = True
    watched: Callable[[], Collection[Path]] | None = None
    on_retired: Callable[[], object] = lambda: None
    on_stop: Callable[[float], object] = lambda _: None
    flush: Collection[Callable[[], Awaitable[object]]] = ()
    place: WorkerPlace | None = None
    counting: Counting | None = None
    tracing: Tracing | None = None


class Generation:
    """One engine and its application, and how many requests are in it.

    Its WebSockets are closed, each behind its last run, when `closing` is set.
    """

    def __init__(
        self,
        engine: Engine,
        app: ASGIFramework,
        settings: Settings,
        registry: Registry,
        closing: trio.Event,
    ) -> None:
        self.engine = engine
        self.app = app
        self.settings = settings
        self.registry = registry
        self.closing = closing
        self._requests = 0
        self._left = trio.Event()
        self._retired = trio.Event()
        self._patience = trio.CancelScope()

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Serve one request, and count it for as long."""
        self._requests += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._requests -= 1
            if not self._requests:
                self._left.set()
                self._left = trio.Event()

    def retire(self, deadline: float) -> None:
        """Let it end when it is empty, or at the deadline; again may only shorten its time.

        Its runs are known to those behind it from now on.
        """
        self.registry.share()
        self.closing.set()
        self._retired.set()
        self._patience.deadline = min(self._patience.deadline, deadline)

    async def wait_empty(self) -> None:
        """Wait until no request and no run is in it."""
        while self._requests or self.engine.runs:
            if self._requests:
                await self._left.wait()
            else:
                await self.engine.wait_idle()

    async def wait_over(self) -> None:
        """Wait until it was retired, and is empty or its time is over; then its runs are ended."""
        await self._retired.wait()
        with self._patience:
            await self.wait_empty()
        self.engine.cancel_all(REPLACED)
        with trio.move_on_after(self.settings.farewell_s):
            await self.wait_empty()


class Serving:
    """An ASGI application whose inner application can be replaced.

    Generations live in `nursery`; `begin` makes the first.
    """

    def __init__(self, load: Load, nursery: trio.Nursery, house: House) -> None:
        self.load = load
        self.nursery = nursery
        self._house = house
        if house.counting is not None:
            house.counting.measure = self._measure
            if house.tracing is not None:
                house.tracing.queue.tally = house.counting.metrics.tally
        self.readiness = Readiness()
        self._turn = trio.Lock()
        self._generations: list[Generation] = []
        self._memory: State | None = None

    def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> Awaitable[None]:
        """Serve one request with what is the present when it comes."""
        return self._generations[-1](scope, receive, send)

    async def begin(self) -> None:
        """Load, check, and make it the present; what was the present before is retired.

        Raises:
            OrchestraError: what was loaded cannot be served; the present goes on.
        """
        with self.load() as loaded:
            generation: Generation = await self.nursery.start(self._live, loaded)
        self._generations.append(generation)
        now, before = trio.current_time(), self._generations[-2::-1]
        for age, each in enumerate(before):
            each.retire(now + self.settings.retire_s if age < KEPT_MAX else now)

    @property
    def settings(self) -> Settings:
        """The current settings."""
        return self._generations[-1].settings

    @property
    def running(self) -> int:
        """How many runs are in flight, of all generations."""
        return sum(len(each.engine.runs) for each in self._generations)

    async def reload(self) -> None:
        """`begin` again, unless the server stops; where it cannot, the log says why."""
        await contained(self._reload, log, "not reloaded; what was served before stays")

    async def _reload(self) -> None:
        async with self._turn:
            if self.readiness.stopping:
                return
            before = self.settings
            try:
                await self.begin()
            except OrchestraError as error:
                log.error("not reloaded; what was served before stays:\n%s", error)  # noqa: TRY400
                return
        stays = before.kept_until_restart(self.settings)
        told = f"until a restart these stay as they were: {', '.join(stays)}"
        log.info("reloaded; %s", told if stays else "new requests use the new version")

    async def wait_idle(self) -> None:
        """Wait until no run is in flight, of any generation."""
        while busy := [each for each in self._generations if each.engine.runs]:
            await busy[0].engine.wait_idle()

    def close_sockets(self) -> None:
        """Start no more runs over WebSockets, and close each behind its last run."""
        for each in self._generations:
            each.closing.set()

    def cancel_all(self, reason: str) -> None:
        """Cancel every run in flight, of every generation."""
        for each in self._generations:
            each.engine.cancel_all(reason)

    async def _live(self, loaded: Loaded, *, task_status: trio.TaskStatus[Generation]) -> None:
        """One generation, from its first moment to its last."""
        deployed = loaded.bindings if isinstance(loaded.bindings, DeploymentBindings) else None
        house = self._house
        counting = house.counting if loaded.settings.metrics else None
        watcher = together(
            None if counting is None else counting.metrics,
            None if house.tracing is None else house.tracing.traces,
        )
        if watcher is not None and deployed is not None:
            deployed.on_call = watcher.called
        observe = None if watcher is None else watcher.observe
        try:
            async with (
                self._registry(loaded) as registry,
                open_engine(
                    loaded.bindings, limits=loaded.settings.limits(house.limits), observe=observe
                ) as engine,
            ):
                admission = OPEN if loaded.admit is None else await loaded.admit()
                pipelines, settings = loaded.pipelines, loaded.settings
                tolerant = deployed is not None and deployed.has_database and not self._generations
                plan_all = partial(_plan_all, engine, pipelines.values(), tolerant=tolerant)
                plans = await trio.to_thread.run_sync(plan_all, abandon_on_cancel=True)
                if deployed is not None:
                    load = partial(deployed.load, _named(plans))
                    await trio.to_thread.run_sync(load, abandon_on_cancel=True)
                app = create_app(
                    engine,
                    pipelines,
                    settings,
                    admission,
                    self.readiness,
                    registry=registry,
                    counting=counting,
                    tracing=house.tracing,
                    by_json=loaded.by_json,
                )
                if deployed is not None and deployed.prepare():
                    app.prepare()
                if self._generations and self.readiness.stopping:
                    raise ServeError("the server has begun to stop in the meantime")
                generation = Generation(engine, app.asgi_app, settings, registry, app.closing)
                task_status.started(generation)
                await generation.wait_over()
                self._generations.remove(generation)
        finally:
            await _end(loaded)  # noqa: ASYNC102 - shielded, and bounded
        # it may be the last
        del engine, admission, app, generation, loaded, registry, pipelines, deployed
        house.on_retired()

    def _measure(self, tally: Tally) -> None:
        """Say how it is now, of all generations; of breakers, in the present."""
        found = Tally()
        found.set(names.RUNS_RUNNING, (), self.running)
        for each in self._generations:
            found.gauges.pop(names.BREAKERS.name, None)
            found.add(gauges_of(states_of(each.engine.shared.bindings)))
        tally.gauges = found.gauges

    def _registry(self, loaded: Loaded) -> AbstractAsyncContextManager[Registry]:
        """The runs of a generation; without a state, all generations share their memory of them."""
        state, settings = loaded.state or self._memory, loaded.settings
        if state is None:
            state = self._memory = MemoryState(limit_bytes=settings.runs.kept_total_bytes)
        shared = loaded.state is not None or bool(self._generations)
        return open_runs(state, settings, shared=shared)


async def _end(loaded: Loaded) -> None:
    """Write what is late, then close, whatever happens; errors end no other version."""

    async def end() -> None:
        try:
            if loaded.flush is not None:
                await loaded.flush(loaded.settings.runs.flush_s)
        finally:
            loaded.close()

    await contained(end, log, "a replaced version of the server was not closed cleanly")


def _plan_all(
    engine: Engine, pipelines: Iterable[Pipeline[..., Any]], *, tolerant: bool
) -> list[Plan]:
    """Check all, in a thread: the names of stores may be asked of a database, which blocks.

    If it is `tolerant`, a database that is away keeps no server from starting, as no Redis does: it
    is asked once, and the names of stores are then not checked. Runs fail that need it.
    """
    unchecked: tuple[str, ...] = ()
    plans = []
    for pipeline in pipelines:
        try:
            plans.append(engine.plan(pipeline, unchecked))
        except StoreError as error:
            if not tolerant:
                raise
            log.warning("the stores that pipelines name are not checked: %s", error)
            unchecked = ("store",)
            plans.append(engine.plan(pipeline, unchecked))
    return plans


def _named(plans: Iterable[Plan]) -> set[tuple[str, str]]:
    """The names in all plans, each with its kind."""
    nodes = (node for plan in plans for node in plan.regions.order)
    return {(seam, name) for node in nodes for _, seam, name in named_by(node)}
