"""The decisions of a supervisor: when to replace a worker that died, and the exit code. Pure.

The theory: if a worker was ready for `healthy_s`, its death says nothing about the next one. A
worker that dies sooner may do so at every start, so each death in a row doubles the wait. After
more than `deaths_max` deaths in a row, the supervisor gives up, unless other workers serve: then it
tries again after the longest wait, since fewer workers are better than none.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable

import attrs

FAILED = 1
_EXPONENT_MAX = 30
"""The largest exponent of two: its wait is longer than any maximum, and does not overflow."""


@attrs.frozen(kw_only=True)
class RestartRule:
    """When and how often a worker that died is replaced. Times are in seconds."""

    delay_s: float = 0.1
    """The wait after the first death; each further death in a row doubles it."""
    delay_max_s: float = 30.0
    """The longest wait, before jitter."""
    healthy_s: float = 30.0
    """How long a worker must have been ready for its death not to count."""
    deaths_max: int = 10
    """The most deaths in a row after which a worker is started again; with the default waits, they
    take about two minutes."""


@attrs.frozen
class Replace:
    """Start another worker in `delay_s` seconds; `deaths` have died in a row in its place."""

    delay_s: float
    deaths: int


@attrs.frozen
class GiveUp:
    """Stop the server: `deaths` workers died in a row in this place, and no other worker serves."""

    deaths: int


def after_death(
    rule: RestartRule, deaths: int, lived_s: float, jitter: float, *, others_serve: bool
) -> Replace | GiveUp:
    """Decide what to do after the death of a worker that was ready for `lived_s` seconds.

    `deaths` is the number of earlier deaths in a row in its place. `jitter` is from 0 to 1, so that
    workers that died together do not start together. `others_serve` says whether another worker is
    ready.
    """
    deaths = 1 if lived_s >= rule.healthy_s else deaths + 1
    if deaths > rule.deaths_max and not others_serve:
        return GiveUp(deaths)
    delay_s = min(rule.delay_max_s, rule.delay_s * 2 ** min(deaths - 1, _EXPONENT_MAX))
    return Replace(delay_s * (1 + jitter), deaths)


@attrs.frozen
class Ended:
    """How a worker ended that was asked to stop: its exit code, and whether it was ever ready.

    The code is as in `subprocess`: the negated signal number if a signal has killed the worker.
    """

    number: int
    code: int
    ready: bool

    @property
    def in_order(self) -> bool:
        """Whether it ended as asked: with 0, or killed by SIGTERM if it was still starting."""
        return self.code == 0 or (not self.ready and self.code == -signal.SIGTERM)


def exit_code(ends: Iterable[Ended]) -> int:
    """The supervisor's exit code after all workers were asked to stop: 0 if all ended in order."""
    return 0 if all(each.in_order for each in ends) else FAILED


def code_of_first(code: int) -> int:
    """The supervisor's exit code if the first worker ended with `code` before it was ever ready.

    It is the worker's code, which says whether the command line was wrong; but if that is 0, or a
    signal's, it is 1.
    """
    return code if code > 0 else FAILED


def spelled(code: int) -> str:
    """How a process ended, as text: `exit code 3`, or `SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
