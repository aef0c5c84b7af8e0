"""The time limit of idle connections, which one task of the server enforces.

Hypercorn has a task for each idle connection, which each request ends and each response starts. A
deadline of Trio's that each of them moves costs less, but still a hundredth of a relayed request.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf

import trio
from hypercorn.trio.worker_context import TrioSingleTask


class Idle:
    """The idle connections of a server, the one that has been idle longest first."""

    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s
        self.until_s: OrderedDict[IdleTimer, float] = OrderedDict()
        """When each of them is closed, as a time of Trio's clock."""
        self._resting = trio.CancelScope()

    async def watch(self) -> None:
        """Close connections when they have been idle for `patience_s`, until this is cancelled."""
        while True:
            self._resting = trio.CancelScope(deadline=self.look(trio.current_time()))
            with self._resting:
                await trio.sleep_forever()
            # If the event loop was blocked, requests may have come: their tasks run first.
            await trio.lowlevel.checkpoint()

    def look(self, now_s: float) -> float:
        """Close those whose time has come, and return when that of the next one comes."""
        while self.until_s:
            first, until_s = next(iter(self.until_s.items()))
            if until_s > now_s:
                return until_s
            del self.until_s[first]
            first.scope.cancel()
        return inf  # a server without connections never wakes up

    def add(self, timer: IdleTimer) -> None:
        """Close this connection after `patience_s`, unless it is removed from `until_s` before."""
        self.until_s[timer] = until_s = trio.current_time() + self.patience_s
        if self._resting.deadline == inf:
            self._resting.deadline = until_s


class IdleTimer(TrioSingleTask):
    """The time limit of one connection, in place of Hypercorn's task; `scope` reads from it."""

    def __init__(self, idle: Idle) -> None:
        self._idle = idle
        self.scope = trio.CancelScope()

    async def restart(self, *_: object) -> None:
        """Start the time limit: the connection is idle. Like `stop`, it is not a checkpoint."""
        self.end()
        self._idle.add(self)

    async def stop(self) -> None:
        """Stop the time limit: the connection is busy."""
        self.end()

    def end(self) -> None:
        """As `stop`; a connection that is closed must not be kept here."""
        self._idle.until_s.pop(self, None)

    def linger(self, limit_s: float) -> None:
        """Start a time limit for a client that still sends after its last response."""
        self.end()
        self.scope.deadline = trio.current_time() + limit_s

    @property
    def ends_at(self) -> float:
        """When the connection is closed, as a time of Trio's clock; inf while it is busy."""
        return min(self._idle.until_s.get(self, inf), self.scope.deadline)
