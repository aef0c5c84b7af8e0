"""Scopes: a region while it runs.

Errors are kept in the scope instead of being raised through its nursery, so they never
arrive as a group. The first error stops the region, and the region raises it.
"""

from __future__ import annotations

import trio


class Failure(Exception):  # noqa: N818 - it carries an error, and users never see it
    """A step's error on its way out through the regions, with the step's path and line.

    It names the innermost step: outer regions pass a failure on unchanged.
    """

    def __init__(self, error: Exception, step: str, where: str) -> None:
        super().__init__(error)
        self.error = error
        self.step = step
        self.where = where


def bare(error: Exception) -> Exception:
    """The error itself, without its `Failure`."""
    return error.error if isinstance(error, Failure) else error


class Scope:
    """A region while it runs: its nursery, its first error, and whether it is still open."""

    __slots__ = ("_waiting", "closed", "error", "nursery", "outer", "ready")

    nursery: trio.Nursery

    def __init__(self, outer: Scope | None) -> None:
        self.outer = outer
        self.ready = False
        """Whether the region's result exists."""
        self._waiting: trio.Event | None = None  # made for a waiting task
        self.error: Exception | None = None
        self.closed: str | None = None
        """The reason why nothing may start in it any more; None while it is open."""

    def set_ready(self) -> None:
        """Note that the region's result exists."""
        self.ready = True
        if self._waiting is not None:
            self._waiting.set()

    async def wait_ready(self) -> None:
        """Wait until the region's result exists."""
        if self.ready:
            await trio.lowlevel.checkpoint()
            return
        self._waiting = trio.Event()
        await self._waiting.wait()

    def fail(self, error: Exception) -> None:
        """Keep the first error, and stop everything in the region."""
        if self.closed is None:
            self.error = error
        self.close(f"a step beside it failed with {type(bare(error)).__name__}")

    def close(self, reason: str) -> None:
        """Stop everything in the region."""
        if self.closed is None:
            self.closed = reason
        self.nursery.cancel_scope.cancel()

    def end(self, reason: str) -> None:
        """Close the region from the task that opened it, and stop tasks that still run in it."""
        if self.nursery.child_tasks:
            self.close(reason)
        elif self.closed is None:
            self.closed = reason

    @property
    def stopped(self) -> str | None:
        """The reason why nothing may start in it: it or an enclosing region was closed."""
        scope: Scope | None = self
        while scope is not None:
            if scope.closed is not None:
                return scope.closed
            scope = scope.outer
        return None
