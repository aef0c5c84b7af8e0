"""Serves pipelines until a signal: start, reload, drain, stop.

After the first SIGTERM or SIGINT, `/readyz` answers 503 for `shutdown_delay_s`. Then no more
connections are accepted, and runs have `drain_s` to end. After that, or at a second signal, all
other runs are cancelled, and within `farewell_s` their clients are told. Finally, records are
written within `flush_s`. Stopping takes at most the sum of these four, whatever clients do.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from orchestra.errors import OrchestraError
from orchestra.groups import contained
from orchestra.observe.counting import counting
from orchestra.observe.tracing import tracing
from orchestra.providers.connections.lookup import limit_lookups
from orchestra.server.connections.hardening import mend_hypercorn
from orchestra.server.connections.listen import HttpServer
from orchestra.server.connections.sockets import bind, url_of
from orchestra.server.processes.blocking_steps import BlockingStepDetector
from orchestra.server.processes.nurseries import mend_trio
from orchestra.server.processes.serving import House, Load, Loaded, Serving
from orchestra.server.processes.signals import HANGUP, Acts, Shutdown, receiving
from orchestra.server.settings import USUAL_SETTINGS, Settings

if TYPE_CHECKING:
    from orchestra.graph.pipelines import Pipeline
    from orchestra.protocols import Bindings
    from orchestra.server.processes.worker_place import WorkerPlace

log = logging.getLogger("orchestra.server")

STOPPED = "the server was stopped"


async def serve(  # noqa: ASYNC128 - `_serve` calls `task_status.started`
    pipelines: Mapping[str, Pipeline[..., Any]],
    bindings: Bindings | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    settings: Settings = USUAL_SETTINGS,
    on_ready: Callable[[str], None] | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve pipelines, each under its name, until SIGTERM or SIGINT; then drain and return.

    With the default `host`, only this machine can reach the server; port 0 takes a free port.
    Every caller may do everything. When the server accepts connections, `on_ready` and
    `task_status.started` are called with its URL. Call this in the main thread, where signals
    arrive. A cancellation cuts every connection and cancels every run at once.

    Raises:
        ServeError: the server cannot listen on the address, a pipeline cannot be served, or the
            environment asks for tracing that is unknown or not installed.
        CheckError: a pipeline has problems.
    """
    loaded, traces = Loaded(pipelines, bindings, settings), tracing()
    await serve_loaded(
        lambda: nullcontext(loaded),
        partial(bind, host, port),
        House(
            reloads=False,
            counting=counting(),
            tracing=traces,
            flush=[] if traces is None else [traces.close],
        ),
        on_ready=on_ready,
        task_status=task_status,
    )


async def serve_loaded(  # noqa: ASYNC128 - as of `serve`
    load: Load,
    listen: Callable[[Settings], socket.socket],
    house: House,
    *,
    on_ready: Callable[[str], None] | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """As `serve`, for a version that `load` loads; SIGHUP loads another one if `house.reloads`.

    The listening socket is that of `house.place` if there is one, else it is made by `listen`. It
    is closed at the end.

    Raises:
        OrchestraError: the first version cannot be served, or the server cannot listen.
    """
    mend_hypercorn()
    mend_trio()
    limit_lookups()  # also those of stores, whose names may fail when they reconnect
    refused: OrchestraError | None = None
    async with trio.open_nursery() as nursery:
        serving = Serving(load, nursery, house)
        try:
            await serving.begin()
            listener = house.place.listener if house.place else listen(serving.settings)
        except OrchestraError as error:
            refused = error  # raised below, so that it is not wrapped in an exception group
        else:
            with listener:
                await _serve(serving, listener, house, on_ready, task_status)
        nursery.cancel_scope.cancel()
    if refused is not None:
        raise refused


async def _serve(
    serving: Serving,
    listener: socket.socket,
    house: House,
    on_ready: Callable[[str], None] | None,
    task_status: trio.TaskStatus[str],
) -> None:
    """Serve clients until a signal asks to stop; then drain, flush and return."""
    server = HttpServer(serving, serving.settings)
    shutdown = Shutdown(patient=house.place is not None)
    acts: Acts = {HANGUP: serving.reload} if house.reloads else {}
    with receiving(*acts, ignore_after=shutdown.patient) as signals:
        async with trio.open_nursery() as background:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.serve, listener)
                background.start_soon(shutdown.hear, signals, acts)
                _start_others(background, serving, house, shutdown)
                url = url_of(listener)
                task_status.started(url)
                if on_ready is not None:
                    on_ready(url)
                await shutdown.stop.wait()
                house.on_stop(serving.settings.stop_s)
                await _drain(serving, server, shutdown, serving.settings)
            await _flush(serving, house)
            background.cancel_scope.cancel()


def _start_others(
    nursery: trio.Nursery, serving: Serving, house: House, shutdown: Shutdown
) -> None:
    """Start the background tasks: the detector of blocking steps, and those that `house` needs."""
    nursery.start_soon(BlockingStepDetector().watch)
    if house.watched is not None:
        from orchestra.server.processes.watching import stamps, watch

        known = stamps(house.watched())  # now: the files may be edited before the task runs
        nursery.start_soon(watch, house.watched, serving.reload, known)
    if house.counting is not None:
        nursery.start_soon(house.counting.serve)
    if house.place is not None:
        nursery.start_soon(_follow, house.place, shutdown)
        house.place.tell_ready()
        nursery.start_soon(house.place.keep_beating, serving.is_loading)


async def _follow(place: WorkerPlace, shutdown: Shutdown) -> None:
    """Stop this worker when its supervisor has died, since nothing else would stop it then."""
    await place.wait_alone()
    if not shutdown.stop.is_set():
        log.warning("the supervisor has gone, and this worker stops")
        shutdown.stop.set()


async def _drain(
    serving: Serving, server: HttpServer, shutdown: Shutdown, settings: Settings
) -> None:
    """Wait for runs to end, within their time; then cancel the others, and start the farewell."""
    serving.readiness.stopping = True
    await server.wind_down()
    if runs := serving.running:
        patience_s = settings.shutdown_delay_s + settings.drain_s
        message = "stopping: runs in flight: %d, with %g s to end; a second signal ends them now"
        log.info(message, runs, patience_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_hurry, shutdown, nursery.cancel_scope)
        await trio.sleep(settings.shutdown_delay_s)
        server.shut()
        serving.close_sockets()
        await server.wait_shut()
        with trio.move_on_after(settings.drain_s):
            await serving.wait_idle()
        nursery.cancel_scope.cancel()
    server.shut()
    if runs := serving.running:
        log.warning("runs that had not ended, and are cancelled: %d", runs)
    serving.cancel_all(STOPPED)
    server.close_by(trio.current_time() + settings.farewell_s)


async def _hurry(shutdown: Shutdown, waiting: trio.CancelScope) -> None:
    """Cancel the wait for runs when a second signal asks to hurry."""
    await shutdown.hurry.wait()
    waiting.cancel()


async def _flush(serving: Serving, house: House) -> None:
    """Write the last records, within `flush_s`; what fails or takes too long is logged."""
    if not house.flush:
        return
    time_s = serving.settings.flush_s
    with trio.move_on_after(time_s / 2):  # the ends of cancelled runs are to be written, too
        await serving.wait_idle()
    with trio.move_on_after(time_s / 2) as time:
        async with trio.open_nursery() as nursery:
            for each in house.flush:
                nursery.start_soon(contained, each, log, "some records were not written")
    if time.cancelled_caught:
        log.error("not all records were written within %g s", time_s)
