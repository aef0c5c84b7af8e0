"""`orchestra ingest`: a folder of texts into a store."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from orchestra.cli import terminal
from orchestra.cli.parameters import Config, Data

if TYPE_CHECKING:
    from orchestra.config import LocalBindings
    from orchestra.steps.ingest import IngestReport, Progress


def ingest(folder: Path, /, *, store: str, data: Data = None, config: Config = None) -> int:
    """Read the Markdown and text files in a folder into a store.

    Doing it again does only what has changed: new files are added, changed ones
    replaced, and those that are gone removed.

    Parameters
    ----------
    folder
        What to read, with the folders in it.
    store
        The store's name, as pipelines call it.
    """
    import trio

    from orchestra.cli.stopping import until_signal

    trio.run(until_signal, partial(_ingest, folder, store, data, config))
    return 0


async def _ingest(folder: Path, store: str, data: Path | None, config: Path | None) -> None:
    from orchestra.config import default_bindings

    with default_bindings(data, config=config) as bindings:
        report = await ingest_shown(folder, store, bindings)
    for skipped in report.skipped:
        terminal.say(f"skipped {skipped.source}: {skipped.reason}")
    terminal.say(f"{report.folder} -> {store}: {summary(report)}")


async def ingest_shown(folder: Path, store: str, bindings: LocalBindings) -> IngestReport:
    """Ingest a folder, showing progress; what it did."""
    from orchestra.steps.ingest import ingest as ingest_into

    with _progress_shown() as progress:
        return await ingest_into(
            folder,
            bindings.stores.collection(store),
            bindings.embedder("default"),
            progress=progress,
        )


def summary(report: IngestReport) -> str:
    """The counts of an ingestion, in a line."""
    counts = ("added", "changed", "unchanged", "removed", "skipped")
    files = [f"{count} {name}" for name in counts if (count := len(getattr(report, name)))]
    return f"{', '.join(files) or 'no files'}; {report.passages} passages written"


@contextmanager
def _progress_shown() -> Iterator[Callable[[Progress], object]]:
    """What to call with an ingestion's progress: a bar on a terminal, else a line a file."""
    if not terminal.colourful(sys.stderr):
        yield _tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda step: bar.update(
            task, completed=step.done, total=step.total, description=terminal.visible(step.source)
        )


def _tell(step: Progress) -> None:
    """A line about what was done; what was skipped is told at the end, with the reason."""
    if step.outcome.value not in ("unchanged", "skipped"):
        terminal.note(f"{step.done}/{step.total} {step.outcome.value} {step.source}")
