"""The folder of the workers' counts: one for each server, and none that outlives it for long."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from orchestra.cli.serving.counts_folder import LOCK, PREFIX, counts_folder
from tests.cli.conftest import ROOT, out_of
from tests.patience import line_with

HOLD = """
from orchestra.cli.serving.counts_folder import counts_folder
with counts_folder() as folder:
    print(folder, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_what_a_killed_supervisor_has_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    """Neither that of one that lives, nor what only has such a name."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / LOCK).touch()
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    (tmp_path / f"{PREFIX}file").touch()
    (tmp_path / f"{PREFIX}unmade").mkdir()
    kept = set(tmp_path.iterdir())
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=ROOT, stdin=pipe, stdout=pipe, bufsize=0
    ) as process:
        held = Path(line_with(out_of(process), "").strip())
        with counts_folder() as ours:
            assert set(tmp_path.iterdir()) == {*kept, held, ours}
        process.kill()
        process.wait()
        assert set(tmp_path.iterdir()) == {*kept, held}
        with counts_folder() as ours:
            assert set(tmp_path.iterdir()) == {*kept, ours}
    assert set(tmp_path.iterdir()) == kept
    assert (elsewhere / LOCK).exists()
