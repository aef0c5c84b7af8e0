"""Serving pipelines until a signal: start, drain, stop.

A first SIGTERM or SIGINT shuts the door: nothing more is accepted, and runs have
`drain_s` to end. Then, or at a second signal, the rest is cancelled, and clients have
`farewell_s` to be told so. The whole takes no longer than both together, whatever
clients do.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import trio

from orchestra.engine.engine import open_engine
from orchestra.server.app import create_app
from orchestra.server.front import OPEN
from orchestra.server.hardening import mend_hypercorn
from orchestra.server.listen import Door, bind
from orchestra.server.settings import Settings

if TYPE_CHECKING:
    from orchestra.engine.engine import Engine
    from orchestra.graph.pipelines import Pipeline
    from orchestra.graph.policy import Limits
    from orchestra.protocols import Bindings
    from orchestra.server.front import Admission

STOPPED = "the server was stopped"


async def serve(
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
    """Serve pipelines, each under its key, until SIGTERM or SIGINT; then drain and return.

    Only this machine can reach it unless `host` says otherwise; port 0 takes a free one. `admit`
    says who is let in, and how much of what; without it everybody is.
    `on_ready` is called with the server's URL once it accepts, and so is
    `task_status.started`. To be called in the main thread, where signals arrive.
    Cancelling it cuts every connection and cancels every run at once.

    Raises:
        ServeError: the address cannot be listened on, or a pipeline not be served.
        CheckError: a pipeline has problems.
    """
    settings = settings or Settings()
    mend_hypercorn()
    with bind(host, port, settings) as listener:
        async with open_engine(bindings, limits=limits) as engine:
            admission = OPEN if admit is None else await admit()
            app = create_app(engine, pipelines, settings, admission)
            door = Door(app.asgi_app, settings)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(door.serve, listener)
                with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                    url = _url(listener)
                    task_status.started(url)
                    if on_ready is not None:
                        on_ready(url)
                    await anext(signals)
                    await _drain(engine, door, signals, settings)


async def _drain(
    engine: Engine, door: Door, signals: AsyncIterator[int], settings: Settings
) -> None:
    """Let runs end for a while, then end them."""
    door.shut()
    with trio.move_on_after(settings.drain_s):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_hurry, signals, nursery.cancel_scope)
            await engine.wait_idle()
            nursery.cancel_scope.cancel()
    engine.cancel_all(STOPPED)
    door.close_by(trio.current_time() + settings.farewell_s)


async def _hurry(signals: AsyncIterator[int], waiting: trio.CancelScope) -> None:
    """A second signal ends the wait."""
    await anext(signals)
    waiting.cancel()


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
