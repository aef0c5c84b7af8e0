"""The floors hold against the imports they are there for, and the front door is light."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from orchestra.config.built_in import PROVIDER_VARIABLES

ROOT = Path(__file__).parent.parent
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"

WRONG = {
    "values": ("orchestra.events", "orchestra.values -> orchestra.events"),
    "graph/wrong": ("trio", "orchestra.graph.wrong -> trio"),
    "codecs/wrong": ("socket", "orchestra.codecs.wrong -> socket"),
    "policies/wrong": ("orchestra.engine", "orchestra.policies.wrong -> orchestra.engine"),
    "stores/wrong": ("orchestra.providers", "orchestra.stores.wrong -> orchestra.providers"),
    "server/wrong": ("httpx", "orchestra.server.wrong -> httpx"),
    "server/front/wrong": (
        "orchestra.server.openai.chat",
        "orchestra.server.front.wrong -> orchestra.server.openai.chat",
    ),
    "codecs/framing/wrong": (
        "orchestra.codecs.cohere.dialect",
        "orchestra.codecs.framing.wrong -> orchestra.codecs.cohere.dialect",
    ),
    "providers/connections/wrong": (
        "orchestra.providers.remote",
        "orchestra.providers.connections.wrong -> orchestra.providers.remote",
    ),
    "cli/running/wrong": (
        "orchestra.cli.serving.serve",
        "orchestra.cli.running.wrong -> orchestra.cli.serving.serve",
    ),
    "engine/lanes/wrong": (
        "orchestra.engine.calls.calls",
        "orchestra.engine.lanes.wrong -> orchestra.engine.calls.calls",
    ),
    "config/toml/wrong": (
        "orchestra.config.reading",
        "orchestra.config.toml.wrong -> orchestra.config.reading",
    ),
    "steps/texts/wrong": (
        "orchestra.steps.ingest",
        "orchestra.steps.texts.wrong -> orchestra.steps.ingest",
    ),
    "testing/playing/wrong": (
        "orchestra.testing.simulate",
        "orchestra.testing.playing.wrong -> orchestra.testing.simulate",
    ),
    "stores/sqlite_files/wrong": (
        "orchestra.stores.sqlite",
        "orchestra.stores.sqlite_files.wrong -> orchestra.stores.sqlite",
    ),
    "graph/source/wrong": (
        "orchestra.graph.nodes",
        "orchestra.graph.source.wrong -> orchestra.graph.nodes",
    ),
    "compiler/blocks/wrong": (
        "orchestra.compiler.checks.edges",
        "orchestra.compiler.blocks.wrong -> orchestra.compiler.checks.edges",
    ),
    "cellar": ("json", "- orchestra.cellar"),
}
"""A module, what it must not import, and how the report names that."""

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
LAYERS: dict[str, list[str]] = {
    each["containers"][0].removeprefix("orchestra").removeprefix("."): each["layers"]
    for each in CONTRACTS["contracts"]
    if each["type"] == "layers"
}
"""The floors that are checked, of each folder that has some; those of the whole are of ""."""

HEAVY = {
    "coredis",
    "cyclopts",
    "httpx",
    "hypercorn",
    "hypothesis",
    "numpy",
    "opentelemetry",
    "prometheus_client",
    "psycopg",
    "quart",
    "quart_trio",
    "rich",
    "wordllama",
}

LATER = {
    "access.keyring",
    "access.keys",
    "access.token",
    "access.wanted",
    "cli.callers.key_options",
    "cli.callers.keys",
    "cli.running.run",
    "config.deployment.deployment",
    "config.deployment.environment",
    "observe.exposition",
    "observe.otel",
    "observe.spans",
    "observe.traces",
    "policies.limits.allowance",
    "policies.limits.callers",
    "providers.known.catalog",
    "providers.known.settings",
    "runs.following",
    "runs.publisher",
    "server.inputs.multipart",
    "server.front.ws_messages",
    "server.openai.chat",
    "server.models.shapes",
    "server.openapi.description",
    "server.inputs.forms",
    "server.runs.failures",
    "server.runs.problems",
    "server.runs.resources",
    "server.inputs.uploads",
    "server.runs.views",
    "server.runs.durable",
    "server.runs.preferences",
    "server.websocket",
}
"""What a server needs only when a client asks for it, within `orchestra`."""
ASKED = ("server.openai.chat", "server.openai.stored_chats", "server.runs.resources")
MADE = ("policies.limits.limited", "policies.guard", "providers.remote", "providers.network")
START = """
DATA, PIPELINE, CONFIG = {data!r}, "tests.server.served:count", {config!r}
import sys, trio
from functools import partial
from pathlib import Path
from orchestra.cli.app import _app
from orchestra.cli.serving.serve import Loader
from orchestra.observe.counting import counting
from orchestra.server.processes.serve import serve_loaded
from orchestra.server.processes.serving import House
from orchestra.server.connections.sockets import bind

