"""How far something is, as a bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from orchestra.cli import terminal

Show: TypeAlias = Callable[[int, int, str], object]
"""Called with how many are done, of how many, and with a word to that."""


@contextmanager
def bar_shown(*, remaining: bool = False) -> Iterator[Show | None]:
    """What to call to move a bar; None where there is no terminal that shows one.

    With `remaining` it tells the time that is left, too. It is gone when the context is left.
    """
    if not terminal.colourful(sys.stderr):
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = [BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False)]
    columns += [TimeRemainingColumn(compact=True)] if remaining else []
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, said: bar.update(
            task, completed=done, total=total, description=terminal.visible(said)
        )
