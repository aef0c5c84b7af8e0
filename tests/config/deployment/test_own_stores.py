"""Stores of a project's own classes: found by their name in the file, made late, and closed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from orchestra import open_engine, pipeline, step
from orchestra.cli.deployment_checks import missing_for
from orchestra.cli.ingest import ingest_shown
from orchestra.config import LocalBindings
from orchestra.config.deployment.own_classes import make_own
from orchestra.config.reading import read
from orchestra.errors import BindingError, ConfigError
from orchestra.providers.known.settings import OwnClass
from orchestra.steps import embed, retrieve
from orchestra.values import Passage

SHELVES = """
from orchestra.stores.memory import MemoryStore

class Mine(MemoryStore):
    closed = []

    def __init__(self, name="mine"):
        super().__init__(name)
        self.name = name

    def close(self):
        self.closed.append(self)

class Kept:
    class Inner(Mine): ...

class Asked:
    async def search(self, vector, *, top, where=None):
        return []

class Breaks:
    def __init__(self):
        raise OSError("the disk is full")

class Misspells:
    def __init__(self):
        self.nmae.strip()

NOTHING = 3
def nothing(): ...
"""
FILE = '[stores.mine]\nclass = "own_shelves:Mine"\noptions = { name = "m" }\n'


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "own_shelves.py").write_text(SHELVES)
    (tmp_path / "own_broken.py").write_text("import nothing_that_is_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in ("own_shelves", "own_broken"):
        sys.modules.pop(name, None)


def bindings(text: str = FILE) -> LocalBindings:
    return LocalBindings(Path("data"), read(text, Path("orchestra.toml")), {})


@step
def texts(passages: list[Passage]) -> list[str]:
    return [each.text for each in passages]


@pipeline
def found(question: str) -> list[str]:
    return texts(retrieve(embed(question), store="mine", top=1))


def test_what_is_ingested_into_it_is_found_in_it_and_it_is_closed(project: Path) -> None:
    (project / "notes").mkdir()
    (project / "notes" / "doors.md").write_text("The door opens at nine.")

    async def main() -> list[str]:
        with bindings() as deployed:
            await ingest_shown(Path("notes"), "mine", deployed)
            async with open_engine(deployed) as engine:
                return await engine.run(found, question="When does the door open?")

    assert trio.run(main) == ["The door opens at nine."]
    (closed,) = sys.modules["own_shelves"].Mine.closed
    assert closed.name == "m"
    assert not (project / "data").exists()


def test_it_is_made_when_it_is_asked_for_and_once() -> None:
    with bindings() as deployed:
        assert deployed.names("store") == ["mine"]
        assert "own_shelves" not in sys.modules
        assert deployed.store("mine") is deployed.store("mine")
        with pytest.raises(BindingError, match="known: 'mine'"):
            deployed.store("mien")
    with bindings() as deployed:
        deployed.names("store")
    with bindings() as deployed:
        deployed.stores.make_own()
    assert len(sys.modules["own_shelves"].Mine.closed) == 2


def test_it_takes_the_place_of_one_in_the_file_of_the_same_name() -> None:
    async def main() -> None:
        with bindings("") as before:
            await before.stores.collection("mine").make()
            await before.stores.collection("others").make()
        with bindings() as deployed:
            assert deployed.names("store") == ["mine", "others"]
            assert type(deployed.store("mine")).__name__ == "Mine"
            assert type(deployed.store("others")).__name__ == "SqliteCollection"

    trio.run(main)


@pytest.mark.parametrize("target", ["own_shelves:Kept.Inner", "own_shelves:Asked"])
def test_a_class_in_a_class_will_do_and_so_will_one_that_only_searches(target: str) -> None:
    made = make_own(OwnClass(seam="store", target=target), "x", "")
    assert type(made).__name__ == target.rpartition(".")[2].rpartition(":")[2]
    with bindings(f'[stores.mine]\nclass = "{target}"\n') as deployed:
        assert deployed.stores.to_fill("mine") is deployed.stores.to_fill("mine")


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("own_shelfes:Mine", "does not exist: no module 'own_shelfes' is in "),
        (
            "own_shelves:Mien",
            "own_shelves:Mien does not exist: there is no 'Mien'; did you mean 'Mine'?",
        ),
        ("own_shelves:Kept.Outer", "there is no 'Outer'"),
        ("own_shelves:NOTHING", "cannot be made: TypeError"),
        ("own_shelves:nothing", "gave a NoneType, which has no `search`"),
        ("own_shelves:Breaks", "OSError: the disk is full"),
        ("own_shelves:Misspells", "AttributeError: 'Misspells' object has no attribute 'nmae'"),
        ("own_broken:Mine", "ModuleNotFoundError: No module named 'nothing_that_is_there'"),
    ],
)
def test_what_cannot_be_made_is_told_with_its_line(target: str, told: str) -> None:
    text = FILE.replace("own_shelves:Mine", target).replace("options", "# ")
    with bindings(text) as deployed, pytest.raises(BindingError) as caught:
        deployed.store("mine")
    assert str(caught.value).startswith("orchestra.toml:1: store 'mine': ")
    assert told in str(caught.value)
    assert f"{caught.value} [store-unfit]" in [*missing_for(deployed.deployment)]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("options = {}", 'it has no class [missing-key]\n    fix: add class = "stores:Shelf"'),
        ('class = "own_shelves"', "is not a module, a colon and a class in it"),
        ('class = "a:B"\nclas = "a:B"', "there is no such key"),
        ('class = "a:B"\noptions = { password = "x" }', "a secret must not stand in this file"),
    ],
)
def test_what_is_wrong_in_the_file_is_told(table: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(f"[stores.mine]\n{table}\n", Path("orchestra.toml"))
    assert told in str(caught.value)
