"""What ingestion calls the texts of a folder, and which names are of one file. Pure, but for `cwd`.

A source is a path as it is written, so that it is the same on every machine. Whoever writes the
folder in another way gives its texts other names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import attrs

from orchestra.steps.texts.folder import Skipped


@attrs.frozen
class NamedFolder:
    """A folder that is read, and what it is called in sources."""

    path: Path
    name: Path

    @classmethod
    def of(cls, folder: Path | str, name: str | None = None) -> NamedFolder:
        """Without `.` and `..` in the middle, so that its files have one name each."""
        called = folder if name is None else name
        return cls(Path(os.path.normpath(folder)), Path(os.path.normpath(called)))

    def source(self, path: Path | str) -> str:
        """What a path under it is called."""
        return (self.name / Path(path).relative_to(self.path)).as_posix()

    def named(self, skipped: Skipped) -> Skipped:
        """What was left out, by that name."""
        return attrs.evolve(skipped, source=self.source(skipped.source))

    def holds(self, source: str) -> bool:
        """Whether a source is what a file under it is called."""
        return is_under(source, self.name)

    def doubles(self, read: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
        """Those of other sources that are among the files that were read, in order.

        They are looked for as they are seen from here and from the folder above.
        """
        left = sorted(source for source in others if "://" not in source)
        if not left:
            return ()
        here, there = Path.cwd(), self.path.absolute()
        files = {_join(there, Path(each).relative_to(self.name).as_posix()) for each in read}
        above = Path(os.path.normpath(there)).parent
        return tuple(
            each for each in left if not files.isdisjoint((_join(here, each), _join(above, each)))
        )


def name_of(folder: Path) -> str | None:
    """What to call a folder that is written as `.`, or with `..` in front; None is as written.

    The last part of its path. Of two that are called `.` one would take the place of the other.
    """
    written = Path(os.path.normpath(folder))
    if written.parts[:1] not in ((), ("..",)):
        return None
    return Path(os.path.normpath(written.absolute())).name or None


def is_under(source: str, folder: Path) -> bool:
    """Whether a source is the name of a file under the folder; an address never is."""
    path = PurePosixPath(source)
    if "://" in source or not path.is_relative_to(folder.as_posix()):
        return False
    return ".." not in path.relative_to(folder.as_posix()).parts


def _join(folder: Path, path: str) -> str:
    """The path as it is seen from a folder; by hand, since a store may have many."""
    return os.path.normpath(path if path.startswith("/") else f"{folder}/{path}")
