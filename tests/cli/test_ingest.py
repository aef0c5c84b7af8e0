"""`orchestra ingest`: what it prints, and that doing it again does nothing."""

from __future__ import annotations

import os
import pty
import signal
from functools import partial

import pytest
import trio

from orchestra.cli.failures import FAILED, INTERRUPTED, MISUSED
from orchestra.cli.ingest import notes, summary
from orchestra.config import LocalBindings
from orchestra.steps.ingest import IngestReport
from orchestra.steps.texts.folder import Skipped
from orchestra.values import Vector
from tests.cli.conftest import Project, read_terminal
from tests.patience import PATIENCE_S

WORDS = ("ingest", "texts", "--store", "notes", "--data", "d")


@pytest.fixture
def texts(project: Project) -> Project:
    """A project with two texts, and something else."""
    project.write("texts/a.md", "# Apples\n\nApples are red, and sometimes green.\n")
    project.write("texts/b.txt", "Bees make honey, and live in a hive.\n")
    project.write("texts/logo.png", "no text")
    return project


def test_texts_are_read_and_what_is_not_is_told(texts: Project) -> None:
    code, out, err = texts.orchestra(*WORDS)
    assert code == 0
    assert out == "texts -> notes: 2 added, 1 skipped; 2 passages written\n"
    (skipped,) = err.splitlines()  # no line for each file in a pipe
    assert skipped.startswith("skipped texts/logo.png: its name does not end in ")


