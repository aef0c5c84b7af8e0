"""Ingestion: afterwards the store says what the folder says, however it came to that."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.errors import InputError, ModelError
from orchestra.protocols import DIGEST
from orchestra.steps.ingest import IngestReport, Outcome, Progress, embedded, ingest
from orchestra.steps.texts import pdf as pdf_reader
from orchestra.steps.texts.digests import Recipe
from orchestra.steps.texts.folder import Skipped
from orchestra.steps.texts.text import split
from orchestra.stores.memory import MemoryStore
from orchestra.values import Passage, Scalar, Vector
from tests.pdfs import pdf
from tests.steps.ingesting import Counting, everything, run, said, write

names = st.sampled_from(["a.md", "b.txt", "deep/c.rst", "deep/er/d.MARKDOWN"])
contents = st.lists(st.sampled_from(["# H", "word " * 30, "More.", "", "é"]), max_size=9).map(
    "\n\n".join
)
folders = st.dictionaries(names, contents)


@given(
    folders=st.lists(folders, min_size=1, max_size=4),
    failures=st.lists(st.none() | st.integers(0, 3), min_size=4, max_size=4),
    batch=st.integers(1, 5),
)
@settings(max_examples=60, deadline=None)
def test_afterwards_the_store_says_what_the_folder_says(
    folders: list[dict[str, str]], failures: list[int | None], batch: int
) -> None:
    """Whatever was there before, and wherever earlier ingestions were cut short."""
    store = MemoryStore()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "docs"
        for files, fail_after in zip(folders, failures, strict=False):
            for path in sorted(folder.rglob("*.*")):
                path.unlink()
            folder.mkdir(exist_ok=True)
            write(folder, files)
            try:
                run(folder, store, Counting(fail_after), batch=batch, size_chars=100)
            except ModelError:
                continue
        again = Counting()
        report = run(folder, store, again, batch=batch, size_chars=100)
        expected = {}
        for name, text in folders[-1].items():
            source = (folder / name).as_posix()
            if cut := split(text, source=source, size_chars=100):
                expected[source] = sorted(passage.text for passage in cut)
        assert {source: sorted(texts) for source, texts in said(store).items()} == expected
        assert sorted(report.added + report.changed + report.unchanged) == sorted(expected)
        assert all(len(call) <= batch for call in again.calls)
        idle = Counting()
        assert run(folder, store, idle, size_chars=100).unchanged == tuple(sorted(expected))
        assert idle.calls == []


texts = st.text(st.sampled_from('ab\0"{}:,'), max_size=6)
given_with = st.tuples(st.dictionaries(texts, texts, max_size=2), texts)


@given(given_with, given_with)
def test_a_digest_tells_the_metadata_from_the_text(
    one: tuple[dict[str, str], str], other: tuple[dict[str, str], str]
) -> None:
    digests = {
        Recipe(800, 100, "2-00000000", metadata).digest(text) for metadata, text in (one, other)
    }
    assert len(digests) == (1 if one == other else 2)


class CutShort(MemoryStore):
    """A store that is cancelled at its n-th write, before it or after it."""

    def __init__(self, writes: int, scope: trio.CancelScope, *, before: bool) -> None:
        super().__init__()
        self._left = writes
        self._scope = scope
        self._before = before

    def _cancel(self, *, before: bool) -> None:
        self._left -= before
        if self._left == 0 and before is self._before:
            self._scope.cancel()

    async def upsert(self, passages: Sequence[Passage], vectors: Sequence[Vector]) -> None:
        self._cancel(before=True)
        await super().upsert(passages, vectors)
        self._cancel(before=False)

    async def delete(self, *, where: Mapping[str, Scalar]) -> int:
        self._cancel(before=True)
        count = await super().delete(where=where)
        self._cancel(before=False)
        return count


@given(writes=st.integers(1, 8), before=st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_cancelled_ingestion_leaves_every_file_findable_and_is_made_good(
    writes: int, before: bool
) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(folder, {"a.md": "Old a.", "b.md": "Old b."})
        scope = trio.CancelScope()
        store = CutShort(writes + 2, scope, before=before)
        run(folder, store, Counting())
        write(folder, {"a.md": "New a.", "b.md": "New b."})

        async def cancelled() -> None:
            with scope:
                await ingest(folder, store, Counting())

        trio.run(cancelled)
        assert len(said(store)) == 2
        run(folder, store, Counting())
        assert list(said(store).values()) == [["New a."], ["New b."]]


def test_a_file_is_reported_by_what_became_of_it(tmp_path: Path) -> None:
    store = MemoryStore()
    write(tmp_path, {"a.md": "A.", "b.md": "B.", "c.md": "C."})
    first = run(tmp_path, store, Counting())
    assert [len(first.added), first.passages] == [3, 3]
    write(tmp_path, {"b.md": "B, changed.", "d.md": "D."})
    (tmp_path / "c.md").unlink()
    report = run(tmp_path, store, Counting())
    name = tmp_path.as_posix()
    assert report == IngestReport(
        name,
        added=(f"{name}/d.md",),
        changed=(f"{name}/b.md",),
        unchanged=(f"{name}/a.md",),
        removed=(f"{name}/c.md",),
        passages=2,
    )


def test_progress_counts_every_file_once(tmp_path: Path) -> None:
    write(tmp_path, {"a.md": "A.", "b.png": "B.", "c.md": "C."})
    seen: list[Progress] = []
    store = MemoryStore()

    async def main() -> None:
        await ingest(tmp_path, store, Counting(), progress=seen.append, batch=1)
        (tmp_path / "a.md").unlink()
        await ingest(tmp_path, store, Counting(), progress=seen.append)

    trio.run(main)
    assert [(Path(p.source).name, p.outcome, p.done, p.total) for p in seen] == [
        ("a.md", Outcome.ADDED, 1, 3),
        ("b.png", Outcome.SKIPPED, 2, 3),
        ("c.md", Outcome.ADDED, 3, 3),
        ("b.png", Outcome.SKIPPED, 1, 2),
        ("c.md", Outcome.UNCHANGED, 2, 2),
        ("a.md", Outcome.REMOVED, 2, 2),
    ]


def test_small_files_are_embedded_together(tmp_path: Path) -> None:
    write(tmp_path, {f"{number:02}.md": f"# Title\n\nText {number}." for number in range(20)})
    embedder = Counting()
    run(tmp_path, MemoryStore(), embedder, batch=8)
    assert [len(call) for call in embedder.calls] == [8, 8, 4]
    assert embedder.texts[0] == "Title\n# Title\n\nText 0."


def test_every_passage_is_found_by_its_own_vector(tmp_path: Path) -> None:
    write(tmp_path, {f"{number:02}.md": "x" * (1 + 3 * number) for number in range(9)})
    store = MemoryStore()
    run(tmp_path, store, Counting(), batch=4)

    async def main() -> None:
        for passage in await everything(store):
            (vector,) = await Counting().embed([embedded(passage)])
            (found,) = await store.search(vector, top=1)
            assert found.id == passage.id

    trio.run(main)


def test_a_file_that_no_longer_can_be_read_is_removed_and_told_twice(tmp_path: Path) -> None:
    store = MemoryStore()
    write(tmp_path, {"a.md": "A."})
    run(tmp_path, store, Counting())
    (tmp_path / "a.md").write_text("")
    report = run(tmp_path, store, Counting())
    assert report.removed == (f"{tmp_path}/a.md",)
    assert [skipped.reason for skipped in report.skipped] == ["empty"]
    assert said(store) == {}


def test_without_pruning_what_is_gone_stays(tmp_path: Path) -> None:
    store = MemoryStore()
    write(tmp_path, {"a.md": "A.", "b.md": "B."})
    run(tmp_path, store, Counting())
    (tmp_path / "a.md").unlink()
    assert run(tmp_path, store, Counting(), prune=False).removed == ()
    assert len(said(store)) == 2


def test_other_sources_in_the_store_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = MemoryStore()
    digest: dict[str, Scalar] = {DIGEST: "x", "position": 0}
    others = [
        Passage("1", "", "https://example.org/a.md", metadata=digest),
        Passage("2", "", "../elsewhere/a.md", metadata=digest),
        Passage("3", "", "/absolute/a.md", metadata=digest),
        Passage("4", "", "by-hand.md", metadata={"position": 0}),
    ]
    trio.run(store.upsert, others, [Vector.of([1.0, 0.0])] * len(others))
    write(tmp_path, {"docs/a.md": "A."})
    assert run(".", store, Counting()).added == ("docs/a.md",)
    assert run("./docs/../docs", store, Counting()).unchanged == ("docs/a.md",)
    assert len(said(store)) == 5


def test_cutting_in_another_way_is_a_change(tmp_path: Path) -> None:
    store = MemoryStore()
    write(tmp_path, {"a.md": "word " * 100})
    run(tmp_path, store, Counting())
    assert len(run(tmp_path, store, Counting(), size_chars=100).changed) == 1


@pytest.mark.parametrize("folder", ["missing", "a.md"])
def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, folder: str) -> None:
    write(tmp_path, {"a.md": "A."})
    with pytest.raises(InputError, match="cannot be listed") as caught:
        run(tmp_path / folder, MemoryStore(), Counting())
    assert caught.value.field == "folder"
    assert str(tmp_path / folder) in str(caught.value)


@pytest.mark.parametrize("field", ["batch", "limit_bytes"])
def test_a_number_that_cannot_work_is_named(tmp_path: Path, field: str) -> None:
    with pytest.raises(InputError, match=f"{field}=0") as caught:
        run(tmp_path, MemoryStore(), Counting(), **{field: 0})
    assert caught.value.field == field


def test_a_passage_is_embedded_under_its_headings() -> None:
    assert embedded(Passage("1", "Text.", metadata={"heading": "A > B"})) == "A > B\nText."
    assert embedded(Passage("1", "Text.")) == "Text."


def test_a_pdf_is_ingested_page_by_page(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf("The door opens at nine.", "", "Bikes stay outside."))
    (tmp_path / "scan.pdf").write_bytes(pdf(""))
    (tmp_path / "broken.PDF").write_bytes(b"no PDF")
    (tmp_path / "long.pdf").write_bytes(pdf(*["x"] * 1001))
    store, embedder = MemoryStore(), Counting()
    report = run(tmp_path, store, embedder, limit_bytes=100)  # of which a PDF may have more
    passages = {each.text: dict(each.metadata) for each in trio.run(everything, store)}
    for each in passages.values():
        del each[DIGEST]
    assert passages == {
        "The door opens at nine.": {"heading": "page 1", "page": 1, "position": 0},
        "Bikes stay outside.": {"heading": "page 3", "page": 3, "position": 1},
    }
    broken, long, scan = (each.reason for each in report.skipped)
    assert broken.startswith("is not a readable PDF: ")
    assert long == "has 1001 pages, 1000 may be read"
    assert scan == "has no text; is it a scan?"


def test_an_unchanged_pdf_is_not_read_by_pypdf_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf("The door opens at nine."))
    store, embedder = MemoryStore(), Counting()
    run(tmp_path, store, embedder)
    monkeypatch.setattr(pdf_reader, "find_spec", lambda _: None)
    (tmp_path / "b.pdf").write_bytes(pdf("Bikes stay outside."))
    report = run(tmp_path, store, embedder)
    assert report.unchanged == (f"{tmp_path}/a.pdf",)
    (skipped,) = report.skipped
    assert skipped.source == f"{tmp_path}/b.pdf"
    assert skipped.reason == (
        "it is a PDF, and pypdf is not installed: run `pip install 'orchestra[documents]'`"
    )


def test_pages_with_the_same_words_are_several_passages(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf("Draft.", "Draft."))
    store = MemoryStore()
    assert run(tmp_path, store, Counting()).passages == 2
    assert said(store) == {f"{tmp_path}/a.pdf": ["Draft.", "Draft."]}


def test_of_html_the_readable_text_is_ingested(tmp_path: Path) -> None:
    page = "<title>Doors</title><nav>Home</nav><h2>Hours</h2><p>At nine.<script>x()</script>"
    write(tmp_path, {"a.html": page, "B.HTM": "<p>Bikes.", "empty.html": "<nav>Home</nav>"})
    store = MemoryStore()
    report = run(tmp_path, store, Counting())
    told = {each.text: each.metadata["heading"] for each in trio.run(everything, store)}
    assert told == {"# Doors\n\n## Hours\n\nAt nine.": "Doors > Hours", "Bikes.": ""}
    assert report.skipped == (Skipped(f"{tmp_path}/empty.html", "empty"),)
