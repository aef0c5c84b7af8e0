"""Ingests a folder of documents into a store; a repeated ingestion processes only changed files.

Rules of the file:

1. A file's passages are written in one upsert, under a digest of its content, of the options for
   cutting and of the embedder: if the process is killed, each file is either done or not done.
2. New passages are written before the old ones are removed, so a reader never misses a file. If
   the ingestion is interrupted in between, the file has two digests, and the next one repeats it.
3. A store cannot hold vectors of two lengths. If the length changes, all ingested passages are
   removed, but only after the first new ones are embedded. After a kill, some may remain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path

import attrs
import trio

from orchestra.errors import InputError
from orchestra.protocols import DIGEST, Embedder, VectorStore
from orchestra.steps.texts.digests import Recipe, dimensions_of, embedder_of, is_of_another
from orchestra.steps.texts.files import CutFile, ReadFile, check_metadata, cut_file
from orchestra.steps.texts.folder import LIMIT_BYTES, Skipped, find, read
from orchestra.steps.texts.sources import NamedFolder
from orchestra.steps.texts.text import OVERLAP_CHARS, SIZE_CHARS
from orchestra.surrogates import is_utf8
from orchestra.values import NO_METADATA, Metadata, Passage

BATCH = 64
"""Passages embedded in one call; most embedding services accept this many."""


class Outcome(Enum):
    """The outcome of an ingestion for one file."""

    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    REMOVED = "removed"
    """The file is gone or unreadable; its passages were removed."""


@attrs.frozen
class Progress:
    """One more file is done: number `done` of `total`; removed files come last."""

    source: str
    outcome: Outcome
    done: int
    total: int


@attrs.frozen
class IngestReport:
    """The result of an ingestion: the sources by outcome, each group in order."""

    folder: str
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    passages: int = 0
    """The number of passages embedded and written."""
    dimensions_before: int | None = None
    """The old vector length, if all passages were removed because the new length is different."""
    stale: tuple[str, ...] = ()
    """Sources outside the folder whose vectors are still from another embedder."""
    doubled: tuple[str, ...] = ()
    """Sources that duplicate texts of the folder, ingested earlier under another folder name."""


async def ingest(
    folder: Path | str,
    store: VectorStore,
    embedder: Embedder,
    *,
    progress: Callable[[Progress], object] | None = None,
    batch: int = BATCH,
    limit_bytes: int = LIMIT_BYTES,
    size_chars: int = SIZE_CHARS,
    overlap_chars: int = OVERLAP_CHARS,
    prune: bool = True,
    name: str | None = None,
    metadata: Metadata = NO_METADATA,
) -> IngestReport:
    """Ingest every Markdown, text, reStructuredText, HTML and PDF file of a folder into a store.

    Of HTML, the readable text is taken, without scripts and navigation. PDFs need pypdf (the extra
    `documents`), and are read within the default bounds of the step `pages`; their passages have
    the number of their page as `page` in the metadata. Files that cannot be read are skipped.

    A passage's source is the file's path, beginning with `folder` as it is written, or with
    `name`. An unchanged file is left as it is if its vectors are from the same embedder, as far as
    the embedder's `identity` tells. The old passages of a changed file are removed; with `prune`,
    also those of files under `folder` that no longer exist. If the store's vectors have another
    length, all passages ever ingested into it are removed, once the first new ones are embedded.

    `metadata` is added to that of each passage, for `where`; files that were ingested with another
    are ingested again.

    `limit_bytes` bounds a file, except for PDFs, which may have 64 MiB. `batch` is the number of
    passages embedded in one call, across files; memory holds that many, or those of one file.
    `progress` is called after each file. If cancelled, each file is either done or unchanged, and
    the next ingestion continues.

    Raises:
        InputError: the folder cannot be listed, `batch` or `limit_bytes` is less than 1, or
            `metadata` has a name that passages of files have already, such as `heading`.
        ValueError: `size_chars` or `overlap_chars` is out of range, as for `split`.
        StoreError: the store failed; for instance, it holds vectors of another length that
            were not ingested.
    """
    if batch < 1 or limit_bytes < 1:
        raise InputError(
            f"ingest(batch={batch}, limit_bytes={limit_bytes}): both must be 1 or more",
            field="batch" if batch < 1 else "limit_bytes",
        )
    check_metadata(metadata)
    here = NamedFolder.of(folder, name)
    recipe = Recipe(size_chars, overlap_chars, embedder_of(embedder), metadata)
    told = progress or (lambda _: None)
    work = _Ingestion(here, store, embedder, recipe, told, batch, limit_bytes)
    await work.run(prune=prune)
    return work.report()


def embedded(passage: Passage) -> str:
    """The text to embed for a passage: its headings and its text."""
    return f"{passage.metadata.get('heading', '')}\n{passage.text}".strip()


@attrs.define(eq=False)
class _Ingestion:
    """A running ingestion. A file is reported once, when nothing is left to do for it."""

    _folder: NamedFolder
    _store: VectorStore
    _embedder: Embedder
    _recipe: Recipe
    _progress: Callable[[Progress], object]
    _batch: int
    _limit_bytes: int
    _noted: dict[str, Outcome] = attrs.Factory(dict)
    _skipped: list[Skipped] = attrs.Factory(list)
    _known: Mapping[str, str] = attrs.Factory(dict)
    _total: int = 0
    _written: int = 0
    _dimensions_before: int | None = None

    async def run(self, *, prune: bool) -> None:
        files = await self._look()
        self._known = await self._store.digests()
        waiting: list[CutFile] = []
        for path in files:
            file = await trio.to_thread.run_sync(self._read, path)
            if isinstance(file, ReadFile) and self._known.get(file.source) == file.digest:
                self._note(file.source, Outcome.UNCHANGED)
                continue
            document = file if isinstance(file, Skipped) else await cut_file(file, self._recipe)
            if isinstance(document, Skipped):
                self._skip(document)
            else:
                waiting.append(document)
            if sum(len(document.passages) for document in waiting) >= self._batch:
                await self._write(waiting)
                waiting = []
        await self._write(waiting)
        await self._prune(prune=prune)

    def _read(self, path: Path) -> ReadFile | Skipped:
        """A file with its digest; runs in a worker thread."""
        content = read(path, self._limit_bytes)
        if isinstance(content, Skipped):
            return self._folder.named(content)
        return ReadFile(self._folder.source(path), self._recipe.digest(content), content)

    async def _look(self) -> list[Path]:
        if not is_utf8(str(self._folder.name)):
            raise InputError(
                f"folder {str(self._folder.path)!r}: its name is not UTF-8, and every source "
                "begins with it; rename it, or write ingest(..., name='docs')",
                field="folder",
            )
        try:
            found = await trio.to_thread.run_sync(find, self._folder.path)
        except OSError as error:
            raise InputError(
                f"folder {str(self._folder.path)!r} cannot be listed: {error.strerror}; "
                "give a folder that exists",
                field="folder",
            ) from error
        self._total = len(found.files) + len(found.skipped)
        for skipped in found.skipped:
            self._skip(self._folder.named(skipped))
        return found.files

    async def _write(self, documents: list[CutFile]) -> None:
        """Embed the passages of all files together, and write each file in one upsert."""
        texts = [embedded(passage) for document in documents for passage in document.passages]
        vectors = []
        for start in range(0, len(texts), self._batch):
            vectors += await self._embedder.embed(
                texts[start : start + self._batch], purpose="document"
            )
        if documents:
            await self._make_room()
        for document in documents:
            count = len(document.passages)
            old = self._known.get(document.source)
            if old == "":
                await self._store.delete(where={"source": document.source})
            await self._store.upsert(document.passages, vectors[:count])
            if old:
                await self._store.delete(where={"source": document.source, DIGEST: old})
            del vectors[:count]
            self._written += count
            self._note(document.source, Outcome.ADDED if old is None else Outcome.CHANGED)

    async def _make_room(self) -> None:
        """Remove all ingested passages if their vectors have another length than the new ones."""
        ours = self._embedder.dimensions
        lengths = (dimensions_of(digest) for digest in self._known.values())
        before = next((length for length in lengths if length not in (None, ours)), None)
        if before is not None:
            self._dimensions_before = before
            for source in self._known:
                await self._store.delete(where={"source": source})
            self._known = dict.fromkeys(self._known, "")  # the outcome of each is still reported

    async def _prune(self, *, prune: bool) -> None:
        """Remove and report the files that are gone; after a change of length, all old ones."""
        kept = {source for source, outcome in self._noted.items() if outcome is not Outcome.SKIPPED}
        for source in sorted(self._known.keys() - kept):
            if self._dimensions_before or (prune and self._folder.holds(source)):
                await self._store.delete(where={"source": source})
                self._note(source, Outcome.REMOVED)

    def _skip(self, skipped: Skipped) -> None:
        self._skipped.append(skipped)
        self._note(skipped.source, Outcome.SKIPPED)

    def _note(self, source: str, outcome: Outcome) -> None:
        self._noted[source] = outcome
        done = min(len(self._noted), self._total)
        self._progress(Progress(source, outcome, done, self._total))

    def report(self) -> IngestReport:
        of: dict[Outcome, list[str]] = {outcome: [] for outcome in Outcome}
        for source, outcome in sorted(self._noted.items()):
            of[outcome].append(source)
        read = of[Outcome.ADDED] + of[Outcome.CHANGED] + of[Outcome.UNCHANGED]
        return IngestReport(
            self._folder.name.as_posix(),
            added=tuple(of[Outcome.ADDED]),
            changed=tuple(of[Outcome.CHANGED]),
            unchanged=tuple(of[Outcome.UNCHANGED]),
            removed=tuple(of[Outcome.REMOVED]),
            skipped=tuple(sorted(self._skipped, key=lambda skipped: skipped.source)),
            passages=self._written,
            dimensions_before=self._dimensions_before,
            stale=self._stale(),
            doubled=self._folder.doubles(read, self._known.keys() - self._noted.keys()),
        )

    def _stale(self) -> tuple[str, ...]:
        ours = self._recipe.embedder
        left = sorted(self._known.keys() - self._noted.keys())
        return tuple(source for source in left if is_of_another(self._known[source], ours))
