"""The served version of an application, and its replacement without a pause.

A *generation* is an engine with its bindings and its application. The current generation gets all
new requests; older generations finish their requests and runs.

Rules of the file: a request and its run stay in one generation. A new version is checked before it
becomes the current generation; if a check fails, nothing changes. A replaced generation ends when
it is empty, or after `retire_s`, or at once if `KEPT_MAX` newer ones were also replaced. While the
state is unreachable, it waits until what it has to write is written, again for `retire_s`. However
it ends, `Loaded.close` is called after its last run.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from math import inf
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
from orchestra.server.health import Readiness, gauges_of
from orchestra.server.runs.registries import open_runs
from orchestra.server.settings import USUAL_SETTINGS, Settings
from orchestra.stores.state.memory import MemoryState

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
    from orchestra.observe.counting import Counting
    from orchestra.observe.otel import Tracing
    from orchestra.protocols import Bindings, State
    from orchestra.runs.registry import Registry
    from orchestra.server.processes.worker_place import WorkerPlace

log = logging.getLogger("orchestra.server")

REPLACED = "its version of the server was replaced, and its time is over"
KEPT_MAX = 4
"""The most replaced generations that may finish their runs; older ones are ended at once."""


class Loaded(msgspec.Struct, frozen=True):
    """A version to serve: pipelines by name, and their bindings.

    `admit` returns the settings of access; without it, every caller is allowed. `state` is shared
    with other processes, all of which then know the runs. At the end, when nothing uses this
    version any more, `close` is called, once. `by_json` are the pipelines whose inputs can be sent
    as JSON, if they are computed already.
    """

    pipelines: Mapping[str, Pipeline[..., Any]]
    bindings: Bindings | None = None
    settings: Settings = USUAL_SETTINGS
    admit: Callable[[], Awaitable[Admission]] | None = None
    close: Callable[[], None] = lambda: None
    state: State | None = None
    by_json: Mapping[str, Pipeline[..., Any]] | None = None


Load: TypeAlias = Callable[[], AbstractContextManager[Loaded]]
"""Loads a version to serve, as a context manager. If its block ends without an exception, the
version is served; after an exception it is not, and changes such as imports are undone."""


class House(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks and settings of a server that stay the same when it loads another version.

    `reloads` says whether SIGHUP reloads. `watched` returns files whose changes reload, too; it is
    called again and again. `on_retired` is called when a replaced version is gone, and `on_stop`
    with the seconds that stopping may take. The functions in `flush` are called at the very end,
    concurrently. `place` is set in a worker under a supervisor. `counting` counts for `/metrics`,
    and `tracing` traces runs.
    """

    reloads: bool = True
    watched: Callable[[], Collection[Path]] | None = None
    on_retired: Callable[[], object] = lambda: None
    on_stop: Callable[[float], object] = lambda _: None
    flush: Collection[Callable[[], Awaitable[object]]] = ()
    place: WorkerPlace | None = None
    counting: Counting | None = None
    tracing: Tracing | None = None


