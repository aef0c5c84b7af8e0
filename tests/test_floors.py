"""The floors hold against the imports they are there for, and the front door is light."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"

WRONG = {
    "values": ("orchestra.events", "orchestra.values -> orchestra.events"),
    "graph/wrong": ("trio", "orchestra.graph.wrong -> trio"),
    "codecs/wrong": ("socket", "orchestra.codecs.wrong -> socket"),
    "policies/wrong": ("orchestra.engine", "orchestra.policies.wrong -> orchestra.engine"),
    "stores/wrong": ("orchestra.providers", "orchestra.stores.wrong -> orchestra.providers"),
    "server/wrong": ("httpx", "orchestra.server.wrong -> httpx"),
    "cellar": ("json", "- orchestra.cellar"),
}
"""A module, what it must not import, and how the report names that."""

HEAVY = {
    "coredis",
    "cyclopts",
    "httpx",
    "hypercorn",
    "hypothesis",
    "numpy",
    "opentelemetry",
    "psycopg",
    "quart",
    "quart_trio",
    "rich",
    "wordllama",
}


def test_every_wrong_import_is_caught(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "orchestra", tmp_path / "orchestra")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for module, (imported, _) in WRONG.items():
        with (tmp_path / f"orchestra/{module}.py").open("a", encoding="utf-8") as file:
            file.write(f"\nimport {imported}\n")
    report = run(LINT, tmp_path)
    assert report.returncode == 1, report.stderr
    assert [named for _, named in WRONG.values() if named not in report.stdout] == []


def test_the_front_door_is_light() -> None:
    """`import orchestra` loads nothing that only a server, a store or a terminal needs."""
    loaded = run("import orchestra, sys; print(*sys.modules)", ROOT).stdout.split()
    assert "orchestra" in loaded
    assert {module.partition(".")[0] for module in loaded} & HEAVY == set()


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
