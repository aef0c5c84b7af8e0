"""`orchestra serve --workers N`: the supervisor, and the command line of its workers."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestra.cli import terminal
from orchestra.cli.loading import extra
from orchestra.cli.parameters import WORKER
from orchestra.cli.serving.counts_folder import counts_folder

if TYPE_CHECKING:
    from orchestra.cli.serving.log import Log
    from orchestra.server.settings import Settings

log = logging.getLogger("orchestra.server")


def command(
    targets: Sequence[str],
    host: str,
    given: Mapping[str, Any],
    data: Path | None,
    config: Path | None,
    *,
    log: Log,
    reload: bool,
) -> list[str]:
    """The command line of a worker, without its last numbers; `given` are settings."""
    words = [sys.executable, "-m", "orchestra", "serve", *targets, "--host", host]
    options = {**given, "data": data, "config": config, "reload": reload}
    options |= {"log_format": log.format, "log_level": log.level}
    for name, value in options.items():
        if value is not None and value is not False:
            words.append(f"--{name.replace('_', '-')}")
            words += [] if value is True else [str(value)]
    return [*words, WORKER]


def settings_of(config: Path | None, given: Mapping[str, Any]) -> Settings:
    """The settings of the configuration, overridden by those of the command line.

    Raises:
        ConfigError: the file has problems; the error lists all of them.
    """
    from orchestra.config import read_deployment
    from orchestra.config.finding import find_file

    with extra("server"):
        from orchestra.server.settings import Settings
    configured = read_deployment(config).server.settings if find_file(config, os.environ) else {}
    return Settings(**{**configured, **given})


def supervised(
    words: Sequence[str], settings: Settings, host: str, port: int, count: int, *, server_log: Log
) -> int:
    """Serve with `count` workers until a signal; returns the exit code.

    Raises:
        ServeError: the address cannot be listened on.
    """
    import trio

    from orchestra.observe.counting import FOLDER_ENV, WorkerEnds
    from orchestra.server.connections.sockets import bind, url_of
    from orchestra.server.processes.notify import STOPPING, notify
    from orchestra.server.processes.supervisor import Supervisor

    server_log.begin("supervisor")
    on_end: Callable[[str], object] = _uncounted
    listener = bind(host, port, settings)
    with ExitStack() as at_the_end:
        try:
            folder = at_the_end.enter_context(counts_folder())
        except OSError as error:
            log.warning("/metrics shows each worker separately: %s", error)
            os.environ.pop(FOLDER_ENV, None)  # inherited, if a server started this one
        else:
            os.environ[FOLDER_ENV] = str(folder)  # workers combine their metrics there
            on_end = WorkerEnds(folder).ended
        supervisor = Supervisor(
            command=words,
            listener=listener,
            count=count,
            stop_s=settings.stop_s,
            timeout_s=settings.worker_timeout_s,
            on_ready=partial(_ready, server_log, url_of(listener)),
            on_stop=partial(notify, STOPPING),
            on_end=on_end,
        )
        code: int = trio.run(supervisor.run)
    server_log.note("orchestra has stopped")
    terminal.forget_unwritable()
    return code


def _uncounted(how: str) -> None:
    del how  # without the folder, there is nothing to update


def _ready(server_log: Log, url: str) -> None:
    from orchestra.server.processes.notify import READY, notify

    server_log.say(f"orchestra is listening on {url}")
    notify(READY)
