"""`orchestra ingest`: a folder of documents into a store."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import trio
from cyclopts import Parameter

from orchestra.cli import terminal
from orchestra.cli.failures import MISUSED, CommandError
from orchestra.cli.parameters import Config, Data
from orchestra.nearest import did_you_mean
from orchestra.values import NO_METADATA, Metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestra.config import LocalBindings
    from orchestra.steps.ingest import IngestReport, Progress

Entries: TypeAlias = Annotated[list[str] | None, Parameter(show_default=False, negative="")]
TELL_S = 10.0
"""Seconds between progress lines, if the output is not a terminal."""
NAMED_MAX = 10
"""How many other stores are named when a new one is made."""
CHANGES = ("added", "changed", "removed")
"""The outcomes that have a line of their own on a terminal without a bar."""


def ingest(
    folder: Path,
    /,
    *,
    store: str,
    embedder: str = "default",
    metadata: Entries = None,
    data: Data = None,
    config: Config = None,
) -> int:
    """Read the documents in a folder (Markdown, text, HTML, PDF) into a store.

    Run again, it does only what has changed: new files are added, changed ones replaced, and
    missing ones removed. The counts go to standard output; progress, skipped files and warnings go
    to standard error.

    Parameters
    ----------
    folder
        The folder to read, with its subfolders.
    store
        The store's name, as pipelines call it.
    embedder
        The embedder's name; questions need the same one: `embed(question, model=NAME)`.
    metadata
        NAME=TEXT, given to every passage, for `retrieve(..., where=...)`; may be repeated.
    """
    if not store.strip():
        raise CommandError(
            f"--store {store!r} is not a name; write one, such as notes", code=MISUSED
        )
    from orchestra.cli.stopping import until_signal

    found = _read(metadata or [])
    act = partial(_ingest, folder, store, embedder, metadata=found, data=data, config=config)
    trio.run(until_signal, act)
    return 0


def _read(entries: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in entries:
        name, equals, text = entry.partition("=")
        if not (name and equals) or name in found:
            raise CommandError(
                f"--metadata {entry!r}: write a name and a text, each name once, such as "
                "owner=acme",
                code=MISUSED,
            )
        found[name] = text
    return found


async def _ingest(
    folder: Path,
    store: str,
    embedder: str,
    *,
    metadata: dict[str, str],
    data: Path | None,
    config: Path | None,
) -> None:
    from orchestra.config import default_bindings

    with default_bindings(data, config=config) as bindings:
        if not bindings.stores.is_own(store):  # the file or database of the others may be away
            note_if_new(store, bindings.stores.names())
        report = await ingest_shown(folder, store, bindings, embedder, metadata)
    for skipped in report.skipped:
        terminal.note(f"skipped {skipped.source}: {skipped.reason}", "yellow")
    for note in notes(report, store):
        terminal.note(note, "yellow")
    terminal.say(f"{report.folder} -> {store}: {summary(report)}")


def note_if_new(store: str, known: Sequence[str]) -> None:
    """Note that this makes a new store beside those that there are: its name may be misspelt.

    It is noted before anything is embedded, which may cost money.
    """
    if known and store not in known:
        then = f" Then stop this, and run `orchestra stores delete {store}`"
        meant = did_you_mean(store, known, before="; ", after=then)
        others = ", ".join([*map(repr, known[:NAMED_MAX]), *["..."] * (len(known) > NAMED_MAX)])
        terminal.note(f"store {store!r} is new (others: {others}){meant}", "yellow")


async def ingest_shown(
    folder: Path,
    store: str,
    bindings: LocalBindings,
    embedder: str = "default",
    metadata: Metadata = NO_METADATA,
) -> IngestReport:
    """Ingest a folder, showing progress; returns the report.

    Progress is a bar, or a line for each file on a terminal that shows none, or a line every
    `TELL_S` in a pipe.
    """
    from orchestra.steps.ingest import ingest as ingest_into
    from orchestra.steps.texts.sources import name_of

    collection, name = bindings.stores.to_fill(store), name_of(folder)
    told_s, lines = trio.current_time(), sys.stderr.isatty()
    with terminal.progress_bar() as show:

        def progress(step: Progress) -> None:
            nonlocal told_s
            now_s = trio.current_time()
            if show:
                show(step.done, step.total, step.source)
            elif now_s >= told_s + TELL_S or (lines and step.outcome.value in CHANGES):
                told_s = now_s
                terminal.note(f"{step.done}/{step.total} {step.outcome.value} {step.source}")

        report = await ingest_into(
            folder,
            collection,
            bindings.embedder(embedder),
            progress=progress,
            name=name,
            metadata=metadata,
        )
    await bindings.stores.make(store)  # even without texts, so that pipelines may name it
    return report


def notes(report: IngestReport, store: str) -> list[str]:
    """Notes on what else to do after a change of the embedder or of the folder's name."""
    lines = []
    if report.dimensions_before is not None:
        lines.append(
            f"store {store!r} held vectors of {report.dimensions_before} numbers, and this "
            "embedder's have another length: all of them were removed; ingest the other folders "
            "again"
        )
    if report.stale:
        lines.append(
            f"store {store!r} has {len(report.stale)} texts of other folders that another embedder "
            f"has embedded, such as {report.stale[0]!r}; ingest their folders again"
        )
    if report.doubled:
        lines.append(
            f"store {store!r} has {len(report.doubled)} of these texts twice, such as "
            f"{report.doubled[0]!r}: the folder's path was written differently before; always "
            "write it in the same way, and begin a new store"
        )
    return lines


def summary(report: IngestReport) -> str:
    """The counts of an ingestion, in a line."""
    counts = ("added", "changed", "unchanged", "removed", "skipped")
    files = [f"{count} {name}" for name in counts if (count := len(getattr(report, name)))]
    return f"{', '.join(files) or 'no files'}; {report.passages} passages written"
