"""A server whose stores are in a Postgres that is away: it starts, says so, and recovers by itself."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import trio

from orchestra.cli.failures import FAILED
from orchestra.cli.ingest import ingest_shown
from orchestra.config import LocalBindings
from orchestra.config.reading import read
from tests.cli.conftest import Project
from tests.cli.serving.test_serve import get, listening
from tests.patience import PATIENCE_S
from tests.servers.postgres import PASSWORD, USER, postgres

SEARCH = """\
    from orchestra import pipeline, step
    from orchestra.steps import embed, retrieve
    from orchestra.values import Passage


    @step
    def texts(passages: list[Passage]) -> list[str]:
        return [each.text for each in passages]


    @pipeline
    def found(question: str) -> list[str]:
        return texts(retrieve(embed(question), store="notes", top=1))
"""
ASKED = "v1/pipelines/found/runs?question=When+does+the+door+open"


def ready(url: str) -> tuple[int, str]:
    """The status of `/readyz`, and what it says of the stores."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=PATIENCE_S) as response:
            return response.status, json.load(response)["checks"]["stores"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["checks"]["stores"]


def test_it_starts_and_says_so_and_recovers_by_itself(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres() as server:
        place = server.database().place
        file = f'[stores]\nurl = "{place}"\nuser = "{USER}"\npassword_env = "WORD"\n'
        project.write("pipelines/search.py", SEARCH)
        project.write("orchestra.toml", file)
        project.write("notes/doors.md", "The door opens at nine.")
        monkeypatch.setenv("WORD", PASSWORD)

        async def fill() -> None:
            read_file = read(file, Path("orchestra.toml"))
            with LocalBindings(project.folder / "data", read_file, {"WORD": PASSWORD}) as bindings:
                await ingest_shown(project.folder / "notes", "notes", bindings)

        trio.run(fill)
        server.kill()
        code, out, _ = project.orchestra("check")
        assert code == FAILED
        assert "the stores of found cannot be checked" in out
        assert "check whether Postgres runs and listens there" in out
        for words in (
            ("ingest", "notes", "--store", "notes"),
            ("stores", "list"),
            ("stores", "delete", "notes"),
        ):
            code, _, err = project.orchestra(*words)
            assert code == FAILED
            assert "check whether Postgres runs and listens there" in err
        process = project.launch("serve", "--port", "0")
        url = listening(process)
        assert ready(url) == (503, "failed")
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(f"{url}/{ASKED}")
        with refused.value as answer:
            assert "StoreError" in answer.read().decode()
        server.start()
        until = time.monotonic() + PATIENCE_S
        while ready(url) != (200, "ok"):
            assert time.monotonic() < until
        assert get(f"{url}/{ASKED}")["result"] == ["The door opens at nine."]
        assert project.orchestra("stores", "list")[1].splitlines()[1].split() == [
            *("notes", "1", "1", "256")
        ]
        code, out, _ = project.orchestra("stores", "delete", "notes")
        assert (code, out) == (0, f"{place}: deleted notes, with 1 passage\n")
