"""Scopes: a region while it runs.

Errors are kept in the scope rather than raised through its nursery, so that they never
arrive as a group: the first one stops the region and is what the region raises.
"""

from __future__ import annotations

from enum import Enum

import trio


class Nothing(Enum):
    """What a region gives that was closed before it could give its value."""

    NOTHING = "nothing"


NOTHING = Nothing.NOTHING


class Failure(Exception):  # noqa: N818 - it carries an error, and is none that a user sees
    """A step's error on its way out through the regions, with where it came from.

    The innermost step is the one named: whoever passes a failure on, passes it on as it is.
    """

    def __init__(self, error: Exception, step: str, where: str) -> None:
        super().__init__(error)
        self.error = error
        self.step = step
        self.where = where


def bare(error: Exception) -> Exception:
    """The error itself, without where it came from."""
    return error.error if isinstance(error, Failure) else error


class Scope:
    """A region while it runs: its nursery, its first error, and whether it is still open."""

    __slots__ = ("closed", "error", "nursery", "outer", "ready")

    nursery: trio.Nursery

    def __init__(self, outer: Scope | None) -> None:
        self.outer = outer
        self.ready = trio.Event()
        """Set when what the region is for exists."""
        self.error: Exception | None = None
        self.closed: str | None = None
        """Why nothing starts in it any more; None while it is open."""

    def fail(self, error: Exception) -> None:
        """Keep the error, if it is the first, and stop everything in the region."""
        if self.closed is None:
            self.error = error
        self.close(f"a step beside it failed with {type(bare(error)).__name__}")

    def close(self, reason: str) -> None:
        """Stop everything in the region."""
        if self.closed is None:
            self.closed = reason
        self.nursery.cancel_scope.cancel()

    def end(self, reason: str) -> None:
        """Close it from the task that has opened it, and stop who is still in it, if anybody is."""
        if self.nursery.child_tasks:
            self.close(reason)
        elif self.closed is None:
            self.closed = reason

    @property
    def stopped(self) -> str | None:
        """Why nothing may start in it: it, or a region that it lies in, was closed."""
        scope: Scope | None = self
        while scope is not None:
            if scope.closed is not None:
                return scope.closed
            scope = scope.outer
        return None
