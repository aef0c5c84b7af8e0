"""Makes folders and files; what root makes belongs to whom the folder it is in belongs.

For a server mostly is not root, and `orchestra keys create` is, where a unit has its own user:
nobody would get in. Rules of the file:

1. What is given away is known by a descriptor, and its owner is that of the folder in which it
   really is, by a descriptor too: whoever owns the folder can put another in its place at any time.
2. Nothing is given away but what is empty.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

FOLDER_OWNER_ONLY = 0o700
ROOT = 0
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_MADE = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make_folder(folder: Path) -> None:
    """The folder, and those above it; its owner's alone where it was not there before.

    Raises:
        OSError: it cannot be made.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    above = os.open(folder.parent, _PLACE)
    try:
        os.mkdir(folder.name, FOLDER_OWNER_ONLY, dir_fd=above)
        if os.geteuid() == ROOT:
            _give_folder(folder.name, above)
    except FileExistsError:
        if not folder.is_dir():
            raise
    finally:
        os.close(above)


def _give_folder(name: str, above: int) -> None:
    made = os.open(name, _MADE, dir_fd=above)
    try:
        if not os.listdir(made):  # noqa: PTH208 - a path may lead elsewhere by now
            _give(made, above)
    finally:
        os.close(made)


def make_file(path: Path, mode: int) -> None:
    """An empty file, unless there is one.

    SQLite gives the files beside it to the same owner. With `O_EXCL`, since closing any descriptor
    of a file gives up all locks that this process has on it: only what nobody else has yet is
    closed.

    Raises:
        OSError: it cannot be made.
    """
    real = Path(os.path.realpath(path))
    folder = os.open(real.parent, _PLACE)
    try:
        with suppress(FileExistsError):
            made = os.open(real.name, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode, dir_fd=folder)
            try:
                if os.geteuid() == ROOT:
                    _give(made, folder)
            finally:
                os.close(made)
    finally:
        os.close(folder)


def _give(made: int, folder: int) -> None:
    """Give what was made to whom its folder belongs; a file system that has no owners keeps it."""
    with suppress(OSError):
        owner = os.fstat(folder)
        os.fchown(made, owner.st_uid, owner.st_gid)
