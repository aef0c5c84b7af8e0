"""Nesting: what all frames of a pipeline that a step runs have in common."""

from __future__ import annotations

from math import inf

import attrs
import trio


@attrs.frozen(eq=False)
class Nesting:
    """How a pipeline is nested in the step that runs it."""

    outer: Nesting | None = None
    """The nesting of the step that runs it; None for the pipeline of the run itself."""
    depth: int = 0
    """How many steps that run pipelines it is nested in."""
    lent: trio.CapacityLimiter | None = None
    """The thread of the function that waits for it, for functions in threads in it."""
    cut: bool = False
    """Whether its inputs may have been made from a cut answer; those of a run never are."""
    until_s: float = inf
    """Its own deadline, as a time of Trio's clock; not that of the run."""
    late: str = ""
    """The reason why its steps are stopped at that deadline."""
    shielded: bool = False
    """Whether the step is shielded from a deadline, which then does not cancel the pipeline."""

    @property
    def due_s(self) -> float:
        """The earliest of the deadlines of pipelines around it, and of its own."""
        return self.until_s if self.outer is None else min(self.until_s, self.outer.due_s)

    @property
    def stopped(self) -> str | None:
        """The reason of the innermost deadline that has passed, if there is one."""
        nesting: Nesting | None = self
        now_s = trio.current_time()
        while nesting is not None:
            if now_s >= nesting.until_s:
                return nesting.late
            nesting = nesting.outer
        return None


NOT_NESTED = Nesting()
