"""A user's own modules, made anew beside the old ones: all of them, or none."""

from __future__ import annotations

import importlib
import json
import sys
from types import ModuleType

import pytest

from orchestra.cli.serving.modules import own_folders, own_modules, reimported
from tests.cli.conftest import Project


def here(project: Project) -> None:
    """Make it importable, as `serve` does."""
    sys.path.insert(0, str(project.folder))


@pytest.fixture
def three(project: Project) -> Project:
    """A namespace with two modules, one of which imports the other, and one in a package."""
    here(project)
    project.write("pipelines/shared.py", "class Thing: version = 1\n")
    project.write(
        "pipelines/answer.py", "from pipelines.shared import Thing\nimport helpers.deep\n"
    )
    project.write("helpers/__init__.py", "")
    project.write("helpers/deep.py", "")
    importlib.import_module("pipelines.answer")
    return project


NAMES = ["helpers", "helpers.deep", "pipelines", "pipelines.answer", "pipelines.shared"]


def imported() -> dict[str, ModuleType]:
    return {name: sys.modules[name] for name in NAMES}


def test_what_is_ones_own_is_what_lies_here(three: Project) -> None:
    assert sorted(own_modules()) == NAMES
    assert own_folders() == {three.folder / "pipelines", three.folder / "helpers"}


def test_all_are_new_and_know_each_other_and_what_is_installed_is_the_same(
    three: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    with reimported():  # what is compiled now is of the same second as the edit below
        importlib.import_module("pipelines.answer")
    before, thing = imported(), sys.modules["pipelines.shared"].Thing
    with reimported():
        three.write("pipelines/shared.py", "class Thing: version = 2\n")  # of the same size
        answer = importlib.import_module("pipelines.answer")
        assert importlib.import_module("json") is json
    after = imported()
    assert not any(after[name] is before[name] for name in NAMES)
    assert answer.Thing is sys.modules["pipelines.shared"].Thing
    assert (thing.version, answer.Thing.version) == (1, 2)
    assert before["pipelines.answer"].Thing is thing, "old runs go on in the old ones"
    assert sys.modules["pipelines"].answer is answer


def test_left_with_an_error_the_old_ones_are_back_and_nothing_else(three: Project) -> None:
    before, path = imported(), list(sys.path)
    three.write("pipelines/more.py", "")
    three.write(
        "pipelines/answer.py", "import pipelines.more\nimport sys\nsys.path.append('x')\n1 / 0\n"
    )
    with pytest.raises(ZeroDivisionError), reimported():
        importlib.import_module("pipelines.answer")
    assert imported() == before
    assert sorted(own_modules()) == NAMES
    assert sys.modules["pipelines"].answer is before["pipelines.answer"]
    assert sys.path == path


def test_an_environment_that_lies_here_is_none_of_ones_own(project: Project) -> None:
    here(project)
    installed = project.write(".venv/lib/python3.11/site-packages/vendored.py", "")
    sys.path.insert(0, str(installed.parent))
    vendored = importlib.import_module("vendored")
    try:
        assert own_modules() == {}
        assert own_modules({"vendored"}) == {"vendored": vendored}, "unless it is what is served"
    finally:
        del sys.modules["vendored"]


def test_from_the_root_of_all_files_only_what_is_not_installed_is_ones_own(
    three: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    found = {name.partition(".")[0] for name in own_modules()}
    assert {"pipelines", "helpers"} <= found
    assert not found & {"json", "os", "trio", "pytest", "orchestra"}


def test_what_lies_beside_a_file_elsewhere_is_ones_own(project: Project) -> None:
    folder = project.folder.parent / "elsewhere"
    project.write("../elsewhere/single.py", "import beside")
    project.write("../elsewhere/beside.py", "")
    sys.path.insert(0, str(folder))
    importlib.import_module("single")
    assert own_modules() == {}
    assert sorted(own_modules({"single"})) == ["beside", "single"]
