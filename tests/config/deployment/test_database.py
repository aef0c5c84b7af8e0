"""A deployment whose stores are in Postgres: what the commands and a server make of it."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import trio

from orchestra import open_engine, pipeline, step
from orchestra.cli.deployment_checks import missing_for
from orchestra.cli.ingest import ingest_shown
from orchestra.config import LocalBindings
from orchestra.config.reading import read
from orchestra.errors import CheckError, StoreError
from orchestra.server.health import CHECK_S, Health
from orchestra.steps import embed, retrieve
from orchestra.stores.postgres.collection import PostgresCollection
from orchestra.values import Passage
from tests.servers.postgres import PASSWORD, USER, shared_postgres

FILE = Path("orchestra.toml")
ENVIRON = {"WORD": PASSWORD}


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file that names a new database; the working folder is an empty one."""
    monkeypatch.chdir(tmp_path)
    place = shared_postgres().database().place
    return f'[stores]\nurl = "{place}"\nuser = "{USER}"\npassword_env = "WORD"\ndata = "data"\n'


def bindings(text: str) -> LocalBindings:
    return LocalBindings(Path("data"), read(text, FILE), ENVIRON)


@step
def texts(passages: list[Passage]) -> list[str]:
    return [each.text for each in passages]


@pipeline
def found(question: str) -> list[str]:
    return texts(retrieve(embed(question), store="notes", top=1))


def test_what_is_ingested_on_one_host_is_found_on_another(text: str, tmp_path: Path) -> None:
    Path("notes").mkdir()
    Path("notes/doors.md").write_text("The door opens at nine.")
    Path("notes/bikes.md").write_text("Bikes stay outside.")

    async def here() -> None:
        with bindings(text) as deployed:
            assert (await ingest_shown(Path("notes"), "notes", deployed)).passages == 2
            assert (await ingest_shown(Path("notes"), "notes", deployed)).passages == 0
            await ingest_shown(tmp_path / "empty", "nothing", deployed)
            assert deployed.names("store") == ["notes", "nothing"]

    async def elsewhere() -> list[str]:
        with bindings(text) as deployed:
            async with open_engine(deployed) as engine:
                return await engine.run(found, question="When does the door open?")

    Path("empty").mkdir()
    trio.run(here)
    assert trio.run(elsewhere) == ["The door opens at nine."]
    assert not (tmp_path / "data").exists()


def test_ingesting_makes_the_index_that_the_file_says_and_removes_it(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestra.stores.postgres.hnsw.INDEXED_FROM", 1)
    Path("notes").mkdir()
    Path("notes/doors.md").write_text("The door opens at nine.")
    asked = "SELECT count(*) FROM pg_class WHERE relname ~ '^passage_hnsw_'"

    async def ingested(file: str) -> None:
        with bindings(file) as deployed:
            await ingest_shown(Path("notes"), "notes", deployed)

    for line, indexes in (('index = "hnsw"\n', 1), ("", 0), ('index = "none"\n', 0)):
        trio.run(ingested, f"{text}{line}")
        name = text.partition("\n")[2].partition('"\n')[0].rpartition("/")[2]
        assert shared_postgres().ask(asked, database=name) == (indexes,)


def test_its_stores_are_those_of_the_database_and_of_own_classes(text: str) -> None:
    own = '[stores.mine]\nclass = "orchestra.stores.memory:MemoryStore"\n'
    with bindings(f"{text}{own}") as deployed:
        trio.run(deployed.stores.make, "theirs")
        assert deployed.names("store") == ["mine", "theirs"]
        assert isinstance(deployed.store("theirs"), PostgresCollection)
        assert not isinstance(deployed.store("mine"), PostgresCollection)


def test_names_that_a_step_makes_up_are_not_kept(text: str) -> None:
    with bindings(text) as deployed:
        for number in range(100):
            deployed.store(f"of-tenant-{number}")
        assert sum(isinstance(each, PostgresCollection) for each in gc.get_objects()) < 10


def test_a_store_that_is_not_there_is_a_problem_of_the_pipeline(text: str) -> None:
    async def main() -> None:
        with bindings(text) as deployed:
            await deployed.stores.make("nodes")
            async with open_engine(deployed) as engine:
                engine.plan(found)

    with pytest.raises(CheckError, match="did you mean 'nodes'"):
        trio.run(main)


async def checks(deployed: LocalBindings) -> str:
    tested = dict[str, str]()
    async with trio.open_nursery() as nursery:
        health = Health(deployed, nursery)
        with trio.move_on_after(CHECK_S * 10):
            try:
                await health._checks()["stores"]()
            except StoreError as error:
                tested["stores"] = str(error)
    return tested.get("stores", "ok")


def test_a_server_is_ready_if_the_database_is(text: str) -> None:
    with bindings(text) as deployed:
        assert trio.run(checks, deployed) == "ok"
    with bindings(text.replace(str(shared_postgres().port), "1")) as deployed:
        assert "check whether Postgres runs and listens there" in trio.run(checks, deployed)


def test_what_is_not_installed_is_told_with_its_line(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(missing_for(read(text, FILE))) == []
    monkeypatch.setattr("orchestra.stores.postgres.settings.find_spec", lambda _: None)
    (told,) = missing_for(read(text, FILE))
    assert told.startswith("orchestra.toml:2: stores.url: postgresql://")
    assert "pip install 'orchestra[postgres]' [not-installed]" in told
