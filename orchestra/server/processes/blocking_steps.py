"""Finds steps and tools that block a server's event loop, and the line at which they do.

An `async def` step or tool that calls `time.sleep`, or a client library that waits without
`await`, stops all streams of the process, and no task can notice it meanwhile. A thread can: if the
event loop has not run for a while, the thread looks at the stack of the main thread. It warns only
if it finds the same call of a step twice in a row, since the event loop of a busy server is
sometimes late, too. Time in which threads of the process were ready to run, but had no core, is not
counted: on a busy machine, or in a container at its CPU limit, a step that computes for 30 ms may
take a second. It counts for all threads, since one that has no core may hold the GIL.

If the whole process stood still, the thread can only say so afterwards. Other processes take it for
dead after five seconds.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import attrs
import trio

from orchestra.engine.calls import calls
from orchestra.graph.source.frames import is_own, place

BEAT_S = 0.2
"""Seconds between the times at which the event loop reports that it runs."""
LOOK_S = 0.25
"""Seconds between the times at which the thread checks the last report."""
LIMIT_S = 0.5
"""How long a step may block the event loop before there is a warning."""
STILL_S = 2.0
"""How much later than it should the thread may run before there is a warning."""
AGAIN_S = 60.0
"""How long there is no further warning about the same line."""
PLACES_MAX = 100
"""After warnings about more lines than this, there are no further ones."""
OF_STEPS = (
    "step %r blocks: all other runs wait for it, at %s; make it a plain function with "
    "@step(thread=True), or await what it waits for"
)
OF_OTHERS = (
    "%r blocks: all other runs wait for it, at %s; make it a plain function with "
    "@tool(thread=True), or call what blocks in `await trio.to_thread.run_sync(...)`"
)
STOOD_STILL = (
    "this process stood still for %.1f s, and all its runs waited: it was suspended or had no "
    "processor, or code in C kept the GIL (the lock of Python)"
)
_TRIO = trio.run.__code__.co_filename  # the module that calls every task

log = logging.getLogger("orchestra.server")


def waits_s() -> dict[str, float]:
    """How long each thread of this process has been ready to run without a core, by its native ID.

    Only Linux tells; elsewhere it is empty.
    """
    waits: dict[str, float] = {}
    for each in Path("/proc/self/task").glob("*/schedstat"):
        try:
            waits[each.parent.name] = int(each.read_bytes().split()[1]) / 1e9
        except (OSError, IndexError):  # the thread has ended
            continue
    return waits


@attrs.define(eq=False)
class BlockingStepDetector:
    """Warns in the log of steps and tools that block the event loop for `limit_s` seconds."""

    limit_s: float = LIMIT_S
    look_s: float = LOOK_S
    still_s: float = STILL_S
    waits_s: Callable[[], dict[str, float]] = waits_s
    """How long each thread of the process has waited for a core."""
    _beat_s: float = 0.0
    _over: threading.Event = attrs.field(factory=threading.Event)
    _warned_s: dict[str, float] = attrs.field(factory=dict)
    """When there was the last warning about a line."""

    async def watch(self) -> None:
        """Watch until cancelled; call this in the thread that runs the steps."""
        self._beat_s = time.monotonic()
        look = threading.Thread(
            target=self._look, args=(threading.get_ident(),), name="blocking-steps", daemon=True
        )
        look.start()
        try:
            while True:
                await trio.sleep(BEAT_S)
                self._beat_s = time.monotonic()
        finally:
            self._over.set()

    def _look(self, thread_id: int) -> None:
        before: FrameType | None = None
        since_s, waits_s = 0.0, dict[str, float]()
        while not self._slept():
            late = time.monotonic() - self._beat_s >= self.limit_s
            stack = sys._current_frames().get(thread_id) if late else None  # noqa: SLF001
            found, advice = step_in(stack), OF_STEPS
            if found is None:
                found, advice = task_in(stack), OF_OTHERS
            if found is None or found is not before:
                before, since_s, waits_s = found, time.monotonic(), self.waits_s() if found else {}
            elif time.monotonic() - since_s - self._waited_s(waits_s) >= self.look_s / 2:
                where = place(found.f_code.co_filename, found.f_lineno)
                self._warn(where, advice, found.f_code.co_name, where)

    def _slept(self) -> bool:
        """Sleep until the next look; True if the watch is over."""
        began_s = time.monotonic()
        over = self._over.wait(self.look_s)
        still_s = time.monotonic() - began_s - self.look_s
        if still_s >= self.still_s:
            self._warn("", STOOD_STILL, still_s)
        return over

    def _waited_s(self, before_s: dict[str, float]) -> float:
        now_s = self.waits_s()
        return sum(now_s[each] - before_s[each] for each in now_s.keys() & before_s.keys())

    def _warn(self, where: str, text: str, *details: object) -> None:
        now_s, warned_s = time.monotonic(), self._warned_s
        if now_s - warned_s.get(where, -AGAIN_S) < AGAIN_S or len(warned_s) > PLACES_MAX:
            return
        warned_s[where] = now_s
        log.warning(text, *details)


def step_in(frame: FrameType | None) -> FrameType | None:
    """The frame of the step in a stack, given its innermost frame; None if no step is running."""
    inner: FrameType | None = None
    while frame is not None:
        if frame.f_code.co_filename == calls.__file__:
            return inner
        inner, frame = frame, frame.f_back
    return None


def task_in(frame: FrameType | None) -> FrameType | None:
    """The outermost frame of user code in a task: a tool, or a task that a step has started."""
    users: FrameType | None = None
    while frame is not None:
        file = frame.f_code.co_filename
        if file == _TRIO:
            return users
        if is_own(file):  # the server's libraries stay on the stack
            users = frame
        frame = frame.f_back
    return None
