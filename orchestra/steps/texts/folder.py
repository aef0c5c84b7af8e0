"""The documents in a folder: its files and their contents, or why they are left out."""

from __future__ import annotations

import os
import stat
from collections import deque
from pathlib import Path

import attrs

from orchestra.steps.texts.html import readable
from orchestra.surrogates import is_utf8

_HTML = (".html", ".htm")
_PDF = ".pdf"
SUFFIXES = (".md", ".markdown", ".txt", ".rst", *_HTML, _PDF)
LIMIT_BYTES = 4 * 1024 * 1024
"""More than any documentation page has, and little enough to be processed in one piece."""
PDF_LIMIT_BYTES = 64 * 1024 * 1024
"""Most of a large PDF is pictures, which are not read."""


@attrs.frozen
class Skipped:
    """A file or folder that was left out, and why."""

    source: str
    reason: str


@attrs.frozen
class Found:
    """The contents of a folder: its files, and what could not be read."""

    files: list[Path]
    skipped: list[Skipped]


def find(folder: Path) -> Found:
    """All files under a folder, in the order of their paths.

    Files and folders whose names begin with a dot are skipped. Links are followed. A folder or text
    file that is reached twice is read once, under its real name if that is in the folder.

    Raises:
        OSError: the folder itself cannot be listed.
    """
    found = Found([], [])
    seen: set[tuple[int, int]] = set()
    os.scandir(folder).close()  # raises if it cannot be listed
    left = deque([folder])  # real folders at the front, links to folders at the back
    links: list[Path] = []  # links to files
    while left:
        here = left.popleft()
        try:
            if _is_new(here, seen):
                _look_into(here, left, links, found)
            else:
                found.skipped.append(Skipped(here.as_posix(), "leads to a folder read already"))
        except OSError as error:
            found.skipped.append(Skipped(here.as_posix(), _unreadable(error)))
    _follow_links(links, found)
    found.files.sort(key=Path.as_posix)
    return found


def read(path: Path, limit_bytes: int) -> str | bytes | Skipped:
    """The text of a file, or the bytes of a PDF, or why it is left out.

    HTML is given as Markdown. A PDF may have `PDF_LIMIT_BYTES`. At most one byte more than the
    limit is read.
    """
    try:
        return _content(path, limit_bytes)
    except _LeftOutError as error:
        return Skipped(path.as_posix(), str(error))
    except OSError as error:
        return Skipped(path.as_posix(), _unreadable(error))
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        return Skipped(path.as_posix(), f"not UTF-8: byte {error.start} is 0x{byte:02x}")


class _LeftOutError(Exception):
    """The reason why a file is not read."""


def _look_into(here: Path, left: deque[Path], links: list[Path], found: Found) -> None:
    with os.scandir(here) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name, reverse=True):
            path = here / entry.name
            if not is_utf8(entry.name):
                shown = here / os.fsencode(entry.name).decode(errors="backslashreplace")
                why = "its name is not UTF-8; give it another"
                found.skipped.append(Skipped(shown.as_posix(), why))
            elif entry.name.startswith("."):
                found.skipped.append(Skipped(path.as_posix(), "its name begins with a dot"))
            elif not _is_folder(entry):
                (links if entry.is_symlink() else found.files).append(path)
            elif entry.is_symlink():
                left.append(path)
            else:
                left.appendleft(path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; a link that cannot be followed counts as a file."""
    try:
        return entry.is_dir()
    except OSError:  # the link leads to itself, or into a folder without permission
        return False


def _follow_links(links: list[Path], found: Found) -> None:
    """Add the links to files, except to texts found already; broken links are reported later."""
    read = {_identity(path) for path in found.files if _is_read(path)} if links else set()
    for path in sorted(links, key=Path.as_posix):
        identity = _identity(path) if _is_read(path) else None
        if identity is not None and identity in read:
            found.skipped.append(Skipped(path.as_posix(), "leads to a file read already"))
        else:
            found.files.append(path)
            read.add(identity)


def _identity(path: Path) -> tuple[int, int] | None:
    """The identity of a file, independent of its name; None if it cannot be read."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_new(folder: Path, seen: set[tuple[int, int]]) -> bool:
    status = folder.stat()
    identity = (status.st_dev, status.st_ino)
    new = identity not in seen
    seen.add(identity)
    return new


def _content(path: Path, limit_bytes: int) -> str | bytes:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise _LeftOutError(f"its name does not end in {', '.join(SUFFIXES)}")
    if not stat.S_ISREG(path.stat().st_mode):
        raise _LeftOutError("not a regular file")  # reading a pipe would block
    limit_bytes = PDF_LIMIT_BYTES if suffix == _PDF else limit_bytes
    with path.open("rb") as file:
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise _LeftOutError(f"longer than {limit_bytes} bytes")
    if suffix == _PDF:
        return data
    if 0 in data:
        raise _LeftOutError(f"binary: byte {data.index(0)} is zero")
    text = data.decode("utf-8-sig")
    text = readable(text) if suffix in _HTML else text
    if not text.strip():
        raise _LeftOutError("empty")
    return text


def _is_read(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _unreadable(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"
