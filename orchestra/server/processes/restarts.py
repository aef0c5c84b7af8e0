"""The decisions of a supervisor: when a dead worker is replaced, and the exit code. Pure.

The theory: a worker that was ready for `healthy_s` can live, and its death says nothing about the
next one. One that dies sooner may do so at every start: each death in a row doubles the wait. After
`deaths_max` of them, its place is given up, unless other workers serve: then it is tried again
after the longest wait, since fewer workers are better than none.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable

import attrs

FAILED = 1
_EXPONENT_MAX = 30
"""The largest exponent of two: larger than any wait, without an overflow."""


@attrs.frozen(kw_only=True)
class RestartRule:
    """When and how often a worker that died is replaced. Times are in seconds."""

    delay_s: float = 0.1
    """The wait before the first attempt; doubled with every death in a row."""
    delay_max_s: float = 30.0
    """The longest wait, before jitter."""
    healthy_s: float = 30.0
    """How long a worker must have been ready for its death not to count."""
    deaths_max: int = 10
    """Deaths in a row after which a place is given up; by then about two minutes have passed."""


@attrs.frozen
class Replace:
    """Start another worker in `delay_s` seconds; in its place `deaths` have died in a row."""

    delay_s: float
    deaths: int


@attrs.frozen
class GiveUp:
    """Stop the server: `deaths` workers of this place died in a row, and no other one serves."""

    deaths: int


def after_death(
    rule: RestartRule, deaths: int, lived_s: float, jitter: float, *, others_serve: bool
) -> Replace | GiveUp:
    """The decision about a worker that has died after being ready for `lived_s` seconds.

    `deaths` are those in a row before it in its place; `jitter` is from 0 to 1, so that workers
    which died together do not start together; `others_serve` is whether another one is ready.
    """
    deaths = 1 if lived_s >= rule.healthy_s else deaths + 1
    if deaths > rule.deaths_max and not others_serve:
        return GiveUp(deaths)
    delay_s = min(rule.delay_max_s, rule.delay_s * 2 ** min(deaths - 1, _EXPONENT_MAX))
    return Replace(delay_s * (1 + jitter), deaths)


@attrs.frozen
class Ended:
    """How a worker ended that was asked to: its exit code, and whether it had ever been ready.

    The code is that of `subprocess`: of one that a signal has killed, the negated number.
    """

    number: int
    code: int
    ready: bool

    @property
    def in_order(self) -> bool:
        """Whether it has left as it was asked to; one that was still starting may be cut."""
        return self.code == 0 or (not self.ready and self.code == -signal.SIGTERM)


def exit_code(ends: Iterable[Ended]) -> int:
    """The supervisor's own, when all have ended that were asked to: 0 if all were in order."""
    return 0 if all(each.in_order for each in ends) else FAILED


def code_of_first(code: int) -> int:
    """The supervisor's own, where a worker ended with this before it was ever ready.

    Its own, which says whether the command was called wrongly, unless there is none that says
    that something is wrong.
    """
    return code if code > 0 else FAILED


def spelled(code: int) -> str:
    """How a process ended, in words: `exit code 3`, `SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
