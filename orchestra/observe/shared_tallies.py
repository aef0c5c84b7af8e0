"""The counts of all processes of one server: each writes its own file, and reads all files.

A process continues with the counts of the last process of the same number, whose file it
replaces. It writes its own counts before it reads the others', so that no total ever falls.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import msgspec

from orchestra.observe.names import RUNS_LOST, RUNS_RUNNING
from orchestra.observe.tally import Tally

Written: TypeAlias = tuple[int, Tally]
"""The id of a process, and its counts."""
SUFFIX = ".tally"


class SharedTallies:
    """The files of counts in a folder, for process `number`. It reads and writes files."""

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder
        self._own = folder / f"{number}{SUFFIX}"
        self._written = b""

    def has(self, tally: bytes) -> bool:
        """Whether the file has these counts; it may be gone, as systems clean temporary folders."""
        return tally == self._written and self._own.exists()

    def inherited(self) -> Tally:
        """The counts of the last process of this number; empty if there was none.

        Runs that were in progress when that process was killed are counted as lost.
        """
        tally = Tally()
        if self._own.exists():
            before = _read(self._own)[1]
            tally.add(before, gauges=False)
            if lost := before.gauges.get(RUNS_RUNNING.name, {}).get((), 0):
                tally.count(RUNS_LOST, (), lost)
        return tally

    def write(self, tally: bytes) -> None:
        """Replace the file of this process with these encoded counts, as a whole or not at all.

        Raises:
            OSError: the folder does not exist any more, or is full.
        """
        if self.has(tally):
            return
        new = self._own.with_suffix(".new")
        new.write_bytes(_ENCODER.encode((os.getpid(), msgspec.Raw(tally))))
        new.replace(self._own)
        self._written = tally

    def total(self, tally: bytes) -> Tally:
        """Write these counts, and add up all files; gauges only of processes that still run.

        Raises:
            OSError: as for `write`.
        """
        self.write(tally)
        found = Tally()
        for file in sorted(self._folder.glob(f"*{SUFFIX}")):
            pid, counted = _read(file)
            found.add(counted, gauges=_lives(pid))
        return found


def _read(file: Path) -> Written:
    written: Written = _DECODER.decode(file.read_bytes())
    return written


def _lives(pid: int) -> bool:
    with suppress(ProcessLookupError, PermissionError):  # the id may be another user's by now
        os.kill(pid, 0)
        return True
    return False


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Written)
