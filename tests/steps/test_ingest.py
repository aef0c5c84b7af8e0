"""Ingestion: afterwards the store says what the folder says, however it came to that."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.errors import InputError, ModelError, StoreError
from orchestra.protocols import DIGEST
from orchestra.steps.folder import Skipped
from orchestra.steps.ingest import IngestReport, Outcome, Progress, embedded, ingest, is_under
from orchestra.steps.text import split
from orchestra.stores.memory import MemoryStore
from orchestra.values import Passage, Purpose, Scalar, Vector


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


def run(folder: Path | str, store: MemoryStore, embedder: Counting, **options: int) -> IngestReport:
    async def main() -> IngestReport:
        return await ingest(folder, store, embedder, **options)  # type: ignore[arg-type]

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


def test_what_is_left_out_says_why(tmp_path: Path) -> None:
    write(tmp_path, {"good.md": "Good.", "empty.md": " \n", "image.png": "x", "long.md": "x" * 999})
    write(tmp_path, {".hidden/a.md": "x", ".b.md": "x", "real/r.md": "Real."})
    (tmp_path / "binary.txt").write_bytes(b"ab\0c")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "mark.txt").write_bytes(b"\xef\xbb\xbfMarked.")
    os.mkfifo(tmp_path / "pipe.md")
    (tmp_path / "dangling.md").symlink_to(tmp_path / "nowhere")
    (tmp_path / "a-link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    store = MemoryStore()
    report = run(tmp_path, store, Counting(), limit_bytes=500)
    name = tmp_path.as_posix()
    assert {skipped.source.removeprefix(name): skipped.reason for skipped in report.skipped} == {
        "/a-link": "leads to a folder read already",
        "/binary.txt": "binary: byte 2 is zero",
        "/dangling.md": "cannot be read: No such file or directory",
        "/empty.md": "empty",
        "/image.png": "its name does not end in .md, .markdown, .txt, .rst",
        "/latin.txt": "not UTF-8: byte 3 is 0xe9",
        "/long.md": "longer than limit_bytes=500",
        "/pipe.md": "not a regular file",
        "/real/loop": "leads to a folder read already",
    }
    assert said(store) == {
        f"{name}/good.md": ["Good."],
        f"{name}/mark.txt": ["Marked."],
        f"{name}/real/r.md": ["Real."],
    }


def test_a_name_that_is_not_utf8_is_left_out(tmp_path: Path) -> None:
    """And ends nothing: a source has to be a text."""
    write(tmp_path, {"good.md": "Good."})
    (tmp_path / os.fsdecode(b"bad\xff.md")).write_text("Bad.")
    folder = tmp_path / os.fsdecode(b"\xffolder")
    folder.mkdir()
    (folder / "in.md").write_text("In.")
    store = MemoryStore()
    report = run(tmp_path, store, Counting())
    assert report.skipped == tuple(
        Skipped(f"{tmp_path}/{name}", "its name is not UTF-8; give it another")
        for name in ("\\xffolder", "bad\\xff.md")
    )
    assert list(said(store)) == [f"{tmp_path}/good.md"]


def test_a_link_to_a_text_that_is_read_already_is_no_second_one(tmp_path: Path) -> None:
    write(tmp_path, {"docs/a.md": "A.", "docs/a.text": "T.", "elsewhere/b.md": "B."})
    docs = tmp_path / "docs"
    (docs / "0.md").symlink_to(docs / "a.md")
    (docs / "t.md").symlink_to(docs / "a.text")  # which is not read under its own name
    for name in ("b1.md", "b2.md"):
        (docs / name).symlink_to(tmp_path / "elsewhere/b.md")
    for name in ("n1.md", "n2.md"):
        (docs / name).symlink_to(tmp_path / "nowhere")
    store = MemoryStore()
    report = run(docs, store, Counting())
    told = {skipped.source: skipped.reason for skipped in report.skipped}
    assert [told[f"{docs}/{name}"] for name in ("0.md", "b2.md")] == [
        "leads to a file read already"
    ] * 2
    assert told[f"{docs}/n1.md"] == told[f"{docs}/n2.md"]
    assert said(store) == {
        f"{docs}/a.md": ["A."],
        f"{docs}/b1.md": ["B."],
        f"{docs}/t.md": ["T."],
    }


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path: Path) -> None:
    write(tmp_path, {"docs/a.md": "A.", "elsewhere/b.md": "B."})
    (tmp_path / "docs" / "link").symlink_to(tmp_path / "elsewhere")
    store = MemoryStore()
    run(tmp_path / "docs", store, Counting())
    assert list(said(store)) == [f"{tmp_path}/docs/a.md", f"{tmp_path}/docs/link/b.md"]


def test_a_folder_that_vanishes_while_it_is_looked_at_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"a.md": "A.", "gone/b.md": "B."})
    stat = Path.stat
    monkeypatch.setattr(
        Path, "stat", lambda path: stat(path / "no" if path.name == "gone" else path)
    )
    report = run(tmp_path, MemoryStore(), Counting())
    assert [skipped.reason for skipped in report.skipped] == [
        "cannot be read: No such file or directory"
    ]
    assert len(report.added) == 1


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


@pytest.mark.parametrize(
    ("source", "folder", "under"),
    [
        ("docs/a.md", "docs", True),
        ("docs2/a.md", "docs", False),
        ("a.md", ".", True),
        ("../a.md", ".", False),
        ("../a.md", "..", True),
        ("../../a.md", "..", False),
        ("/x/a.md", "/x", True),
        ("https://x/a.md", ".", False),
    ],
)
def test_what_is_under_a_folder(source: str, folder: str, under: bool) -> None:
    assert is_under(source, Path(folder)) is under


def test_cutting_in_another_way_is_a_change(tmp_path: Path) -> None:
    store = MemoryStore()
    write(tmp_path, {"a.md": "word " * 100})
    run(tmp_path, store, Counting())
    assert len(run(tmp_path, store, Counting(), size_chars=100).changed) == 1


class Identified(Counting):
    """An embedder that tells which it is."""

    def __init__(self, identity: str, dimensions: int = 2) -> None:
        super().__init__()
        self.identity = identity
        self.dimensions = dimensions

    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        vectors = await super().embed(texts, purpose=purpose)
        return [Vector.of([*vector, 0.0, 0.0][: self.dimensions]) for vector in vectors]


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
