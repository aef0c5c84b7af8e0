"""The part of a portal in its Trio thread: it takes calls from other threads until it is closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from orchestra.engine.engine import FLUSH_S, Engine

if TYPE_CHECKING:
    from orchestra.portal.cross_thread import CrossThreadCall

CLOSE_S = 5.0
"""How long closing a portal waits for its runs to end."""
LEAVE_S = 2 * CLOSE_S + FLUSH_S
"""How long the program waits for all of it: runs that end late have as long again."""


class TrioSide:
    """The part of a portal in its Trio thread; any thread may call `call_soon` and `begin`."""

    def __init__(self, engine: Engine, nursery: trio.Nursery) -> None:
        self.engine = engine
        self._nursery = nursery
        self.token = trio.lowlevel.current_trio_token()
        self._closing = trio.Event()

    def call_soon(self, act: Callable[[], object]) -> bool:
        """Call `act` in Trio soon; False if Trio has ended."""
        try:
            self.token.run_sync_soon(act)
        except trio.RunFinishedError:
            return False
        return True

    def begin(self, call: CrossThreadCall[Any]) -> None:
        """Start a call, or refuse it if the portal is closed."""

        def start() -> None:
            if self._closing.is_set():
                call.refuse()
            else:
                self._nursery.start_soon(call.perform)

        if not self.call_soon(start):
            call.refuse()

    def close_soon(self) -> bool:
        """Accept no more calls, and end those in progress; False if Trio has ended."""
        return self.call_soon(self._closing.set)

    async def serve(self) -> None:
        """Wait until the portal is closed, then until its runs have ended."""
        try:
            await self._closing.wait()
        finally:
            self._closing.set()  # also if Trio has failed: its nursery takes no calls
        self.engine.close()
        with trio.move_on_after(CLOSE_S):
            await self.engine.wait_idle()
        self._nursery.cancel_scope.cancel()
