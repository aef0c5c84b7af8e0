"""Files that are given on the command line, as documents."""

from __future__ import annotations

from pathlib import Path

from orchestra.cli.failures import MISUSED, CommandError
from orchestra.documents import Document

LIMIT_BYTES = 64 * 1024 * 1024


def read_document(path: str) -> Document:
    """The file, under its own name, without its folder.

    Raises:
        CommandError: it cannot be read, or is larger than 64 MiB.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(LIMIT_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise CommandError(f"{path!r} cannot be read: {why}", code=MISUSED) from error
    if len(data) > LIMIT_BYTES:
        raise CommandError(f"{path!r} is larger than {LIMIT_BYTES} bytes", code=MISUSED)
    return Document(Path(path).name, data)
