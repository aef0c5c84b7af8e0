"""Sources: what is under a folder, what a folder is called, and what is one file twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.steps.texts.sources import NamedFolder, is_under, name_of


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


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        (".", "wiki"),
        ("deep/..", "wiki"),
        ("..", "texts"),
        ("../manual", "manual"),
        ("../../..", None),  # the root has none
        ("docs", None),
        ("./docs/../docs", None),
        ("/texts/wiki", None),
    ],
)
def test_a_folder_without_a_name_of_its_own_has_the_last_one_of_its_path(
    monkeypatch: pytest.MonkeyPatch, folder: str, name: str | None
) -> None:
    monkeypatch.setattr(Path, "absolute", lambda path: Path("/texts/wiki") / path)
    assert name_of(Path(folder)) == name


def test_a_file_by_another_name_is_found_from_here_and_from_above(tmp_path: Path) -> None:
    folder = NamedFolder.of(tmp_path / "wiki", "texts")
    others = [
        "wiki/a.md",
        f"{tmp_path}/wiki/a.md",
        f"{tmp_path}/wiki/gone.md",
        "other/a.md",
        "https://wiki/a.md",
    ]
    found = folder.doubles([folder.source(tmp_path / "wiki/a.md")], others)
    assert found == (f"{tmp_path}/wiki/a.md", "wiki/a.md")
    assert folder.doubles(["texts/a.md"], []) == ()
