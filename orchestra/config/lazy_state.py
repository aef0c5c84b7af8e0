"""A state that is opened on first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from orchestra.protocols import State


class _LazyState:
    """A state whose members are those of `opened()`, which is called on each use, not before."""

    def __init__(self, opened: Callable[[], State]) -> None:
        self._opened = opened

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened(), name)


def lazy_state(opened: Callable[[], State]) -> State:
    """The state that `opened()` returns; each use may also raise what `opened` raises.

    For policies that exist only in case the key of a caller has limits: until then, no Redis client
    is imported, and the variable with its password is not read.
    """
    return cast("State", _LazyState(opened))
