"""The project in docs/project.md is a project: written into an empty folder, it works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "project.md"
FILE = re.compile(
    r"^\*\*`(?P<path>\S+)`\*\*\n\n```\w+\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE
)


def test_the_project_is_checked_and_run_and_its_tests_pass(tmp_path: Path) -> None:
    """With what the document says that each command tells."""
    files = FILE.findall(DOCUMENT.read_text("utf-8"))
    assert len(files) == 7
    for name, text in files:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    assert "2 pipelines, no problems" in told(tmp_path, "orchestra", "check")
    asked = ("run", "pipelines.greeting", "--name", "Ada")
    assert "Hello, Ada." in told(tmp_path, "orchestra", *asked)
    assert "2 passed" in told(tmp_path, "pytest", "-q", "-p", "no:cacheprovider", by="-P")


def told(folder: Path, *command: str, by: str = "") -> str:
    """What a module says as a command in the folder, which has to succeed.

    With `by="-P"`, Python does not look for modules in the folder by itself, as for scripts.
    """
    options = [by] if by else []
    done = subprocess.run(
        [sys.executable, *options, "-m", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
