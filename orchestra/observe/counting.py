"""The counts of a process, alone or added to those of the other processes of its server."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import trio

from orchestra.errors import BindingError
from orchestra.observe.metrics import Metrics
from orchestra.observe.names import WORKER_ENDS
from orchestra.observe.shared_tallies import SharedTallies
from orchestra.observe.tally import Tally, decode

log = logging.getLogger("orchestra.observe")

FOLDER_ENV = "ORCHESTRA_METRICS_FOLDER"
"""The folder in which the workers of one server share their counts; their supervisor sets it."""
SUPERVISOR = 0
"""The number of the supervisor; those of workers begin with one."""
WRITE_S = 0.25
"""How soon a process writes what it has counted; one that is killed loses at most the counts since.

To look for changes takes 0.06 ms, to write them 1 ms: less than 0.5 % of a core.
"""


class Counting:
    """The counts of this process; with `shared`, added to those of the other processes.

    `measure` sets the gauges; it is called whenever the counts are read.
    """

    def __init__(self, metrics: Metrics, shared: SharedTallies | None = None) -> None:
        self.metrics = metrics
        self.measure: Callable[[Tally], None] = lambda _: None
        self._shared = shared
        self._turn = trio.Lock()
        self._unwritten = False
        if shared is not None:
            metrics.tally.add(shared.inherited())

    async def total(self) -> Tally:
        """A copy of the counts of all processes.

        Raises:
            OSError: the shared folder is gone, or full.
        """
        act = decode if self._shared is None else self._shared.total
        async with self._turn:  # one at a time, so that totals never fall
            return await trio.to_thread.run_sync(act, self._encoded())

    async def serve(self) -> None:
        """Write the counts within `WRITE_S` of each change, until cancelled."""
        if self._shared is None:
            return
        while True:
            await trio.sleep(WRITE_S)
            await self.write()

    async def write(self) -> None:
        """Write changed counts for the other processes; an error is logged, and not raised.

        A folder that is full or gone is logged once, and once more when it can be written again.
        """
        if self._shared is None:
            return
        try:
            async with self._turn:
                encoded = self._encoded()
                if not self._shared.has(encoded):
                    await trio.to_thread.run_sync(self._shared.write, encoded)
        except OSError as error:
            if not self._unwritten:
                log.warning("the metrics of this process cannot be written: %s", error)
            self._unwritten = True
        except Exception:  # a process that serves does not end for what it counts
            if not self._unwritten:
                log.exception("the metrics of this process cannot be written")
            self._unwritten = True
        else:
            if self._unwritten:
                log.warning("the metrics of this process are written again")
            self._unwritten = False

    def _encoded(self) -> bytes:
        tally = self.metrics.tally
        tally.gauges.clear()
        self.measure(tally)
        return tally.encode()


class WorkerEnds:
    """How many workers have ended, and how, as their supervisor counts them. It writes a file."""

    def __init__(self, folder: Path) -> None:
        self._shared = SharedTallies(folder, SUPERVISOR)
        self._tally = Tally()

    def ended(self, how: str) -> None:
        """Count one."""
        self._tally.count(WORKER_ENDS, (how,))
        try:
            self._shared.write(self._tally.encode())
        except OSError as error:
            log.warning("the end of a worker cannot be counted: %s", error)


def check_installed() -> None:
    """Check that metrics can be served.

    Raises:
        BindingError: prometheus-client, which formats them, is not installed.
    """
    if find_spec("prometheus_client") is None:
        raise BindingError(
            "/metrics needs prometheus-client, which is not installed: "
            "pip install 'orchestra[metrics]'"
        )


def counting(number: int = 0, environ: Mapping[str, str] = os.environ) -> Counting | None:
    """The counts of worker `number`; None where prometheus-client is not installed.

    Without it, nobody could read them. A server of one process, which is no worker (0), counts
    alone: it has inherited a folder only if a worker's step has started it.
    """
    if find_spec("prometheus_client") is None:
        return None
    folder = environ.get(FOLDER_ENV) if number else None
    shared = SharedTallies(Path(folder), number) if folder else None
    return Counting(Metrics(environ), shared)
