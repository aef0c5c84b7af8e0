"""Hedging: how long a race waits for its first arm before it starts another.

The theory. For the last races it is known how long the first arm took to its commit; or, if
another arm won, or it failed, or the race was cancelled, that it took at least that long. Leaving
these out would make the arm look faster than it is, since they are the slow ones. So the quantile
is that of Kaplan and Meier (1958), which counts each as long as it was observed. If so few were
observed to their commit that a high quantile is unknown, the longest time to a commit is used. It
is too short, but its cost is bounded by a token bucket: each race adds its share, and each extra
arm takes one token. Only arms started by time take a token: an arm that replaces failed ones is
not extra.

Rules of the file: time is an argument, and never goes back; `Hedging` passes it Trio's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable

import trio

from orchestra.eventclass import frozen
from orchestra.graph.rules.hedging import Hedge

WINDOW = 200
"""Races kept for each race construct: at p99, two are beyond it."""
AGE_S = 3600.0
"""How long they are kept: times from before a night without calls say nothing about now."""
COMMITS_MIN = 20
"""Commits of the first arm before a quantile is used: at p95, one is beyond it."""
BURST = 10.0
"""The size of the token bucket, which is full at the start; as in gRPC's example."""
RACES_MAX = 1024
"""Race constructs kept by an engine, as many as plans; the least recently run are dropped."""
_ROUNDING = 1e-9


@frozen
class Seen:
    """One race: how long its first arm took to commit, or took at least."""

    took_s: float
    cut: bool
    """Whether no commit was observed: then the time is a lower bound, sorted after equal ones."""
    at_s: float


def quantile_s(seen: Iterable[Seen], quantile: float) -> float | None:
    """The time within which this share of the first arms commits; None if none ever did.

    If fewer were observed to commit, the longest time to a commit. If all were observed, it is
    the smallest of the times that is at least as long as this share of them.
    """
    ordered = sorted((one.took_s, one.cut) for one in seen)
    beyond, longest_s = 1.0, None
    for place, (took_s, cut) in enumerate(ordered):
        if cut:
            continue
        beyond *= 1 - 1 / (len(ordered) - place)
        longest_s = took_s
        if beyond <= 1 - quantile + _ROUNDING:  # 0.05 after 200 multiplications
            break
    return longest_s


class Learned:
    """What one race construct has learned, and its token bucket.

    Bounded: `WINDOW` races, none older than `AGE_S`. In any history of n races, at most
    `BURST + share * n` extra arms are started.
    """

    __slots__ = ("_commits", "_seen", "_tokens", "hedge")

    def __init__(self, hedge: Hedge) -> None:
        self.hedge = hedge
        self._seen: deque[Seen] = deque()
        self._commits = 0
        self._tokens = BURST

    def saw(self, took_s: float, now_s: float, *, committed: bool) -> None:
        """Add the time of a first arm to its commit; if not `committed`, a lower bound of it."""
        if len(self._seen) == WINDOW:
            self._forget()
        self._seen.append(Seen(took_s, not committed, now_s))
        self._commits += committed

    def delay_s(self, now_s: float) -> float | None:
        """Seconds to wait before another arm is started; None while too little is known."""
        while self._seen and self._seen[0].at_s <= now_s - AGE_S:
            self._forget()
        if self._commits < COMMITS_MIN:
            return None
        return quantile_s(self._seen, self.hedge.quantile)

    def _forget(self) -> None:
        self._commits -= not self._seen.popleft().cut

    def began(self) -> None:
        """Add the share of a race that has begun."""
        self._tokens = min(BURST, self._tokens + self.hedge.share)

    def take(self) -> bool:
        """Take a token for an extra arm, if there is one."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Hedges:
    """What the hedged races of an engine have learned, for at most `RACES_MAX` constructs."""

    def __init__(self) -> None:
        self._learned: dict[Hashable, Learned] = {}

    def of(self, race: Hashable, hedge: Hedge) -> Learned:
        """What this construct has learned; nothing if it is new or was dropped."""
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
        """`start_s` is the delay until one is learned."""
        self._learned = learned
        self._ended = False
        self._since_s = trio.current_time()
        learned.began()
        delay_s = learned.delay_s(self._since_s)
        self.delay_s = start_s if delay_s is None else delay_s

    def take(self) -> bool:
        """Whether another arm may be started by time; if so, this takes a token."""
        return self._learned.take()

    def ended(self, *, committed: bool) -> None:
        """Note the end of the first arm: its commit, or its failure, loss or cancellation; once."""
        if not self._ended:
            self._ended = True
            now_s = trio.current_time()
            self._learned.saw(now_s - self._since_s, now_s, committed=committed)
