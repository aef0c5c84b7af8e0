"""Files that are looked at, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from orchestra.server.processes.watching import EVERY_S, watch

Act = Callable[[], object]


def looked_at(folder: Path, *acts: Act) -> list[int]:
    """What is done between two looks, one after the other; how often a change was told by then."""
    told = 0
    counts: list[int] = []

    async def changed() -> None:
        nonlocal told
        told += 1

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, lambda: set(folder.glob("*.py")), changed)
            await trio.sleep(EVERY_S / 2)
            for act in acts:
                act()
                await trio.sleep(EVERY_S)
                counts.append(told)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return counts


def nothing() -> None:
    """Let a look pass."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "a.py"
    found.write_text("one")
    return found


def test_a_file_that_stays_is_no_change(file: Path) -> None:
    assert looked_at(file.parent, *[nothing] * 5) == [0] * 5


def test_a_change_is_told_once_when_the_file_has_come_to_rest(file: Path) -> None:
    acts = [
        lambda: file.write_text("f"),
        lambda: file.write_text("four"),
        nothing,
        nothing,
        nothing,
    ]
    assert looked_at(file.parent, *acts) == [0, 0, 1, 1, 1]


def test_files_that_come_and_go_are_changes(file: Path) -> None:
    other = file.with_name("b.py")
    acts = [lambda: other.write_text("new"), nothing, file.unlink, nothing, nothing]
    assert looked_at(file.parent, *acts) == [0, 1, 1, 2, 2]


def test_what_a_reload_has_imported_is_no_change(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one")
    (tmp_path / "helper.py").write_text("one")
    files = {tmp_path / "a.py"}
    told: list[set[Path]] = []

    async def changed() -> None:
        told.append(set(files))
        files.add(tmp_path / "helper.py")

    def write() -> None:
        (tmp_path / "a.py").write_text("three")

    async def main() -> None:
        with trio.move_on_after(EVERY_S * 10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch, lambda: files, changed)
                await trio.sleep(EVERY_S / 2)
                write()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert told == [{tmp_path / "a.py"}]


def test_what_is_watched_no_longer_is_no_change(tmp_path: Path) -> None:
    for name in ("a.py", "store"):
        (tmp_path / name).write_text("one")
    files = {tmp_path / "a.py", tmp_path / "store"}
    told: list[set[Path]] = []

    async def changed() -> None:
        told.append(set(files))
        files.discard(tmp_path / "store")

    async def main() -> None:
        with trio.move_on_after(EVERY_S * 10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch, lambda: files, changed)
                await trio.sleep(EVERY_S / 2)
                (tmp_path / "store").write_text("three")

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert told == [{tmp_path / "a.py", tmp_path / "store"}]


def test_an_edit_during_a_reload_is_not_missed(file: Path) -> None:
    told: list[str] = []

    def write(text: str) -> None:
        told.append(text)
        file.write_text(text)

    async def changed() -> None:
        told.append("changed")
        if len(told) == 2:
            write("in its middle")  # of another size: both may be of one tick of the file system

    async def main() -> None:
        with trio.move_on_after(EVERY_S * 10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch, lambda: {file}, changed)
                await trio.sleep(EVERY_S / 2)
                write("before")

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert told == ["before", "changed", "in its middle", "changed"]


def test_a_folder_that_goes_while_it_is_read_ends_nothing(file: Path) -> None:
    """As by `git checkout`; the next look sees what has changed."""
    looks = 0

    def files() -> set[Path]:
        nonlocal looks
        looks += 1
        if looks in {2, 3, 7}:
            raise FileNotFoundError(file.parent)
        return {file}

    changes = 0

    async def changed() -> None:
        nonlocal changes
        changes += 1

    async def main() -> None:
        with trio.move_on_after(EVERY_S * 10.5):
            await watch(files, changed)

    def write() -> None:
        file.write_text("changed")

    async def both() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(main)
            await trio.sleep(EVERY_S / 2)
            write()

    trio.run(both, clock=MockClock(autojump_threshold=0))
    assert looks > 7
    assert changes == 1
