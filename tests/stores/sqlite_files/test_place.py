"""The file that a state has open is the one at its path, or it is told that it is not."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import StateError
from orchestra.stores.sqlite import SqliteStores
from orchestra.stores.sqlite_files import place as sqlite_place
from orchestra.stores.sqlite_files.ownership import make_file, make_folder
from orchestra.stores.sqlite_files.place import LOOK_S, Place
from orchestra.stores.state.private import PrivateState
from orchestra.stores.state.sqlite import SqliteState
from tests.stores.sqlite_files.test_spot import looked, put

KINDS = [SqliteState, PrivateState]


def beside(path: Path) -> list[Path]:
    """All files of a state."""
    return list(path.parent.glob(f"{path.name}*"))


def closed(path: Path, **kept: bytes) -> Path:
    """A state that somebody else has made and closed."""
    with SqliteState(path, timeout_s=5) as state:
        trio.run(lambda: put(state, **kept))
    return path


def open_beside(
    kind: type[SqliteState],
    path: Path,
    done: Callable[[], object],
    main: Callable[[SqliteState], Awaitable[None]],
) -> None:
    """Have a state open that has a=1, in all ways; then something is done to its file."""

    async def run() -> None:
        with kind(path, timeout_s=5) as state:
            await put(state, a=b"1")
            assert await looked(state, "a") == (b"1",)
            done()
            await main(state)

    trio.run(run)


@pytest.fixture(autouse=True)
def _looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_place, "LOOK_S", 0.0)


def gone(path: Path) -> None:
    for each in beside(path):
        each.unlink()


@pytest.mark.parametrize("writes_first", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_took_its_place_is_used_from_then_on(
    kind: type[SqliteState],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    *,
    writes_first: bool,
) -> None:
    """Else a key that was revoked there would be good for ever."""
    path, other = tmp_path / "state.sqlite", closed(tmp_path / "other.sqlite", a=b"2", b=b"3")

    def replace() -> None:
        gone(path)
        other.rename(path)

    async def main(state: SqliteState) -> None:
        if writes_first:
            await put(state, c=b"4")
        assert await looked(state, "a", "b") == (b"2", b"3")
        await put(state, c=b"4")
        assert await looked(state, "a", "c") == (b"2", b"4")

    open_beside(kind, path, replace, main)
    with SqliteState(path, timeout_s=5) as state:
        assert trio.run(looked, state, "a", "c") == (b"2", b"4")
    assert caplog.messages == [
        f"{path} was replaced by another file, which is used from now on",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_has_gone_is_told_until_it_is_back(
    kind: type[SqliteState], tmp_path: Path
) -> None:
    """It is not made again: nobody would notice that all was forgotten, and keys with it."""
    path, aside = tmp_path / "state.sqlite", closed(tmp_path / "aside.sqlite", a=b"2")

    async def main(state: SqliteState) -> None:
        for _ in range(2):
            with pytest.raises(StateError, match="the file that was open is gone; put it back"):
                await looked(state, "a")
            with pytest.raises(StateError, match="the file that was open is gone; put it back"):
                await put(state, a=b"5")
            assert not path.exists()
        aside.rename(path)
        assert await looked(state, "a") == (b"2",)
        gone(path)
        path.touch()
        assert await looked(state, "a") == (None,)

    open_beside(kind, path, lambda: gone(path), main)


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_cannot_be_reached_any_more_is_not_used_any_more(
    kind: type[SqliteState], tmp_path: Path
) -> None:
    """Nobody can tell whether it still is the one at its path."""
    folder = tmp_path / "folder"
    path = folder / "state.sqlite"

    def obstruct() -> None:
        folder.rename(tmp_path / "aside")
        folder.touch()

    async def main(state: SqliteState) -> None:
        with pytest.raises(StateError, match="it cannot be reached"):
            await looked(state, "a")
        with pytest.raises(StateError, match="it cannot be reached"):
            await put(state, a=b"5")

    open_beside(kind, path, obstruct, main)


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.booleans()), max_size=10))
def test_it_is_looked_at_once_a_second_and_no_longer_believed_after_that(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[float, bool]]
) -> None:
    path = tmp_path_factory.mktemp("place") / "file"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite_place, "LOOK_S", LOOK_S)
        place = Place(path, StateError, 0o600)
        opened, now_s = place.make(), 0.0
        looked_s, there = -LOOK_S, True
        for after_s, exists in steps:
            now_s += after_s
            path.rename(path.with_name("aside")) if path.exists() else None
            if exists:
                path.with_name("aside").rename(path)
            if now_s >= looked_s + LOOK_S:
                looked_s, there = now_s, exists
            assert place.is_still(opened, now_s) == there


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_made_is_its_owners_alone(kind: type[SqliteState], tmp_path: Path) -> None:
    """Prompts and answers are kept there, too."""
    path = tmp_path / ".orchestra" / "state.sqlite"

    async def main(state: SqliteState) -> None:
        assert len(beside(path)) == 3, "with what SQLite puts beside it"
        assert {stat.S_IMODE(each.stat().st_mode) for each in beside(path)} == {0o600}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    open_beside(kind, path, lambda: None, main)


class Given:
    """What is given to whom, in place of a system that only root can ask for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, euid: int, error: OSError | None) -> None:
        self.owners: list[tuple[bool, int, int]] = []
        self._error = error
        monkeypatch.setattr(os, "geteuid", lambda: euid)
        monkeypatch.setattr(os, "fchown", self._give)

    def _give(self, descriptor: int, uid: int, gid: int) -> None:
        self.owners.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), uid, gid))
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize("error", [None, PermissionError(), OSError(errno.EINVAL, "no such user")])
@pytest.mark.parametrize("euid", [0, 4321])
@pytest.mark.parametrize("kind", ["state", "store"])
def test_what_root_makes_belongs_to_whom_its_folder_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, euid: int, error: OSError | None
) -> None:
    """`orchestra keys create` is root's where the server has a user of its own: else nobody gets in.

    One who may not give it away goes on.
    """
    given = Given(monkeypatch, euid, error)

    async def made(path: Path) -> None:
        if kind == "state":
            with PrivateState(path, timeout_s=5) as state:
                await put(state, a=b"1")
        else:
            with SqliteStores(path) as stores:
                await stores.collection("handbook").make()

    for _ in range(2):
        trio.run(made, tmp_path / "data" / "below" / "file.sqlite")
    found = tmp_path.stat()
    whom = (found.st_uid, found.st_gid)
    each = [(True, *whom), (True, *whom), (False, *whom)]
    assert given.owners == (each if euid == 0 else [])
    mode = stat.S_IMODE((tmp_path / "data" / "below" / "file.sqlite").stat().st_mode)
    assert mode == 0o600 if kind == "state" else mode & 0o600 == 0o600


