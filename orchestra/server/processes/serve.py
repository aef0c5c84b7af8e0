"""Serving pipelines until a signal: start, reload, drain, stop.

A first SIGTERM or SIGINT makes `/readyz` say 503, for `shutdown_delay_s`. Then no connection is
accepted any more, and runs have `drain_s` to end. Then, or when hurried, the rest is cancelled, and
clients have `farewell_s` to be told so; last, what is to be written down is, within `flush_s`. The
whole takes no longer than all four together, whatever clients do.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from orchestra.errors import OrchestraError
from orchestra.groups import contained
from orchestra.observe.counting import counting
from orchestra.observe.tracing import tracing
from orchestra.server.connections.hardening import mend_hypercorn
from orchestra.server.connections.listen import HttpServer
from orchestra.server.connections.sockets import bind, url_of
from orchestra.server.processes.blocking_steps import BlockingStepDetector
from orchestra.server.processes.nurseries import mend_trio
from orchestra.server.processes.serving import House, Load, Loaded, Serving
from orchestra.server.processes.signals import HANGUP, Acts, Shutdown, receiving
from orchestra.server.settings import Settings

if TYPE_CHECKING:
    from orchestra.graph.pipelines import Pipeline
    from orchestra.graph.rules.policy import Limits
    from orchestra.protocols import Bindings
    from orchestra.server.front.layers import Admission
    from orchestra.server.processes.worker_place import WorkerPlace

log = logging.getLogger("orchestra.server")

STOPPED = "the server was stopped"


async def serve(  # noqa: ASYNC128 - what it calls at last tells it
    pipelines: Mapping[str, Pipeline[..., Any]],
    bindings: Bindings | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    settings: Settings | None = None,
    limits: Limits | None = None,
    admit: Callable[[], Awaitable[Admission]] | None = None,
    on_ready: Callable[[str], None] | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve pipelines, each under its name, until SIGTERM or SIGINT; then drain and return.

    Only this machine can reach it unless `host` says otherwise; port 0 takes a free one. `admit`
    says who is let in, and how much of what; without it everybody is.
    `on_ready` is called with the server's URL once it accepts, and so is
    `task_status.started`. To be called in the main thread, where signals arrive.
    Cancelling it cuts every connection and cancels every run at once.

    Raises:
        ServeError: the address cannot be listened on, a pipeline not be served, or runs not be
            traced as the environment asks for it.
        CheckError: a pipeline has problems.
    """
    loaded, traces = Loaded(pipelines, bindings, settings or Settings(), admit), tracing()
    await serve_loaded(
        lambda: nullcontext(loaded),
        partial(bind, host, port),
        House(
            limits=limits,
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
    """As `serve`, of what is loaded; SIGHUP loads anew.

    `listen` gives the listening socket, unless the house's place does; it is closed at the end.

    Raises:
        OrchestraError: what is loaded first cannot be served, or the address not listened on.
    """
    mend_hypercorn()
    mend_trio()
    refused: OrchestraError | None = None
    async with trio.open_nursery() as nursery:
        serving = Serving(load, nursery, house)
        try:
            await serving.begin()
            listener = house.place.listener if house.place else listen(serving.settings)
        except OrchestraError as error:
            refused = error  # raised below, with no group around it
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
    """Let clients in until it is asked to stop, and then out."""
    server = HttpServer(serving, serving.settings)
    shutdown = Shutdown(patient=house.place is not None)
    acts: Acts = {HANGUP: serving.reload} if house.reloads else {}
    with receiving(*acts, ignore_after=shutdown.patient) as signals:
        async with trio.open_nursery() as besides:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.serve, listener)
                besides.start_soon(shutdown.hear, signals, acts)
                _start_others(besides, serving, house, shutdown)
                url = url_of(listener)
                task_status.started(url)
                if on_ready is not None:
                    on_ready(url)
                await shutdown.stop.wait()
                house.on_stop(serving.settings.stop_s)
                await _drain(serving, server, shutdown, serving.settings)
            await _flush(serving, house)
            besides.cancel_scope.cancel()


def _start_others(
    nursery: trio.Nursery, serving: Serving, house: House, shutdown: Shutdown
) -> None:
    """Start the other tasks: the detector of blocking steps, and those of some servers only."""
    nursery.start_soon(BlockingStepDetector().watch)
    if house.watched is not None:
        from orchestra.server.processes.watching import stamps, watch

        known = stamps(house.watched())  # now, and not when somebody may have edited them already
        nursery.start_soon(watch, house.watched, serving.reload, known)
    if house.counting is not None:
        nursery.start_soon(house.counting.serve)
    if house.place is not None:
        nursery.start_soon(_follow, house.place, shutdown)
        house.place.tell_ready()


async def _follow(place: WorkerPlace, shutdown: Shutdown) -> None:
    """A worker whose supervisor has died stops, too: nobody else would stop it."""
    await place.wait_alone()
    if not shutdown.stop.is_set():
        log.warning("the supervisor has gone, and this worker stops")
        shutdown.stop.set()


async def _drain(
    serving: Serving, server: HttpServer, shutdown: Shutdown, settings: Settings
) -> None:
    """Let runs end for a while, then end them."""
    serving.readiness.stopping = True
    if runs := serving.running:
        patience_s = settings.shutdown_delay_s + settings.drain_s
        message = "stopping: runs in flight: %d, with %g s to end; a second signal ends them now"
        log.info(message, runs, patience_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_hurry, shutdown, nursery.cancel_scope)
        await trio.sleep(settings.shutdown_delay_s)
        server.shut()
        serving.close_sockets()
        with trio.move_on_after(settings.drain_s):
            await serving.wait_idle()
        nursery.cancel_scope.cancel()
    server.shut()
    if runs := serving.running:
        log.warning("runs that had not ended, and are cancelled: %d", runs)
    serving.cancel_all(STOPPED)
    server.close_by(trio.current_time() + settings.farewell_s)


async def _hurry(shutdown: Shutdown, waiting: trio.CancelScope) -> None:
    """End a wait that somebody has no patience for."""
    await shutdown.hurry.wait()
    waiting.cancel()


async def _flush(serving: Serving, house: House) -> None:
    """Write down what is still to be written; what fails or takes too long is in the log."""
    if not house.flush:
        return
    time_s = serving.settings.flush_s
    with trio.move_on_after(time_s / 2):  # runs that were cancelled have an end to be written, too
        await serving.wait_idle()
    with trio.move_on_after(time_s / 2) as time:
        async with trio.open_nursery() as nursery:
            for each in house.flush:
                nursery.start_soon(contained, each, log, "some records were not written")
    if time.cancelled_caught:
        log.error("not all records were written within %g s", time_s)
