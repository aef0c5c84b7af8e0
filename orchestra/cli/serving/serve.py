"""`orchestra serve`: pipelines behind HTTP, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import faulthandler
import gc
import os
import resource
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from orchestra.cli import terminal
from orchestra.cli.loading import extra
from orchestra.cli.parameters import (
    Config,
    Data,
    Delay,
    Flag,
    Host,
    Inherited,
    Port,
    Seconds,
    Workers,
)
from orchestra.cli.serving.log import Log, LogFormat, LogLevel
from orchestra.cli.serving.reloading import Loader
from orchestra.cli.serving.watchdog import Watchdog
from orchestra.errors import BindingError

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from orchestra.server.processes.worker_place import WorkerPlace
    from orchestra.server.settings import Settings

YOUNG_OBJECTS = 50_000
"""Allocations between two runs of the garbage collector while serving: some 1,000 events."""
DESCRIPTORS = 65_536
"""Enough for the default `connections_max` and as many connections to providers, several times."""


def serve(
    *targets: str,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Workers = 1,
    drain_s: Seconds | None = None,
    shutdown_delay_s: Delay | None = None,
    data: Data = None,
    config: Config = None,
    reload: Flag = False,
    debug: Flag = False,
    log_format: LogFormat = "text",
    log_level: LogLevel = "info",
    worker: Inherited = None,
) -> int:
    """Serve pipelines over HTTP; runs are streamed as Server-Sent Events.

    The first Ctrl-C lets runs end within the drain time, the second stops them. SIGHUP reloads
    pipelines and configuration; if anything is wrong, the log says what, and the old ones stay.

    Parameters
    ----------
    targets
        MODULE[:PIPELINE], ...; by default all pipelines in `pipelines/`.
    host
        The address to listen on; 0.0.0.0 is all interfaces.
    port
        The port to listen on; 0 takes a free one.
    workers
        How many processes serve; with two or more, a supervisor replaces those that die or hang.
    drain_s
        Seconds that runs may go on after a stop signal; by default what `[server]` says, else 20.
    shutdown_delay_s
        Seconds from the stop signal to the drain time, in which `/readyz` says 503 and clients are
        still accepted; by default what `[server]` says, else 0.
    reload
        For development: reload whenever a module of the pipelines or the configuration changes.
    debug
        Show clients the messages of all exceptions, and source lines.
    log_format
        The log on standard error: for people, or one JSON object for each entry.
    log_level
        The lowest level that is logged.
    """
    log = Log(log_format, log_level)
    given = _given_options(drain_s=drain_s, shutdown_delay_s=shutdown_delay_s, debug=debug or None)
    with log.failures():
        if workers > 1 and worker is None:
            from orchestra.cli.serving.workers import command, settings_of, supervised
            from orchestra.config.finding import find_file

            config = find_file(config, os.environ)  # a replaced worker must find the same file
            line = command(targets, host, given, data, config, log=log, reload=reload)
            return supervised(line, settings_of(config, given), host, port, workers, server_log=log)
        loader = Loader(targets, data, config, host, given, worker=_number(worker), watches=reload)
        _serve(loader, partial(_bind, host, port), worker, log, watches=reload)
    if worker is None:
        log.note("orchestra has stopped")
    terminal.forget_unwritable()
    return 0


def _number(worker: Inherited) -> int:
    return worker[0] if worker is not None else 0


def _given_options(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _serve(
    loader: Loader,
    listen: Callable[[Settings], socket],
    worker: Inherited,
    log: Log,
    *,
    watches: bool,
) -> None:
    """Serve, in this process."""
    import trio

    with extra("server"):
        from orchestra.observe.counting import counting
        from orchestra.observe.tracing import tracing
        from orchestra.server.processes.serve import serve_loaded
        from orchestra.server.processes.serving import House
    place = None
    if worker is not None:
        from orchestra.server.processes.worker_place import WorkerPlace

        place = WorkerPlace.take(*worker)
    log.begin(f"worker {place.number}" if place else "")
    raise_descriptor_limit()
    if not faulthandler.is_enabled():  # stacks at SIGABRT (see `supervisor`), and at a crash in C
        faulthandler.enable(terminal.descriptor_of(terminal.ERR))
    watched = loader.watched if watches else None
    counts, traces = counting(place.number if place else 0), tracing()
    flush = [counts.write] if counts is not None and place is not None else []
    flush += [traces.close] if traces is not None else []
    on_ready = partial(_print_served, loader, place, log)
    with Watchdog() as dog:
        house = House(
            watched=watched,
            on_retired=settle,
            on_stop=partial(_stopping, dog, place),
            place=place,
            counting=counts,
            tracing=traces,
            flush=flush,
        )
        trio.run(partial(serve_loaded, loader.load, listen, house, on_ready=on_ready))


def raise_descriptor_limit() -> None:
    """Raise the limit on open files to `DESCRIPTORS`, or as far as the hard limit allows.

    Nearly everywhere it is 1,024, for programs that use `select`, which knows no more: too few for
    `connections_max`, with the connections to providers.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # the kernel may have another limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _stopping(dog: Watchdog, place: WorkerPlace | None, within_s: float) -> None:
    """Bound the time that stopping takes, and notify systemd unless a supervisor does."""
    from orchestra.server.processes.notify import STOPPING, notify

    dog.start(within_s)
    if place is None:
        notify(STOPPING)


def _as_a_model(name: str, url: str) -> str:
    """The text about the URL of a pipeline that takes a whole conversation."""
    return f"model {name!r} of {url}/v1/chat/completions"


def _bind(host: str, port: int, settings: Settings) -> socket:
    from orchestra.server.connections.sockets import bind

    return bind(host, port, settings)


def settle() -> None:
    """Collect garbage once, then exempt all present objects from later collections.

    Caches keyed by classes are cleared first: they would keep replaced modules alive.
    """
    from orchestra.annotations.custom_types import forget_annotations
    from orchestra.server.responses.fit_values import forget_classes

    forget_annotations()
    forget_classes()
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _print_served(loader: Loader, place: WorkerPlace | None, log: Log, url: str) -> None:
    """Print what is served. Of several workers only the first does, at the first start."""
    from orchestra.observe.counting import check_installed
    from orchestra.server.processes.notify import READY, notify

    gc.freeze()  # objects of the start stay, so the garbage collector can skip them
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
    if place is not None and (place.number > 1 or place.replaces):
        return
    for name in loader.pipelines:
        there = f"{url}/v1/pipelines/{quote(name, safe='')}/runs"
        log.note(f"  {name}: {there if name in loader.by_json else _as_a_model(name, url)}")
    if not loader.pipelines:
        log.note("  no pipelines: models only, through OpenAI's API")
    log.note(f"  API documentation: {url}/docs")
    if loader.metrics:
        try:
            check_installed()
        except BindingError as error:
            log.note(f"  {error}")
    if loader.keyless:
        log.note("  no key is required, so only this machine is served")
    if loader.locked:
        log.note(f"  a key is required, and there is none yet: {loader.make_a_key()}")
    if where := loader.state_place():
        log.note(f"  limits, budgets, cache and runs are shared in {where}")
    if place is None:
        log.say(f"orchestra is listening on {url}")
        notify(READY)
