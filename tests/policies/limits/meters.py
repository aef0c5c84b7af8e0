"""What is done with a meter at a time in seconds, as `Limit` does it."""

from __future__ import annotations

from orchestra.policies.limits.gcra import Meter, Taken


def spend(meter: Meter, now_s: float, units: int) -> None:
    """Take units without a refund, even if the limit has no room."""
    meter.advance(now_s)
    meter.state.spend(units)


def take(meter: Meter, now_s: float, units: int) -> Taken:
    """Take estimated units."""
    meter.advance(now_s)
    return meter.state.take(units)


def settle(meter: Meter, taken: Taken, now_s: float, units: int) -> None:
    """Correct a take to the real number."""
    meter.advance(now_s)
    meter.state.settle(taken, units)
