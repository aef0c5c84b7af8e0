"""A record that a server has required keys, for later processes.

The place of the keys may come back empty, such as a Redis without a disk. Without this record, the
next process would find that no key was ever made, and require none.

Rules of the file: an unreadable record counts as required keys. A record contains only the place of
the keys, and no secret.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

FILE = "keys-required"


def places_in(folders: Iterable[Path]) -> Collection[str]:
    """The places of keys that servers with these folders have required; mostly none."""
    return {place for folder in folders if (place := _place_in(folder / FILE)) is not None}


def remember(folders: Iterable[Path], place: str) -> None:
    """Record in each of these folders that keys in this place are required.

    Raises:
        OSError: the record could not be written to one of them.
    """
    for folder in folders:
        file = folder / FILE
        if _place_in(file) == place:
            continue
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = folder / f"{FILE}.{os.getpid()}"
        new.write_text(place + "\n", "utf-8")
        new.replace(file)


def forget(folders: Iterable[Path]) -> None:
    """Remove the records, after the configuration says that no keys are required.

    Raises:
        OSError: one could not be removed.
    """
    for folder in folders:
        (folder / FILE).unlink(missing_ok=True)


def _place_in(file: Path) -> str | None:
    try:
        return file.read_text("utf-8", "replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return f"a place that cannot be read ({error})"
