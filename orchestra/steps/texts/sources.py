"""The names (sources) of ingested texts, and which of them mean the same file. Pure but for `cwd`.

A source is a path as the user wrote it, so it is the same on every machine. If the folder is
written in another way, its texts get other names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import attrs

from orchestra.steps.texts.folder import Skipped


@attrs.frozen
class NamedFolder:
    """A folder to read, and its name in sources."""

    path: Path
    name: Path

    @classmethod
    def of(cls, folder: Path | str, name: str | None = None) -> NamedFolder:
        """The folder, with `.` and `..` inside its path resolved, so that each file has one name.

        `name` is its name in sources; by default, it is `folder` as it is written.
        """
        called = folder if name is None else name
        return cls(Path(os.path.normpath(folder)), Path(os.path.normpath(called)))

    def source(self, path: Path | str) -> str:
        """The source of a path under the folder."""
        return (self.name / Path(path).relative_to(self.path)).as_posix()

    def named(self, skipped: Skipped) -> Skipped:
        """The skipped file, with its path replaced by its source."""
        return attrs.evolve(skipped, source=self.source(skipped.source))

    def holds(self, source: str) -> bool:
        """Whether a source is the name of a file under the folder."""
        return is_under(source, self.name)

    def doubles(self, read: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
        """Those of the `others` that mean the same files as the sources just `read`, in order.

        They are resolved from the working directory and from the folder's parent.
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
    """The name of a folder that is written as `.` or begins with `..`; None for other folders.

    It is the last part of the folder's real path: two folders named `.` would replace each other.
    """
    written = Path(os.path.normpath(folder))
    if written.parts[:1] not in ((), ("..",)):
        return None
    return Path(os.path.normpath(written.absolute())).name or None


def is_under(source: str, folder: Path) -> bool:
    """Whether a source is the name of a file under the folder; a URL never is."""
    path = PurePosixPath(source)
    if "://" in source or not path.is_relative_to(folder.as_posix()):
        return False
    return ".." not in path.relative_to(folder.as_posix()).parts


def _join(folder: Path, path: str) -> str:
    """The path joined to a folder; without pathlib, which is slow for a store's many paths."""
    return os.path.normpath(path if path.startswith("/") else f"{folder}/{path}")
