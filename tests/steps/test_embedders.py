"""Ingestion with another embedder than before: what it embeds again, and what it removes."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from orchestra.errors import ModelError, StoreError
from orchestra.stores.memory import MemoryStore
from orchestra.values import Passage, Vector
from tests.steps.ingesting import Counting, Identified, run, said, write


def test_what_another_embedder_has_embedded_is_embedded_again(tmp_path: Path) -> None:
    """Vectors of the same length cannot be told apart, and cannot be compared."""
    store = MemoryStore()
    write(tmp_path, {"a.md": "A."})
    run(tmp_path, store, Identified("one"))
    assert len(run(tmp_path, store, Identified("one")).unchanged) == 1
    other = Identified("two")
    assert len(run(tmp_path, store, other).changed) == 1
    assert other.texts == ["A."]
    assert len(said(store)) == 1


def test_to_vectors_of_another_length_the_store_is_made_anew(tmp_path: Path) -> None:
    """Also what is of other folders goes: it could not be searched together with the new."""
    store = MemoryStore()
    write(tmp_path, {"docs/a.md": "A.", "docs/gone.md": "B.", "notes/c.md": "C."})
    run(tmp_path / "docs", store, Identified("one"))
    run(tmp_path / "notes", store, Identified("one"))
    (tmp_path / "docs/gone.md").unlink()
    report = run(tmp_path / "docs", store, Identified("one", dimensions=4), prune=False)
    assert report.changed == (f"{tmp_path}/docs/a.md",)
    assert report.removed == (f"{tmp_path}/docs/gone.md", f"{tmp_path}/notes/c.md")
    assert (report.dimensions_before, report.stale) == (2, ())
    assert trio.run(store.digests).keys() == {f"{tmp_path}/docs/a.md"}
    again = run(tmp_path / "notes", store, Identified("one", dimensions=4))
    assert (len(again.added), again.removed, again.dimensions_before) == (1, (), None)


def test_an_embedder_of_another_length_that_fails_removes_nothing(tmp_path: Path) -> None:
    store = MemoryStore()
    write(tmp_path, {"a.md": "A."})
    run(tmp_path, store, Identified("one"))
    failing = Identified("two", dimensions=4)
    failing._fail_after = 0
    with pytest.raises(ModelError):
        run(tmp_path, store, failing)
    assert len(said(store)) == 1


def test_what_of_other_folders_is_still_of_another_embedder_is_told(tmp_path: Path) -> None:
    store = MemoryStore()
    write(tmp_path, {"docs/a.md": "A.", "notes/c.md": "C."})
    run(tmp_path, store, Identified("one"))
    report = run(tmp_path / "docs", store, Identified("two"))
    assert (report.changed, report.stale) == (
        (f"{tmp_path}/docs/a.md",),
        (f"{tmp_path}/notes/c.md",),
    )
    assert run(tmp_path, store, Identified("two")).stale == ()


def test_where_vectors_of_another_length_were_not_ingested_nothing_is_removed(
    tmp_path: Path,
) -> None:
    store = MemoryStore()
    trio.run(store.upsert, [Passage("1", "")], [Vector.of([1.0])])
    write(tmp_path, {"a.md": "A."})
    with pytest.raises(StoreError, match="2 dimensions, where the others have 1"):
        run(tmp_path, store, Counting())
