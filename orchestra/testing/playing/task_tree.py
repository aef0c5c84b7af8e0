"""The tree of Trio's tasks, and the line of each task."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import trio

import orchestra
from orchestra.engine.lanes.parking import parking
from orchestra.graph.source.frames import place

_TRIO, _OURS = (str(Path(str(module.__file__)).parent) for module in (trio, orchestra))
_LASTING = "orchestra.watch"
"""The task for the time limits of reads, which ends by itself when there is nothing left to watch.
See `providers/connections/watch.py`, whose import would take 30 ms.
"""


def tasks_below(task: trio.lowlevel.Task) -> list[trio.lowlevel.Task]:
    """The task and all its descendants."""
    found, ahead = [], [task]
    while ahead:
        task = ahead.pop()
        found.append(task)
        ahead += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


def all_tasks() -> list[trio.lowlevel.Task]:
    """All tasks, including Trio's own."""
    root = trio.lowlevel.current_root_task()
    return tasks_below(root) if root is not None else []


def tasks_since(before: Container[trio.lowlevel.Task]) -> tuple[str, ...]:
    """The tasks that were not there `before`, as `tasks_with_lines`, without `_LASTING`."""
    found = [task for task in all_tasks() if task not in before and task.name != _LASTING]
    return tasks_with_lines(found)


def leaf_tasks(task: trio.lowlevel.Task) -> list[trio.lowlevel.Task]:
    """The task and its descendants, without those that have child tasks."""
    return [
        each
        for each in tasks_below(task)
        if not any(nursery.child_tasks for nursery in each.child_nurseries)
    ]


def line_of(task: trio.lowlevel.Task) -> str:
    """The innermost line of a task; in the user's code, if the task is in it."""
    frames = [(frame.f_code.co_filename, number) for frame, number in _frames(task)]
    of_others = [at for at in frames if not at[0].startswith(_TRIO)] or frames[:1]
    of_users = [at for at in of_others if not at[0].startswith(_OURS)]
    found = of_users or of_others
    return place(*found[-1]) if found else "an unknown line"


def _frames(task: Any) -> Iterator[tuple[FrameType, int]]:
    """The frames of a task, the innermost last; with those behind `parking`, where Trio stops."""
    frame: FrameType | None = None
    for frame, number in trio.lowlevel.Task.iter_await_frames(task):
        yield frame, number
    if frame is not None and frame.f_code is parking.__code__:
        yield from _frames(SimpleNamespace(coro=frame.f_locals["awaited"]))


def tasks_with_lines(tasks: list[trio.lowlevel.Task]) -> tuple[str, ...]:
    """Each task as `NAME at FILE:LINE`."""
    return tuple(f"{task.name} at {line_of(task)}" for task in tasks)
