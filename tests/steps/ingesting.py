"""What tests of ingestion share: embedders that note what they are asked, and what a store says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import trio

from orchestra.errors import ModelError
from orchestra.steps.ingest import IngestReport, ingest
from orchestra.stores.memory import MemoryStore
from orchestra.values import Passage, Purpose, Vector


class Counting:
    """An embedder that notes what it is asked, and fails when it is told to."""

    dimensions = 2

    def __init__(self, fail_after: int | None = None) -> None:
        self.calls: list[list[str]] = []
        self._fail_after = fail_after

    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        await trio.lowlevel.checkpoint()
        if self._fail_after is not None and len(self.calls) >= self._fail_after:
            raise ModelError("the service is down")
        self.calls.append(list(texts))
        return [Vector.of([1.0, len(text)]) for text in texts]

    @property
    def texts(self) -> list[str]:
        return [text for call in self.calls for text in call]


def run(folder: Path | str, store: MemoryStore, embedder: Counting, **options: Any) -> IngestReport:
    async def main() -> IngestReport:
        return await ingest(folder, store, embedder, **options)

    return trio.run(main)


async def everything(store: MemoryStore) -> list[Passage]:
    found = await store.search(Vector.of([1.0, 0.0]), top=10**6)
    return sorted(found, key=lambda passage: (passage.source, str(passage.metadata["position"])))


def said(store: MemoryStore) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    for passage in trio.run(everything, store):
        texts.setdefault(passage.source, []).append(passage.text)
    return texts


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


class Identified(Counting):
    """An embedder that tells which it is."""

    def __init__(self, identity: str, dimensions: int = 2) -> None:
        super().__init__()
        self.identity = identity
        self.dimensions = dimensions

    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        vectors = await super().embed(texts, purpose=purpose)
        return [Vector.of([*vector, 0.0, 0.0][: self.dimensions]) for vector in vectors]
