"""A file of secrets: its owner's alone, made when there is something to keep, and never passed by."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import trio

from orchestra.errors import StateError
from orchestra.protocols import Change, Entry
from orchestra.stores.state.private import PrivateState


async def kept(state: PrivateState, data: bytes | None = None) -> bytes | None:
    """What is kept under a key; then this instead, if it is given."""
    entries = {} if data is None else {"k": Entry(data)}
    return await state.change(["k"], lambda there, _: Change(there[0], entries))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_with_the_first_thing_to_keep(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keys.sqlite"

    async def main() -> None:
        with PrivateState(path, timeout_s=30) as state, PrivateState(path, timeout_s=30) as other:
            assert await kept(state) is None
            assert not path.parent.exists()
            assert await kept(state, b"a") is None
            assert await kept(other) == b"a"
            assert {mode(each) for each in path.parent.iterdir()} == {0o600}
            assert len(list(path.parent.iterdir())) == 3, "with what SQLite puts beside it"

    trio.run(main)


def test_what_is_remembered_makes_it_too_and_rights_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "keys.sqlite"
    path.touch(0o640)

    async def main() -> None:
        with PrivateState(path, timeout_s=30) as state:
            await state.remember("m", b"a", ttl_s=60)
            assert await state.recall("m") == b"a"
        assert mode(path) == 0o640
        other = tmp_path / "other.sqlite"
        with PrivateState(other, timeout_s=30) as state:
            await state.remember("m", b"a", ttl_s=60)
            assert mode(other) == 0o600

    trio.run(main)


def test_a_file_that_is_out_of_reach_is_not_taken_for_none(tmp_path: Path) -> None:
    """Otherwise a server would think that no key was ever made, and let everybody in."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").touch()

    async def main() -> None:
        for folder in ("loop", "file"):
            with PrivateState(tmp_path / folder / "keys.sqlite", timeout_s=30) as state:
                for data in (None, b"a"):
                    with pytest.raises(StateError, match="it cannot be reached"):
                        await kept(state, data)

    trio.run(main)


def test_where_it_cannot_be_made_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "file")

    async def main() -> None:
        with PrivateState(tmp_path / "link", timeout_s=30) as state:
            assert await kept(state) is None
            with pytest.raises(StateError, match="it cannot be reached"):
                await kept(state, b"a")

    trio.run(main)
