"""The id of the current task's run, for logs; a separate module, as loggers need no engine."""

from __future__ import annotations

from contextvars import ContextVar

RUN_ID: ContextVar[str] = ContextVar("run_id", default="")
"""The id of the run; "" outside a run."""