def test_root_gives_away_nothing_in_a_folder_that_was_put_in_the_place_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever owns a folder can swap it at any moment: here, when something was made in it."""
    theirs, roots = tmp_path / "theirs", tmp_path / "roots"
    theirs.mkdir()
    roots.mkdir()
    of_file, asked = theirs.stat().st_ino, []
    whose = os.fstat

    def swap() -> int:
        theirs.rename(tmp_path / "aside")
        roots.rename(theirs)
        return 0

    def owner(descriptor: int) -> os.stat_result:
        found = whose(descriptor)
        asked.append(found.st_ino)
        return found

    monkeypatch.setattr(os, "geteuid", swap)
    monkeypatch.setattr(os, "fstat", owner)
    monkeypatch.setattr(os, "fchown", lambda *_: None)
    make_file(theirs / "file", 0o600)
    assert asked == [of_file], "its owner is that of the folder in which it was made"


def test_a_folder_that_has_something_in_it_already_is_not_given_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []

    def another() -> int:
        (tmp_path / "new").rmdir()
        (tmp_path / "kept").rename(tmp_path / "new")
        return 0

    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "secret").touch()
    monkeypatch.setattr(os, "geteuid", another)
    monkeypatch.setattr(os, "fchown", lambda made, *_: given.append(made))
    make_folder(tmp_path / "new")
    assert given == []


def test_a_file_that_was_opened_has_to_be_there_and_another_has_not(tmp_path: Path) -> None:
    place = Place(tmp_path / "folder" / "file", StateError, 0o600)
    place.check_there()
    place.make()
    place.check_there()
    place.path.unlink()
    with pytest.raises(StateError):
        place.check_there()
    place.path.parent.rmdir()
    place.path.parent.touch()
    with pytest.raises(StateError):
        place.check_there()
