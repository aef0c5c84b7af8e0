"""That a server has asked for keys, remembered for the processes that come after it.

Where keys are kept may come back empty, such as a Redis without a disk; without a memory of its
own, the next process would find that no key was ever made, and let everybody in.

Rules of the file: what cannot be read has been asked for. What is written is where the keys are
kept, which has no secret.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

FILE = "keys-asked"


def places_in(folders: Iterable[Path]) -> Collection[str]:
    """Where the keys are kept that servers with these folders have asked for; mostly nowhere."""
    return {place for folder in folders if (place := _place_in(folder / FILE)) is not None}


def remember(folders: Iterable[Path], place: str) -> None:
    """Remember in each of these folders that keys are asked for, which are kept in this place.

    Raises:
        OSError: it could not be written to one of them.
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
    """Remember no more: somebody has said that nobody is to be asked.

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