def ready(url):
    print(*sys.modules)
    scope.cancel()

async def main():
    with scope:
        loader = Loader([PIPELINE], Path(DATA), Path(CONFIG) if CONFIG else None, "127.0.0.1", dict())
        listen = partial(bind, "127.0.0.1", 0)
        await serve_loaded(loader.load, listen, House(counting=counting()), on_ready=ready)

_app([])
scope = trio.CancelScope()
trio.run(main)
"""


def test_every_wrong_import_is_caught(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "orchestra", tmp_path / "orchestra")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for module, (imported, _) in WRONG.items():
        with (tmp_path / f"orchestra/{module}.py").open("a", encoding="utf-8") as file:
            file.write(f"\nimport {imported}\n")
    report = run(LINT, tmp_path)
    assert report.returncode == 1, report.stderr
    assert [named for _, named in WRONG.values() if named not in report.stdout] == []


@pytest.mark.parametrize("folder", LAYERS)
def test_the_floors_in_the_docs_are_those_that_are_checked(folder: str) -> None:
    text = (ROOT / "docs/architecture.md").read_text("utf-8").partition("## The floors")[2]
    blocks = [block.strip().splitlines() for block in text.split("```")[1::2]]
    told = next(lines for lines in blocks if lines[0] == f"{folder}/")[1:] if folder else blocks[0]
    named = [re.findall(r"\w+", re.split(" {2,}", line.strip())[0]) for line in told]
    checked = [re.findall(r"\w+", layer) for layer in LAYERS[folder]]
    assert named == checked, (
        f"docs/architecture.md and pyproject.toml differ in the floors {folder}/"
    )


def test_the_front_door_is_light() -> None:
    """`import orchestra` loads nothing that only a server, a store or a terminal needs."""
    loaded = run("import orchestra, sys; print(*sys.modules)", ROOT).stdout.split()
    assert "orchestra" in loaded
    assert {module.partition(".")[0] for module in loaded} & HEAVY == set()


@pytest.mark.parametrize("module", sorted({*LATER, *ASKED, *MADE}))
def test_a_module_that_is_named_here_is_there(module: str) -> None:
    assert find_spec(f"orchestra.{module}") is not None


def test_a_start_imports_nothing_that_no_client_may_ask_for(tmp_path: Path) -> None:
    """The first event is a whole start away: each module costs it a quarter of a millisecond."""
    report = run(START.format(data=str(tmp_path), config=""), ROOT)
    loaded = set(report.stdout.split())
    assert "orchestra.server.app" in loaded, report.stderr
    assert {each for each in LATER if f"orchestra.{each}" in loaded} == set()
    assert "prometheus_client" not in loaded


def test_a_server_of_models_is_ready_when_it_has_imported_what_they_are_asked_by(
    tmp_path: Path,
) -> None:
    """Otherwise the first request would, and everything else would stand still meanwhile."""
    config = tmp_path / "orchestra.toml"
    config.write_text('[models.fast]\nprovider = "openai"\nmodel = "m"\nkey_env = "PATH"\n')
    report = run(START.format(data=str(tmp_path), config=str(config)), ROOT)
    loaded = set(report.stdout.split())
    assert {each for each in (*ASKED, *MADE) if f"orchestra.{each}" not in loaded} == set()


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    environ = {name: value for name, value in os.environ.items() if name not in PROVIDER_VARIABLES}
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=environ
    )
