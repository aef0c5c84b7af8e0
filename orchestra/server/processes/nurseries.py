"""Workarounds for faults of Trio's nurseries, with which one step could end the whole server.

A nursery records why it was cancelled, with the `repr` of its task's error. If that `repr` raises
(for example, of an object that is not fully initialized, or of a deeply nested group), Trio ends
with `TrioInternalError`, and so does every run. The same happens if a nursery in an async generator
is exited by another task than the one that opened it: `async for ... break` leaves the generator to
the garbage collector, so Trio closes it in a task of its own, and wakes the wrong task.

Rules of this file: as in `connections/hardening.py`. `tests/server/processes/test_nurseries.py`
shows both faults.
"""

from __future__ import annotations

from typing import Any

import trio
from outcome import Error, Outcome
from trio._core import _run

MENDED_AGAINST = {"trio": "0.35.0"}
_STOCK_CHILD_FINISHED = trio.Nursery._child_finished  # noqa: SLF001
_STOCK_NESTED_CHILD_FINISHED = trio.Nursery._nested_child_finished  # noqa: SLF001


def mend_trio() -> None:
    """Replace methods of Trio's nurseries, for the whole process; a second call does nothing."""
    trio.Nursery._child_finished = _child_finished  # type: ignore[method-assign] # noqa: SLF001
    trio.Nursery._nested_child_finished = (  # type: ignore[method-assign] # noqa: SLF001
        _nested_child_finished
    )


def _child_finished(self: Any, task: trio.lowlevel.Task, outcome: Outcome[Any]) -> None:
    """Trio's method, except that for an error whose `repr` raises its class is recorded."""
    if type(outcome) is Error and not _has_repr(outcome.error):
        self._children.remove(task)
        self._add_exc(outcome.error, _reason(task, outcome.error))
        self._check_nursery_closed()
    else:
        _STOCK_CHILD_FINISHED(self, task, outcome)


async def _nested_child_finished(
    self: Any, nested_child_exc: BaseException | None
) -> BaseException | None:
    """Trio's method, with the same change; also, it raises a `RuntimeError` in another task."""
    if trio.lowlevel.current_task() is not self._parent_task:
        self.cancel_scope.cancel()
        raise RuntimeError(
            f"a nursery of {self._parent_task!r} was left in another task: its `async with` stands "
            "around a `yield` of an async generator, which was not read to its end; read it within "
            "`async with contextlib.aclosing(...)`, or open the nursery outside the generator"
        ) from nested_child_exc
    if nested_child_exc is not None and not _has_repr(nested_child_exc):
        self._add_exc(nested_child_exc, _reason(self._parent_task, nested_child_exc))
        nested_child_exc = None
    return await _STOCK_NESTED_CHILD_FINISHED(self, nested_child_exc)


def _has_repr(error: BaseException) -> bool:
    try:
        repr(error)
    except BaseException:  # noqa: ASYNC103, BLE001 - it has no checkpoint
        return False  # noqa: ASYNC104
    return True


def _reason(task: trio.lowlevel.Task, error: BaseException) -> _run.CancelReason:
    raised = f"{type(error).__name__} was raised, whose repr raises as well"
    return _run.CancelReason(source="nursery", source_task=repr(task), reason=raised)
