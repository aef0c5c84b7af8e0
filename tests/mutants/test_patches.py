"""A mutant is a patch of the code as it is, names tests that there are, and says what users see.

Applying all takes a second, trying all some minutes: who changes the code hears of it here.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.mutants import run

PATCHES = sorted(run.HERE.glob("*.patch"))


@pytest.mark.skipif(shutil.which("git") is None, reason="git applies the patches")
def test_every_patch_applies() -> None:
    assert len(PATCHES) > 100
    assert [patch.stem for patch in PATCHES if not applies(patch)] == []


def test_every_patch_names_tests_that_there_are() -> None:
    named = {(patch.stem, test) for patch in PATCHES for test in run.tests_of(patch)}
    assert [(name, test) for name, test in sorted(named) if not exists(test)] == []


def test_every_patch_says_what_a_user_would_see() -> None:
    second = {patch.stem: patch.read_text().splitlines()[1] for patch in PATCHES}
    assert [name for name, line in second.items() if not line.startswith("# what: ")] == []


def applies(patch: Path) -> bool:
    """Whether git would change our code with it."""
    command = ["git", "apply", "--check", str(patch)]
    return subprocess.run(command, cwd=run.ROOT, capture_output=True, check=False).returncode == 0


def exists(test: str) -> bool:
    """Whether there is a file, or a folder, of this name, and in it the one function named."""
    path, _, name = test.partition("::")
    where = run.ROOT / path
    function = name.rpartition("::")[2].partition("[")[0]
    return where.exists() and (not name or f"def {function}(" in where.read_text())
