"""Hedging: how long a race waits for its first arm before it starts another.

The theory. Of the last races it is known how long the first arm took to its commit, or, where
another won, or it failed, or the race was cancelled, that it had taken at least that long. To
leave these out would make the arm look faster than it is: they are just the slow ones. So the
quantile is that of Kaplan and Meier (1958), which counts each for as long as it was watched.
Where no more than some of them were seen to their end, so that a high quantile is not known, the
longest time to a commit stands for it; it is too short, and what too short costs is bounded by
the second half: a token bucket, which each race fills by its share and each extra arm empties by
one. Only what is started by time is paid for: an arm that replaces failed ones is no extra.

Rules of the file: time comes in as an argument, and never goes back; `Hedging` hands it Trio's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable

import attrs
import trio

from orchestra.graph.rules.hedging import Hedge

WINDOW = 200
"""Races that are remembered of each construct: p99 then has two beyond it."""
AGE_S = 3600.0
"""And no longer than this, or a night without calls would be yesterday's weather."""
COMMITS_MIN = 20
"""Of the first arm, before they prove anything: p95 then has one beyond it."""
BURST = 10.0
"""Extra arms that may be saved up, and are there from the start; as in gRPC's example."""
RACES_MAX = 1024
"""Race constructs that an engine remembers, as many as plans; the least recently run go first."""
_ROUNDING = 1e-9


@attrs.frozen
class Seen:
    """What is known of one race: how long its first arm took, or had taken at least."""

    took_s: float
    cut: bool
    """Whether it was not seen to its commit: it goes on, so it comes after those that were."""
    at_s: float


def quantile_s(seen: Iterable[Seen], quantile: float) -> float | None:
    """The time within which this share of the first arms is committed to; None if none ever was.

    The longest time to a commit, where the share that was seen to commit is less. Without any
    that were cut it is the smallest of the times that is at least as long as this share of them.
    """
    ordered = sorted((one.took_s, one.cut) for one in seen)
    beyond, longest_s = 1.0, None
    for place, (took_s, cut) in enumerate(ordered):
        if cut:
            continue
        beyond *= 1 - 1 / (len(ordered) - place)
        longest_s = took_s
        if beyond <= 1 - quantile + _ROUNDING:  # 0.05, as 200 multiplications make it
            break
    return longest_s


class Learned:
    """What one race construct has learned, and what it may still spend.

    Bounded: `WINDOW` races, none older than `AGE_S`. In any history of n races, at most
    `BURST + share * n` extra arms are paid for.
    """

    __slots__ = ("_commits", "_seen", "_tokens", "hedge")

    def __init__(self, hedge: Hedge) -> None:
        self.hedge = hedge
        self._seen: deque[Seen] = deque()
        self._commits = 0
        self._tokens = BURST

    def saw(self, took_s: float, now_s: float, *, committed: bool) -> None:
        """Remember how long a first arm took to its commit; else, that it had taken that long."""
        if len(self._seen) == WINDOW:
            self._forget()
        self._seen.append(Seen(took_s, not committed, now_s))
        self._commits += committed

    def delay_s(self, now_s: float) -> float | None:
        """How long to wait before another arm is started; None while too little is known."""
        while self._seen and self._seen[0].at_s <= now_s - AGE_S:
            self._forget()
        if self._commits < COMMITS_MIN:
            return None
        return quantile_s(self._seen, self.hedge.quantile)

    def _forget(self) -> None:
        self._commits -= not self._seen.popleft().cut

    def began(self) -> None:
        """A race has begun: it adds its share."""
        self._tokens = min(BURST, self._tokens + self.hedge.share)

    def take(self) -> bool:
        """Pay for an extra arm, if there is enough."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Hedges:
    """What all the hedged races of an engine have learned: `RACES_MAX` constructs at most."""

    def __init__(self) -> None:
        self._learned: dict[Hashable, Learned] = {}

    def of(self, race: Hashable, hedge: Hedge) -> Learned:
        """What this construct has learned; nothing yet, where it is new or was forgotten."""
        learned = self._learned.pop(race, None)
        if learned is None:
            learned = Learned(hedge)
        self._learned[race] = learned
        if len(self._learned) > RACES_MAX:
            del self._learned[next(iter(self._learned))]
        return learned


class Hedging:
    """One race, from its start until its first arm has ended or lost."""

    __slots__ = ("_ended", "_learned", "_since_s", "delay_s")

    def __init__(self, learned: Learned, start_s: float) -> None:
        """`start_s` is the delay for as long as nothing is learned."""
        self._learned = learned
        self._ended = False
        self._since_s = trio.current_time()
        learned.began()
        delay_s = learned.delay_s(self._since_s)
        self.delay_s = start_s if delay_s is None else delay_s

    def take(self) -> bool:
        """Whether one more arm may be started by time; that it is, is then paid for."""
        return self._learned.take()

    def ended(self, *, committed: bool) -> None:
        """The first arm was committed to, or else failed, lost or was stopped; the first time."""
        if not self._ended:
            self._ended = True
            now_s = trio.current_time()
            self._learned.saw(now_s - self._since_s, now_s, committed=committed)
