"""Creates folders and files; those that root creates get the owner of the folder they are in.

A server usually runs as a user of its own, but an operator often runs `orchestra keys create` as
root: the server could not open root's file. Rules of the file:

1. Ownership is changed through the descriptor of the new file, and the new owner is read through
   the descriptor of the folder it really is in: the owner of the folder can replace the path by
   another at any time.
2. The owner of a file or folder is changed only as long as it is empty.
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
    """Create a folder and those above it, unless they exist; new ones are for their owner only.

    Raises:
        OSError: it cannot be created.
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
        if not os.listdir(made):  # noqa: PTH208 - the path may lead somewhere else by now
            _give(made, above)
    finally:
        os.close(made)


def make_file(path: Path, mode: int) -> None:
    """Create an empty file, unless the file exists.

    SQLite gives the files beside it (such as its log) the same owner. `O_EXCL` is used because
    closing any descriptor of a file releases all locks that this process has on it: so only a file
    that nobody else has opened yet is closed here.

    Raises:
        OSError: it cannot be created.
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
    """Change the owner of a new file to the owner of its folder, if the file system has owners."""
    with suppress(OSError):
        owner = os.fstat(folder)
        os.fchown(made, owner.st_uid, owner.st_gid)
