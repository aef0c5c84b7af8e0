"""Waiting, in tests, for what others do: for the thing itself, within a bound, and with words.

A test that waits without a bound hangs where something is wrong, and tells nobody what.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import IO, TypeVar

from hypothesis import settings

T = TypeVar("T")

PATIENCE_S = 10.0 if settings.get_current_profile_name() == "mutants" else 30.0
"""How long a test waits for what must happen: far more than it ever takes. A busy machine is slow.

A mutant that makes a test hang is to be noticed earlier.
"""
PAUSE_S = 0.01
"""Between two looks: without it, who looks would take the core from those who are waited for."""


def eventually(awaited: str, look: Callable[[], T], wanted: Callable[[T], bool] = bool) -> T:
    """What is seen, as soon as it is what is wanted.

    Raises:
        AssertionError: it was not within `PATIENCE_S`; it says what was awaited, and seen last.
    """
    until_s = time.monotonic() + PATIENCE_S
    while not wanted(seen := look()):
        if time.monotonic() > until_s:
            raise AssertionError(f"{awaited}: not within {PATIENCE_S:g} s; seen last: {seen!r}")
        time.sleep(PAUSE_S)
    return seen


def line_with(stream: IO[bytes], wanted: str, passed_by: list[str] | None = None) -> str:
    """The next line of a pipe that has this in it; those before it are put into `passed_by`.

    The pipe is not buffered (`bufsize=0`): what is in a buffer nobody could wait for.

    Raises:
        AssertionError: it has ended without, or has not said so within `PATIENCE_S`.
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
