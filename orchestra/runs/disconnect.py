"""The rules for a run whose last follower has left. Pure.

The policy of a route is a value. It gives the time at which the run is cancelled; a follower who
returns before keeps the run alive.
"""

from __future__ import annotations

from math import inf
from typing import TypeAlias

import msgspec


class CancelRun(msgspec.Struct, frozen=True):
    """The run is cancelled at once: nothing more is billed."""


class ContinueRun(msgspec.Struct, frozen=True):
    """The run goes on to its end, which its deadline bounds."""


class LingerRun(msgspec.Struct, frozen=True):
    """The run goes on for `for_s`, so that a client whose connection broke finds it again."""

    for_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.for_s < inf:
            raise ValueError(
                f"LingerRun(for_s={self.for_s!r}): write seconds, greater than 0 and finite; use "
                "CancelRun() for none, and ContinueRun() for no end"
            )


OnLeave: TypeAlias = CancelRun | ContinueRun | LingerRun
CANCEL, CONTINUE = CancelRun(), ContinueRun()


def ends_at_s(policy: OnLeave, left_at_s: float) -> float:
    """When a run is cancelled whose last follower left at `left_at_s`; infinity is never."""
    match policy:
        case CancelRun():
            return left_at_s
        case LingerRun(for_s):
            return left_at_s + for_s
        case ContinueRun():
            return inf


def on_leave(name: str, linger_s: float) -> OnLeave:
    """The policy of this name in a configuration.

    Raises:
        ValueError: there is no such policy, or `linger_s` is not a time.
    """
    match name:
        case "cancel":
            return CANCEL
        case "continue":
            return CONTINUE
        case "linger":
            return LingerRun(linger_s)
    raise ValueError(f'disconnect = {name!r}: write "cancel", "continue" or "linger"')
