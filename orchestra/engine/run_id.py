"""Which run a task is part of, for who writes a log; on its own, since that may run none."""

from __future__ import annotations

from contextvars import ContextVar

RUN_ID: ContextVar[str] = ContextVar("run_id", default="")
"""The id of that run; "" outside of one."""
