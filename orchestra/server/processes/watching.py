"""Watches files for changes by polling; for development, on every operating system."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import trio

EVERY_S = 0.3
"""Seconds between two polls: too short to be noticed, and a thousand files cost a few ms."""

Stamps: TypeAlias = Mapping[Path, tuple[int, int]]
"""For each file that exists: its modification time in nanoseconds, and its size in bytes."""


async def watch(
    files: Callable[[], Collection[Path]],
    changed: Callable[[], Awaitable[object]],
    known: Stamps | None = None,
) -> None:
    """Await `changed` after each change of the files, until cancelled; `known` are earlier stamps.

    It is called only when the files are the same in two polls: an editor may write a file in
    several steps. `files` is called at every poll, so that new files are noticed.
    """
    known = seen = stamps(files()) if known is None else known
    while True:
        await trio.sleep(EVERY_S)
        with suppress(OSError):  # a folder was deleted while it was read: the next poll notices it
            before, seen = seen, stamps(files())
            if seen == before and seen != known:
                await changed()
                watched = set(files())  # a file that is watched only since then has not changed
                kept = (file for file in seen if file in watched or not stamps([file]))
                seen = known = {**stamps(watched), **{file: seen[file] for file in kept}}


def stamps(files: Collection[Path]) -> Stamps:
    """The stamps of the files that exist."""
    found = {}
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        found[file] = (status.st_mtime_ns, status.st_size)
    return found
