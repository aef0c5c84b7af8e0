"""The lane from a pipeline that a step streams to the step itself."""

from __future__ import annotations

import trio

from orchestra.engine.lanes.lane import Lane
from orchestra.errors import RunError

UNREAD = "nobody reads its stream any more"
"""The reason why the pipeline's steps are stopped when the step leaves the block early."""


class ChildLane(Lane[object]):
    """A lane whose reader gets the error of the pipeline, if that failed or was stopped."""

    __slots__ = ("_error", "filled")

    def __init__(self, bound: int) -> None:
        super().__init__(bound, lambda: None)
        self._error: Exception | None = None
        self.filled = trio.Event()
        """Set when the pipeline has ended, and nothing of it is left."""

    def fail(self, error: Exception) -> None:
        """Drop the chunks that were not read, and raise the error in every read from now on."""
        if not self.left:
            self._error = error
            self.leave()

    def end(self) -> None:
        """Refuse every read from now on: the step has left the block."""
        self._error = None
        self.leave()

    def _gone(self) -> Exception:
        return self._error or RunError(
            "the chunks of a pipeline can be read only inside its block: `async with "
            "context.stream(...) as chunks:`"
        )
