"""The project in docs/project.md is a project: written into an empty folder, it works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "project.md"
FILE = re.compile(
    r"^\*\*`(?P<path>\S+)`\*\*\n\n```\w+\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE
)


def test_the_project_is_checked_and_run_and_its_tests_pass(tmp_path: Path) -> None:
    """With what the document says that each command tells."""
    write(tmp_path)
    assert "2 pipelines, no problems" in told(tmp_path, "orchestra", "check")
    asked = ("run", "pipelines.greeting", "--name", "Ada")
    assert "Hello, Ada." in told(tmp_path, "orchestra", *asked)
    alone = {"PYTHONSAFEPATH": "1"}  # the folder is not looked into by itself, as for a script
    assert "2 passed" in told(tmp_path, "pytest", "-q", "-p", "no:cacheprovider", env=alone)


@pytest.mark.may_skip("`nox -s types` has mypy and asks this, too")
def test_mypy_has_nothing_against_the_project(tmp_path: Path) -> None:
    """With the layout of the document, in which no folder has an `__init__.py`."""
    pytest.importorskip("mypy")
    write(tmp_path)
    ways = {"MYPYPATH": str(DOCUMENT.parents[1])}
    assert "no issues found" in told(tmp_path, "mypy", "--strict", ".", env=ways)


def write(folder: Path) -> None:
    """Every file of the document."""
    files = FILE.findall(DOCUMENT.read_text("utf-8"))
    assert len(files) == 7
    for name, text in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def told(folder: Path, *command: str, env: Mapping[str, str] = MappingProxyType({})) -> str:
    """What a module says as a command in the folder, which has to succeed."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
