"""What of a folder is read, and what is left out, and why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestra.errors import InputError
from orchestra.steps.texts.folder import Skipped
from orchestra.stores.memory import MemoryStore
from tests.steps.ingesting import Counting, run, said, write


def test_what_is_left_out_says_why(tmp_path: Path) -> None:
    write(tmp_path, {"good.md": "Good.", "empty.md": " \n", "image.png": "x", "long.md": "x" * 999})
    write(tmp_path, {".hidden/a.md": "x", ".b.md": "x", "real/r.md": "Real."})
    (tmp_path / "binary.txt").write_bytes(b"ab\0c")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "mark.txt").write_bytes(b"\xef\xbb\xbfMarked.")
    os.mkfifo(tmp_path / "pipe.md")
    (tmp_path / "dangling.md").symlink_to(tmp_path / "nowhere")
    (tmp_path / "round.md").symlink_to("round.md")
    (tmp_path / "a-link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    store = MemoryStore()
    report = run(tmp_path, store, Counting(), limit_bytes=500)
    name = tmp_path.as_posix()
    assert {skipped.source.removeprefix(name): skipped.reason for skipped in report.skipped} == {
        "/.b.md": "its name begins with a dot",
        "/.hidden": "its name begins with a dot",
        "/a-link": "leads to a folder read already",
        "/binary.txt": "binary: byte 2 is zero",
        "/dangling.md": "cannot be read: No such file or directory",
        "/empty.md": "empty",
        "/image.png": "its name does not end in .md, .markdown, .txt, .rst, .html, .htm, .pdf",
        "/latin.txt": "not UTF-8: byte 3 is 0xe9",
        "/long.md": "longer than 500 bytes",
        "/pipe.md": "not a regular file",
        "/real/loop": "leads to a folder read already",
        "/round.md": "cannot be read: Too many levels of symbolic links",
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


def test_a_folder_whose_own_name_is_not_utf8_needs_another(tmp_path: Path) -> None:
    folder, store = tmp_path / os.fsdecode(b"\xffolder"), MemoryStore()
    write(folder, {"good.md": "Good.", "other.pdf": "No text.", os.fsdecode(b"bad\xff.md"): "Bad."})
    with pytest.raises(InputError, match="its name is not UTF-8") as caught:
        run(folder, store, Counting())
    assert caught.value.field == "folder"
    report = run(folder, store, Counting(), name="docs")
    assert list(said(store)) == list(report.added) == ["docs/good.md"]
    assert [each.source for each in report.skipped] == ["docs/bad\\xff.md", "docs/other.pdf"]


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
