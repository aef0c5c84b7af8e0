"""Where the processes of one server write down what they have counted, and read the others' counts.

Each has a place, by its number, and writes over what was there: a process that takes a place over
goes on counting from what its predecessor wrote last. What a process is told of the whole never
falls: it writes its own counts before it reads.
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
"""The process that has counted, and what."""
SUFFIX = ".tally"


class Board:
    """The place of process `number` in a folder that all share. It reads and writes files."""

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder
        self._own = folder / f"{number}{SUFFIX}"
        self._written = b""

    def inherited(self) -> Tally:
        """What the last process of this number had counted; nothing, if there was none.

        Runs that went on when it was killed are lost; one that was stopped has ended all of them.
        """
        tally = Tally()
        if self._own.exists():
            before = _read(self._own)[1]
            tally.add(before, gauges=False)
            if lost := before.gauges.get(RUNS_RUNNING.name, {}).get((), 0):
                tally.count(RUNS_LOST, (), lost)
        return tally

    def write(self, tally: bytes) -> None:
        """Put what this process has counted, encoded, in its place, at once or not at all.

        Raises:
            OSError: the folder has gone, or is full.
        """
        data = _ENCODER.encode((os.getpid(), msgspec.Raw(tally)))
        if data == self._written:
            return
        new = self._own.with_suffix(".new")
        new.write_bytes(data)
        new.replace(self._own)
        self._written = data

    def total(self, tally: bytes) -> Tally:
        """What all have counted, after `write`; what is so now only of those that live.

        Raises:
            OSError: as of `write`.
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
    with suppress(ProcessLookupError, PermissionError):  # the number may be somebody else's by now
        os.kill(pid, 0)
        return True
    return False


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Written)