class Generation(msgspec.Struct, eq=False):
    """One engine and its application, and the number of their requests.

    When `closing` is set, each WebSocket is closed after its last run.
    """

    engine: Engine
    app: ASGIFramework
    settings: Settings
    registry: Registry
    closing: trio.Event
    _requests: int = 0
    _emptied: trio.lowlevel.ParkingLot = msgspec.field(default_factory=trio.lowlevel.ParkingLot)
    _retired: trio.Event = msgspec.field(default_factory=trio.Event)
    _patience: trio.CancelScope = msgspec.field(default_factory=trio.CancelScope)

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Serve one request, which is counted until its end."""
        self._requests += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._requests -= 1
            if not self._requests:
                self._emptied.unpark_all()

    def retire(self, deadline: float) -> None:
        """Let the generation end when it is empty, or at the deadline at the latest.

        A further call may only bring the deadline forward. From now on, newer generations know the
        runs of this one.
        """
        self.registry.share()
        self.closing.set()
        self._retired.set()
        self._patience.deadline = min(self._patience.deadline, deadline)

    async def wait_empty(self) -> None:
        """Wait until the generation has no request and no run."""
        while self._requests or self.engine.runs:
            if self._requests:
                await self._emptied.park()
            else:
                await self.engine.wait_idle()

    async def wait_over(self) -> None:
        """Wait for `retire`, then until it is empty or its time is over; then cancel its runs."""
        await self._retired.wait()
        with self._patience:
            await self.wait_empty()
        self.engine.cancel_all(REPLACED)
        with trio.move_on_after(self.settings.farewell_s):
            await self.wait_empty()


class Serving:
    """An ASGI application whose inner application can be replaced.

    Generations live in `nursery`; `begin` starts the first.
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
        """Serve one request in the generation that is the current one when it arrives."""
        return self._generations[-1](scope, receive, send)

    async def begin(self) -> None:
        """Load and check a version, and make it the current generation; retire the one before.

        Raises:
            OrchestraError: the version cannot be served; the current generation stays.
        """
        with self.load() as loaded:
            generation: Generation = await self.nursery.start(self._live, loaded)
        self._generations.append(generation)
        now, before = trio.current_time(), self._generations[-2::-1]
        for age, each in enumerate(before):
            each.retire(now + self.settings.retire_s if age < KEPT_MAX else now)

    @property
    def settings(self) -> Settings:
        """The settings of the current generation."""
        return self._generations[-1].settings

    @property
    def running(self) -> int:
        """The number of runs in flight, in all generations."""
        return sum(len(each.engine.runs) for each in self._generations)

    async def reload(self) -> None:
        """Load another version with `begin`, unless the server is stopping.

        Errors are logged and counted.
        """
        if not await contained(self._reload, log, "not reloaded; what was served before stays"):
            self._count_refused()

    def is_loading(self) -> bool:
        """Whether a reload goes on."""
        return self._turn.locked()

    async def _reload(self) -> None:
        async with self._turn:
            if self.readiness.stopping:
                return
            if self._house.place is not None:
                self._house.place.beat(loading=True)  # imports may stop the event loop for long
            before = self.settings
            try:
                await self.begin()
            except OrchestraError as error:
                log.error("not reloaded; what was served before stays:\n%s", error)  # noqa: TRY400
                self._count_refused()
                return
        stays = before.kept_until_restart(self.settings)
        kept = f"until a restart these stay as they were: {', '.join(stays)}"
        log.info("reloaded; %s", kept if stays else "new requests use the new version")

    def _count_refused(self) -> None:
        if self._house.counting is not None:
            self._house.counting.metrics.tally.count(names.RELOADS_REFUSED, ())

    async def wait_idle(self) -> None:
        """Wait until no generation has a run in flight."""
        while busy := [each for each in self._generations if each.engine.runs]:
            await busy[0].engine.wait_idle()

    def close_sockets(self) -> None:
        """Start no more runs over WebSockets, and close each WebSocket after its last run."""
        for each in self._generations:
            each.closing.set()

    def cancel_all(self, reason: str) -> None:
        """Cancel every run in flight, in all generations."""
        for each in self._generations:
            each.engine.cancel_all(reason)

    async def _live(self, loaded: Loaded, *, task_status: trio.TaskStatus[Generation]) -> None:
        """Run one generation until its end, and close it; it has started when it can be served."""
        deployed = loaded.bindings if isinstance(loaded.bindings, DeploymentBindings) else None
        house = self._house
        counting = house.counting if loaded.settings.metrics else None
        watcher = together(
            None if counting is None else counting.metrics,
            None if house.tracing is None else house.tracing.traces,
        )
        try:
            async with (
                self._registry(loaded) as registry,
                open_engine(
                    loaded.bindings, limits=loaded.settings.limits, observe=watcher
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
                with trio.move_on_after(settings.retire_s):
                    await _deliver(deployed, registry)
        finally:
            await _end(loaded)  # noqa: ASYNC102 - it does not wait
        # these may be the last references, and `on_retired` collects garbage
        del engine, admission, app, generation, loaded, registry, pipelines, deployed
        house.on_retired()

    def _measure(self, tally: Tally) -> None:
        """Set the gauges of all generations; those of breakers, of the current one only."""
        found = Tally()
        found.set(names.RUNS_RUNNING, (), self.running)
        for each in self._generations:
            found.gauges.pop(names.BREAKERS.name, None)
            found.add(gauges_of(each.engine.shared.bindings))
        tally.gauges = found.gauges

    def _registry(self, loaded: Loaded) -> AbstractAsyncContextManager[Registry]:
        """Open the registry of a generation's runs; without a state, all share one in memory."""
        state, settings = loaded.state or self._memory, loaded.settings
        if state is None:
            state = self._memory = MemoryState(limit_bytes=settings.runs.kept_total_bytes)
        shared = loaded.state is not None or bool(self._generations)
        counting = self._house.counting if settings.metrics else None
        metrics = None if counting is None else counting.metrics
        return open_runs(state, settings, shared=shared, metrics=metrics)


async def _deliver(deployed: DeploymentBindings | None, registry: Registry) -> None:
    """Wait until the state has what a replaced version has to write: the server goes on anyway."""
    if deployed is not None:
        await deployed.flush(inf)
    await registry.wait_written()


async def _end(loaded: Loaded) -> None:
    """Close a version, also after an error or a cancellation; errors are only logged."""

    async def end() -> None:
        loaded.close()

    await contained(end, log, "a replaced version of the server was not closed cleanly")


def _plan_all(
    engine: Engine, pipelines: Iterable[Pipeline[..., Any]], *, tolerant: bool
) -> list[Plan]:
    """Check and plan all pipelines; in a worker thread, since listing stores may query a database.

    If `tolerant`, the server starts even if that database cannot be reached, as it does without
    Redis. It is then queried only once: the names of stores are not checked, and runs that need
    them fail.
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
    """The names in all plans, as pairs of seam and name, such as `("model", "fast")`."""
    nodes = (node for plan in plans for node in plan.nodes)
    return {(seam, name) for node in nodes for _, seam, name in named_by(node)}