def test_a_long_ingestion_tells_its_progress_in_a_pipe(
    texts: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestra.cli.ingest.TELL_S", 0.0)
    *progress, _ = texts.orchestra(*WORDS)[2].splitlines()
    assert [line.partition(" ")[0] for line in progress] == ["1/3", "2/3", "3/3"]


def test_again_does_only_what_has_changed(texts: Project) -> None:
    texts.orchestra(*WORDS)
    code, out, err = texts.orchestra(*WORDS)
    assert (code, len(err.splitlines())) == (0, 1)
    assert out == "texts -> notes: 2 unchanged, 1 skipped; 0 passages written\n"
    texts.write("texts/a.md", "# Apples\n\nApples are mostly green after all.\n")
    (texts.folder / "texts/b.txt").unlink()
    assert texts.orchestra(*WORDS)[1].endswith(
        "texts -> notes: 1 changed, 1 removed, 1 skipped; 1 passages written\n"
    )


def test_passages_have_the_metadata_that_is_given_and_other_metadata_is_a_change(
    texts: Project,
) -> None:
    given = ("--metadata", "owner=acme", "--metadata", "year=2026=now")
    assert "2 added" in texts.orchestra(*WORDS, *given)[1]
    assert "2 unchanged" in texts.orchestra(*WORDS, *given)[1]
    with LocalBindings(texts.folder / "d", None, {}) as bindings:
        where = {"owner": "acme", "year": "2026=now"}
        search = partial(bindings.store("notes").search, Vector.of([1.0] * 256), top=9)
        assert len(trio.run(partial(search, where=where))) == 2
        assert trio.run(partial(search, where={"owner": "globex"})) == []
    assert "2 changed" in texts.orchestra(*WORDS)[1]


@pytest.mark.parametrize("entries", [["owner"], ["=acme"], ["owner=a", "owner=b"]])
def test_metadata_that_cannot_be_read_is_refused(texts: Project, entries: list[str]) -> None:
    given = [word for entry in entries for word in ("--metadata", entry)]
    code, _, err = texts.orchestra(*WORDS, *given)
    assert code == MISUSED
    assert f"--metadata {entries[-1]!r}: write a name and a text" in err


def test_metadata_of_passages_themselves_is_refused(texts: Project) -> None:
    code, _, err = texts.orchestra(*WORDS, "--metadata", "heading=mine")
    assert code == MISUSED
    assert "metadata 'heading': passages of files have their own" in err


def test_a_folder_without_texts_makes_a_store_that_pipelines_can_name(project: Project) -> None:
    (project.folder / "texts").mkdir()
    assert project.orchestra(*WORDS)[:2] == (0, "texts -> notes: no files; 0 passages written\n")
    with LocalBindings(project.folder / "d") as bindings:
        assert bindings.names("store") == ["notes"]
        assert trio.run(bindings.store("notes").count) == 0


@pytest.mark.parametrize("name", ["", " "])
def test_a_store_has_a_name(texts: Project, name: str) -> None:
    code, _, err = texts.orchestra("ingest", "texts", "--store", name, "--data", "d")
    assert code == MISUSED
    assert f"--store {name!r} is not a name" in err
    assert not (texts.folder / "d").exists()


def test_a_folder_without_a_name_of_its_own_is_called_as_it_is_from_above(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that were given as `.` do not take each other's place, and none is there twice."""
    project.write("wiki/index.md", "Wiki.")
    project.write("manual/index.md", "Manual.")
    into = ("--store", "all", "--data", str(project.folder / "d"))

    def told(inside: str, folder: str) -> str:
        monkeypatch.chdir(project.folder / inside)
        code, out, err = project.orchestra("ingest", folder, *into)
        assert code == 0
        return err or out

    assert told("wiki", ".") == "wiki -> all: 1 added; 1 passages written\n"
    assert told("manual", ".") == "manual -> all: 1 added; 1 passages written\n"
    again = "wiki -> all: 1 unchanged; 0 passages written\n"
    assert [told("wiki", "."), told("manual", "../wiki"), told("", "wiki")] == [again] * 3
    twice = "store 'all' has 1 of these texts twice, such as "
    wiki = str(project.folder / "wiki")
    assert told("manual", wiki).startswith(f"{twice}'wiki/index.md'")
    assert told("", "wiki").startswith(f"{twice}'{wiki}/index.md'")


def test_an_embedder_has_a_name(texts: Project) -> None:
    texts.write(
        "orchestra.toml",
        """
        [models.default]
        provider = "extractive"
        [embedders.default]
        provider = "vllm"
        model = "nobody"
        base_url = "http://127.0.0.1:1/v1"
        dimensions = 3
        [embedders.local]
        provider = "wordllama"
        """,
    )
    assert texts.orchestra(*WORDS, "--embedder", "local")[0] == 0
    code, _, err = texts.orchestra(*WORDS, "--embedder", "lokal")
    assert code != 0
    assert "no embedder named 'lokal'" in err
    assert "did you mean 'local'?" in err


def test_what_another_embedder_leaves_to_do_is_told() -> None:
    assert notes(IngestReport("docs"), "s") == []
    (removed,) = notes(IngestReport("docs", dimensions_before=64), "s")
    assert "'s' held vectors of 64 numbers" in removed
    (stale,) = notes(IngestReport("docs", stale=("notes/a.md",)), "s")
    assert "1 texts of other folders" in stale
    assert "'notes/a.md'; ingest their folders again" in stale


def test_a_folder_that_is_not_there_is_an_error(project: Project) -> None:
    code, out, err = project.orchestra(*WORDS)
    assert (code, out) == (MISUSED, "")
    assert err.startswith("error: folder 'texts' cannot be listed")


def test_a_data_folder_that_cannot_be_is_an_error(texts: Project) -> None:
    texts.write("d", "a file")
    code, _, err = texts.orchestra(*WORDS)
    assert code == FAILED
    assert err.startswith("error: ")
    assert "Traceback" not in err


def test_nothing_is_nothing() -> None:
    assert summary(IngestReport("x")) == "no files; 0 passages written"
    assert summary(IngestReport("x", skipped=(Skipped("a", "b"),))).startswith("1 skipped;")


def test_a_terminal_shows_a_bar(texts: Project) -> None:
    ours, theirs = pty.openpty()
    environment = {"TERM": "xterm", "NO_COLOR": "", "COLUMNS": "80"}
    process = texts.launch(*WORDS, env=environment, stderr=theirs)
    os.close(theirs)
    shown = read_terminal(ours)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert b"2 added" in out
    assert "3/3" in shown
    assert "\x1b[?25h" in shown, "the cursor is shown again"


def test_ctrl_c_leaves_what_can_be_gone_on_with(texts: Project) -> None:
    for number in range(600):
        texts.write(f"texts/{number}.md", f"# {number}\n\nA text that is about {number} things.\n")
    ours, theirs = pty.openpty()  # whose room is less than all lines need: it cannot end unheard
    process = texts.launch(*WORDS, env={"NO_COLOR": "1"}, stderr=theirs)
    os.close(theirs)
    assert os.read(ours, 2) == b"1/"
    process.send_signal(signal.SIGINT)
    shown = read_terminal(ours)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (INTERRUPTED, b"")
    assert shown.endswith("error: stopped by Ctrl-C\n")
    code, told, _ = texts.orchestra(*WORDS)
    assert code == 0
    assert " added, " in told
    assert " unchanged, " in told
