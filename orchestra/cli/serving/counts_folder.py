"""The folder in which the workers of one server put together what they count.

It is removed at the end; that of a supervisor which was killed, at the next start.

Rules of the file: a supervisor holds a lock in its folder for as long as it lives, under the name
by which others look for it; so nobody removes a folder that is in use.
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
    """A folder of our own, there until the end; those that were left behind are removed.

    Raises:
        OSError: there is no room for one.
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
    """Remove one that is ours, and whose supervisor lives no more.

    Raises:
        OSError: it is in use, was never quite made, or is gone already.
    """
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return
    with (folder / LOCK).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
