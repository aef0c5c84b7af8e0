"""The id and the tags of the current task's run, for logs; a module that loads no engine."""

from __future__ import annotations

from contextvars import ContextVar

from orchestra.tags import NO_TAGS, Tags

CURRENT_RUN: ContextVar[tuple[str, Tags]] = ContextVar("current_run", default=("", NO_TAGS))
"""The run's id and its tags; "" and none outside a run. One variable, as each costs every run."""
