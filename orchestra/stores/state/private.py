"""A state in a file that is created only when there is something to store.

Rules of the file: those of `sqlite`. As long as the file does not exist, the state reads as empty.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from orchestra.stores.state.grouping import Call, Deciding, Outcomes, decide_all
from orchestra.stores.state.sqlite import Opened, SqliteState


class UnmadeState(SqliteState):
    """A `SqliteState` that creates its file only when something is written."""

    def _in_thread(
        self, opened: Opened | None, calls: Sequence[Call], given_up: threading.Event
    ) -> tuple[Outcomes, Opened | None]:
        if opened is None and not self._place.is_there():
            changes = [call for call in calls if isinstance(call, Deciding)]
            there = {key: None for call in changes for key in call.keys}
            outcomes, written = decide_all(changes, there, self._now_s())
            if not written and len(changes) == len(calls):
                return outcomes, None
        return super()._in_thread(opened, calls, given_up)


class PrivateState(UnmadeState):
    """An `UnmadeState` for the keys of callers."""

    _restored = "restore it from a backup; without it there are no keys"
