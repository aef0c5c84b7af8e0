"""Counting as long as a server lives: in one process, or together with the others of its server."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import trio

from orchestra.errors import BindingError
from orchestra.observe.board import Board
from orchestra.observe.metrics import Metrics
from orchestra.observe.names import WORKER_ENDS
from orchestra.observe.tally import Tally, decode

log = logging.getLogger("orchestra.observe")

T = TypeVar("T")

FOLDER_ENV = "ORCHESTRA_METRICS_FOLDER"
"""Where the workers of one server find their board: set by their supervisor."""
SUPERVISOR = 0
"""The number of its place; those of workers begin with one."""
WRITE_S = 2.0
"""How often a process writes down what it has counted: a killed one loses so much at the most."""


def _nothing(tally: Tally) -> None:
    del tally


class Counting:
    """What one process has counted; with a board, together with what others have.

    `measure` is asked to say how gauges are, whenever somebody wants to know.
    """

    def __init__(self, metrics: Metrics, board: Board | None = None) -> None:
        self.metrics = metrics
        self.measure: Callable[[Tally], None] = _nothing
        self._board = board
        self._turn = trio.Lock()
        self._unwritten = False
        if board is not None:
            metrics.tally.add(board.inherited())

    async def total(self) -> Tally:
        """What all processes have counted by now; a copy.

        Raises:
            OSError: the board's folder has gone, or is full.
        """
        return await self._in_thread(decode if self._board is None else self._board.total)

    async def serve(self) -> None:
        """Write down what is counted, now and then, until cancelled."""
        if self._board is None:
            return
        while True:
            await trio.sleep(WRITE_S)
            await self.write()

    async def write(self) -> None:
        """Write down what is counted, where others are to read it; what hinders it is logged.

        A folder that is full or gone stays so for hours: that is told once, and once when it ends.
        """
        if self._board is None:
            return
        try:
            await self._in_thread(self._board.write)
        except OSError as error:
            if not self._unwritten:
                log.warning("what this process counts is not written down: %s", error)
            self._unwritten = True
        except Exception:  # a process that serves does not end for what it counts
            log.exception("what this process counts is not written down")
        else:
            if self._unwritten:
                log.warning("what this process counts is written down again")
            self._unwritten = False

    async def _in_thread(self, act: Callable[[bytes], T]) -> T:
        """Do something with what is counted by now; one after the other, so that it never falls."""
        tally = self.metrics.tally
        async with self._turn:
            tally.gauges.clear()
            self.measure(tally)
            return await trio.to_thread.run_sync(act, tally.encode())


class Ends:
    """How many workers have ended, and how: what their supervisor counts. It writes a file."""

    def __init__(self, folder: Path) -> None:
        self._board = Board(folder, SUPERVISOR)
        self._tally = Tally()

    def ended(self, how: str) -> None:
        """Count one."""
        self._tally.count(WORKER_ENDS, (how,))
        try:
            self._board.write(self._tally.encode())
        except OSError as error:
            log.warning("that worker is not counted: %s", error)


def check_installed() -> None:
    """Find out that what is counted can be written down for others.

    Raises:
        BindingError: prometheus-client, which does that, is not installed.
    """
    if find_spec("prometheus_client") is None:
        raise BindingError(
            "/metrics needs prometheus-client, which is not installed: "
            "pip install 'orchestra[metrics]'"
        )


def counting(number: int = 0, environ: Mapping[str, str] = os.environ) -> Counting | None:
    """That of a process, which is worker `number` of its server; None where nobody could read it.

    That is where prometheus-client, which writes metrics down for others, is not installed.
    """
    if find_spec("prometheus_client") is None:
        return None
    folder = environ.get(FOLDER_ENV)
    board = Board(Path(folder), number) if folder else None
    return Counting(Metrics(environ), board)
