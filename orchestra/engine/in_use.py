"""In use: records which run of Trio uses bindings, while an engine is open on them.

A task that waits for a connection, a limit or a shared call is woken by the task that frees it.
This works within one run of Trio; a task of another thread's run would never be woken, and hang.
Several runs of Trio in turn are fine. A forked process shares connections with its parent, and
would read its parent's responses.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import trio

from orchestra.errors import RunError


class InUse:
    """Guards bindings: one run of Trio uses them at a time, in one process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: int | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._engines = 0

    @contextmanager
    def by_this_run(self) -> Iterator[None]:
        """A context in which the current run of Trio uses the bindings.

        Raises:
            RunError: another run uses them, or they were used before this process was forked.
        """
        token = trio.lowlevel.current_trio_token()
        self._enter(token)
        try:
            yield
        finally:
            self._leave(token)

    def _enter(self, token: trio.lowlevel.TrioToken) -> None:
        with self._lock:
            if self._process not in (None, os.getpid()):
                raise RunError(_FORKED)  # pragma: no cover - coverage does not see a fork
            if self._token is not token:
                if self._token is not None and _goes_on(self._token):
                    raise RunError(_SHARED)
                self._token, self._engines = token, 0
            self._process = os.getpid()
            self._engines += 1

    def _leave(self, token: trio.lowlevel.TrioToken) -> None:
        with self._lock:
            if self._token is token:
                self._engines -= 1
                self._token = token if self._engines else None


def _goes_on(token: trio.lowlevel.TrioToken) -> bool:
    """Whether that run of Trio is still running; it may have ended without closing its engine."""
    try:
        token.run_sync_soon(bool)
    except trio.RunFinishedError:
        return False
    return True


_SHARED = (
    "open_engine(bindings): another run of Trio uses these bindings, in another thread, but their "
    "connections, limits and shared calls work within one run of Trio only; open one "
    "engine, take `token = trio.lowlevel.current_trio_token()` there, and write "
    "`trio.from_thread.run(engine.run, pipeline, ..., trio_token=token)` in other threads; or call "
    "default_bindings() in each thread, with limits of its own"
)
_FORKED = (
    "open_engine(bindings): these bindings were used before this process was forked, and hold "
    "connections of its parent; call default_bindings() in each process, and start processes with "
    "multiprocessing.get_context('spawn')"
)
