"""Bounded waits of tests for another process or thread.

A test that waited without a bound would hang if something is wrong, without a word about what.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import IO, TypeVar

from hypothesis import settings

T = TypeVar("T")

PATIENCE_S = 10.0 if settings.get_current_profile_name() == "mutants" else 30.0
"""How long a test waits at most: far longer than anything takes, even on a busy machine.

It is shorter for mutants, some of which make a test wait in vain.
"""
PAUSE_S = 0.01
"""The pause between two looks, which leaves the processor to the process that is waited for."""


def eventually(awaited: str, look: Callable[[], T], wanted: Callable[[T], bool] = bool) -> T:
    """Call `look` until its result is `wanted`, and return that result.

    Raises:
        AssertionError: `PATIENCE_S` passed; the message has `awaited` and the last result.
    """
    until_s = time.monotonic() + PATIENCE_S
    while not wanted(seen := look()):
        if time.monotonic() > until_s:
            raise AssertionError(f"{awaited}: not within {PATIENCE_S:g} s; seen last: {seen!r}")
        time.sleep(PAUSE_S)
    return seen


def line_with(stream: IO[bytes], wanted: str, passed_by: list[str] | None = None) -> str:
    """The next line of a pipe that contains `wanted`; it and those before it go into `passed_by`.

    The pipe must not be buffered (`bufsize=0`): `select` does not see lines in a buffer.

    Raises:
        AssertionError: the pipe ended, or `PATIENCE_S` passed, without such a line.
    """
    before = [] if passed_by is None else passed_by
    until_s = time.monotonic() + PATIENCE_S
    while True:
        left_s = until_s - time.monotonic()
        in_time = left_s > 0 and select.select([stream], [], [], left_s)[0]
        line = stream.readline().decode() if in_time else ""
        if not line:
            why = "it ended" if in_time else f"{PATIENCE_S:g} s passed"
            raise AssertionError(f"{why}, and {wanted!r} was not said; it said {before!r}")
        before.append(line)
        if wanted in line:
            return line
