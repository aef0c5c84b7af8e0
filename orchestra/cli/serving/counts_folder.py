"""The folder in which the workers of one server combine their metrics.

It is removed at the end; after a killed supervisor, at the next start.

Rules of the file: a supervisor holds a lock in its folder as long as it lives, under a name that
others know, so that no folder in use is removed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

PREFIX = "orchestra-workers-"
LOCK = "lock"


@contextmanager
def counts_folder() -> Iterator[Path]:
    """A new folder, removed at the end; leftover ones are removed at once.

    Raises:
        OSError: it could not be made.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            _remove_left(left)
    with TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as made:
        folder = Path(made)
        with (folder / f"{LOCK}.new").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / f"{LOCK}.new").rename(folder / LOCK)
            yield folder


def _remove_left(folder: Path) -> None:
    """Remove a folder of ours whose supervisor has ended.

    Raises:
        OSError: it is in use, incomplete, or gone already.
    """
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return
    with (folder / LOCK).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
