"""Watching files for changes by polling: for development, on every system."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import trio

EVERY_S = 0.3
"""Seconds between two looks: nobody notices the wait, and a thousand files cost a few ms."""

Stamps: TypeAlias = Mapping[Path, tuple[int, int]]
"""For each file that exists: when it was written, in nanoseconds, and its size in bytes."""


async def watch(
    files: Callable[[], Collection[Path]],
    changed: Callable[[], Awaitable[object]],
    known: Stamps | None = None,
) -> None:
    """Await `changed` whenever the files have, until cancelled; `known` is how they were before.

    Only once they have stayed the same from one look to the next: an editor may write a file in
    several steps. `files` is asked at every look, so that new ones are seen.
    """
    known = seen = stamps(files()) if known is None else known
    while True:
        await trio.sleep(EVERY_S)
        with suppress(OSError):  # a folder has gone while it was read: the next look sees that
            before, seen = seen, stamps(files())
            if seen == before and seen != known:
                await changed()
                watched = set(files())  # that there are more of them, or less, is not a change
                kept = (file for file in seen if file in watched or not stamps([file]))
                seen = known = {**stamps(watched), **{file: seen[file] for file in kept}}


def stamps(files: Collection[Path]) -> Stamps:
    """The stamps of those files that exist."""
    found = {}
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        found[file] = (status.st_mtime_ns, status.st_size)
    return found
