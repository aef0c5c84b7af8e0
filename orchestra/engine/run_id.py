"""The run that a task is part of, for logs; a module of its own, as loggers need no engine."""

from __future__ import annotations

from contextvars import ContextVar

RUN_ID: ContextVar[str] = ContextVar("run_id", default="")
"""The id of the run; "" outside a run."""
