"""The disconnect policies: what happens to a run when its last follower has left. Pure.

A policy is a value. It gives the time at which the run is cancelled; a follower that comes back
before then keeps the run alive.
"""

from __future__ import annotations

from math import inf
from typing import TypeAlias

import msgspec


class CancelRun(msgspec.Struct, frozen=True):
    """Cancel the run at once, so that nothing more is billed."""


class ContinueRun(msgspec.Struct, frozen=True):
    """Let the run go on to its end, which its deadline bounds."""


class LingerRun(msgspec.Struct, frozen=True):
    """Let the run go on for `for_s`, so that a client whose connection broke can come back."""

    for_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.for_s < inf:
            raise ValueError(
                f"LingerRun(for_s={self.for_s!r}): write a finite number of seconds greater than "
                "0; to cancel at once, use CancelRun(), and to never cancel, ContinueRun()"
            )


OnLeave: TypeAlias = CancelRun | ContinueRun | LingerRun
CANCEL, CONTINUE = CancelRun(), ContinueRun()


def ends_at_s(policy: OnLeave, left_at_s: float) -> float:
    """When to cancel a run whose last follower left at `left_at_s`; infinity means never."""
    match policy:
        case CancelRun():
            return left_at_s
        case LingerRun(for_s):
            return left_at_s + for_s
        case ContinueRun():
            return inf


def on_leave(name: str, linger_s: float) -> OnLeave:
    """The policy with this name in the configuration.

    Raises:
        ValueError: there is no such policy, or `linger_s` is not positive and finite.
    """
    match name:
        case "cancel":
            return CANCEL
        case "continue":
            return CONTINUE
        case "linger":
            return LingerRun(linger_s)
    raise ValueError(f'disconnect = {name!r}: write "cancel", "continue" or "linger"')
