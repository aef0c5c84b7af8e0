"""That keys were asked for, remembered: by a reload, by a worker that replaces another, by a start."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from orchestra.cli.serving import required_keys
from orchestra.config import LocalBindings
from orchestra.config.finding import read_deployment
from orchestra.errors import ServeError
from orchestra.observe.counting import FOLDER_ENV
from tests.cli.conftest import Project
from tests.cli.serving.test_reloading import IN_FILE, WANTED, Loading, admitted, loaded, loader_of


def refused(loader: Loading) -> None:
    """Load what then cannot be served, for a reason of its own."""
    with loader.load() as found:
        assert found.admit is not None
        trio.run(found.admit)
        found.close()
        raise ServeError("otherwise")


def emptied(project: Project) -> None:
    """A state that comes back without anything, as a Redis does that kept nothing on a disk."""
    for file in (project.folder / ".orchestra").glob("state.sqlite*"):
        file.unlink()


def test_a_state_that_comes_back_empty_does_not_open_a_server(say: Project) -> None:
    """Neither a reload nor a start; somebody has to say so, and then it is forgotten."""
    say.write("orchestra.toml", IN_FILE)
    with (loader := loader_of(say)):
        trio.run(loaded(loader).keyring.create, WANTED)
        assert admitted(loader).keyring is not None
    emptied(say)
    with (loader := loader_of(say)):
        for _ in range(2):
            assert admitted(loader).keyring is not None
            assert loader.locked
        say.write("orchestra.toml", f'{IN_FILE}[server]\nkeys = "none"\n')
        assert admitted(loader).keyring is None
    say.write("orchestra.toml", IN_FILE)
    with (loader := loader_of(say)):
        assert admitted(loader).unlocked is not None


def test_keys_that_a_running_server_has_noticed_are_remembered_too(say: Project) -> None:
    say.write("orchestra.toml", IN_FILE)
    with (loader := loader_of(say)):
        unlocked = admitted(loader).unlocked
        assert unlocked is not None
        with LocalBindings(Path(".orchestra"), read_deployment(Path("orchestra.toml"))) as beside:
            trio.run(beside.keyring.create, WANTED)
        assert not trio.run(unlocked.still)
    emptied(say)
    with (loader := loader_of(say)):
        assert admitted(loader).keyring is not None


def test_what_was_refused_asks_nobody(say: Project) -> None:
    """It was loaded with keys required, and never served."""
    with (loader := loader_of(say)):
        assert admitted(loader).unlocked is not None
        say.write("orchestra.toml", f'{IN_FILE}[server]\nkeys = "required"\n')
        with pytest.raises(ServeError, match="otherwise"):
            refused(loader)
        say.write("orchestra.toml", IN_FILE)
        assert admitted(loader).unlocked is not None
    assert not (say.folder / ".orchestra" / required_keys.FILE).exists()


def test_keys_that_were_asked_for_elsewhere_are_told_of(say: Project) -> None:
    say.write("orchestra.toml", IN_FILE)
    with (loader := loader_of(say)):
        trio.run(loaded(loader).keyring.create, WANTED)
        admitted(loader)
    say.write("orchestra.toml", '[state]\nurl = "sqlite:other.sqlite"\n')
    with (
        loader_of(say) as loader,
        pytest.raises(ServeError, match=r"those in \S+/state.sqlite are missing"),
    ):
        admitted(loader)


def test_a_worker_is_told_by_the_one_that_it_replaces(
    say: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the data folder, which has the keys, is emptied."""
    monkeypatch.setenv(FOLDER_ENV, str(tmp_path))
    with (loader := loader_of(say, worker=1)):
        trio.run(loaded(loader).keyring.create, WANTED)
        assert admitted(loader).keyring is not None
    assert not (say.folder / ".orchestra" / required_keys.FILE).exists(), "the keys say so"
    (say.folder / ".orchestra" / "keys.sqlite").unlink()
    with (loader := loader_of(say, worker=1)):
        assert admitted(loader).keyring is not None
    with (loader := loader_of(say)):
        assert admitted(loader).unlocked is not None, "a server of its own"


def test_a_memory_that_cannot_be_written_is_in_the_log(
    say: Project, caplog: pytest.LogCaptureFixture
) -> None:
    """And one that cannot be read has asked for keys."""
    say.write("orchestra.toml", IN_FILE)
    file = say.write(".orchestra/keys-required/in-the-way", "")
    with loader_of(say) as loader, pytest.raises(ServeError, match="that cannot be read"):
        admitted(loader)
    with LocalBindings(Path(".orchestra"), read_deployment(Path("orchestra.toml"))) as beside:
        trio.run(beside.keyring.create, WANTED)
    with (loader := loader_of(say)):
        assert admitted(loader).keyring is not None
        assert 'write keys = "required"' in caplog.text
        say.write("orchestra.toml", f'{IN_FILE}[server]\nkeys = "none"\n')
        assert admitted(loader).keyring is None
        assert "this server may still require keys" in caplog.text
    assert file.exists()
