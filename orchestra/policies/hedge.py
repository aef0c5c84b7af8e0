"""Hedging: how long a race waits for its first arm before it starts another.

The theory. For each recent race, it is known how long the first arm took to commit; or only that
it would have taken longer than it was observed, because another arm won, the arm failed, or the
race was cancelled. Leaving out these cut observations would make the arm look faster than it is,
since they are the slow ones. So the quantile is estimated as by Kaplan and Meier (1958), which
counts each observation for as long as it lasted. If so few arms were observed to commit that a
high quantile is unknown, the longest observed time to a commit is used. That is too short, but its
cost is bounded by a token bucket: each race adds its share of a token, and each extra arm takes
one. Only an arm started by the delay is extra: one that replaces a failed arm takes no token.

If the first arm is a call of one model, up to its first content, its times are also those of the
model. A race that has seen too few of its own uses what other races of the engine saw of the model.
Its own are better, since they are those of its own prompts. Routes learn something else of a model
(`health/latency`): its current average and load, from calls that nothing cuts.

Rules of the file: time is an argument, and never goes back; `Hedging` passes Trio's time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable

import trio

from orchestra.eventclass import frozen
from orchestra.graph.rules.hedging import Hedge

WINDOW = 200
"""Races kept for each race construct: two of them are beyond the 99th percentile."""
AGE_S = 3600.0
"""How long a race is kept: times from before a night without calls say nothing about now."""
COMMITS_MIN = 20
"""First-arm commits before a quantile is used: one of them is beyond the 95th percentile."""
BURST = 10.0
"""The size of the token bucket, which is full at the start; as in gRPC's example."""
RACES_MAX = 1024
"""Race constructs kept per engine, as many as plans, and as many models; the least recently run are
dropped.
"""
_ROUNDING = 1e-9


@frozen
class Seen:
    """One race: how long its first arm took to commit, or a lower bound of that time."""

    took_s: float
    cut: bool
    """Whether no commit was observed; `took_s` is then a lower bound, sorted after equal times."""
    at_s: float


def quantile_s(seen: Iterable[Seen], quantile: float) -> float | None:
    """The time within which this share of first arms commits; None if no commit was observed.

    If a smaller share was observed to commit, it is the longest observed time to a commit. If all
    were observed to commit, it is the ordinary quantile: the smallest of the times that is at
    least as long as this share of them.
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


class Times:
    """What was seen of one first arm. Bounded: `WINDOW` races, none older than `AGE_S`."""

    __slots__ = ("_commits", "_seen")

    def __init__(self) -> None:
        self._seen: deque[Seen] = deque()
        self._commits = 0

    def saw(self, took_s: float, now_s: float, *, committed: bool) -> None:
        """Add a first arm's time to its commit; a lower bound of it if it has not `committed`."""
        if len(self._seen) == WINDOW:
            self._forget()
        self._seen.append(Seen(took_s, not committed, now_s))
        self._commits += committed

    def within_s(self, quantile: float, now_s: float) -> float | None:
        """The time within which this share of arms commits; None with too few observations."""
        while self._seen and self._seen[0].at_s <= now_s - AGE_S:
            self._forget()
        if self._commits < COMMITS_MIN:
            return None
        return quantile_s(self._seen, quantile)

    def _forget(self) -> None:
        self._commits -= not self._seen.popleft().cut


class Learned(Times):
    """What one race construct has learned, and its token bucket.

    In any history of n races, at most `BURST + share * n` extra arms are started.
    """

    __slots__ = ("_tokens", "hedge")

    def __init__(self, hedge: Hedge) -> None:
        super().__init__()
        self.hedge = hedge
        self._tokens = BURST

    def began(self) -> None:
        """Add the share of a token for a race that has begun."""
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
        self._models: dict[str, Times] = {}

    def of(self, race: Hashable, hedge: Hedge) -> Learned:
        """What this race construct has learned; empty if it is new or was dropped."""
        learned = self._learned.pop(race, None)
        if learned is None:
            learned = Learned(hedge)
        self._learned[race] = learned
        if len(self._learned) > RACES_MAX:
            del self._learned[next(iter(self._learned))]
        return learned

    def of_model(self, name: str) -> Times:
        """The times to the first content of this model, in all races that begin with it."""
        times = self._models.pop(name, None) or Times()
        self._models[name] = times
        if len(self._models) > RACES_MAX:
            del self._models[next(iter(self._models))]
        return times


class Hedging:
    """One race, from its start until its first arm has ended or lost."""

    __slots__ = ("_ended", "_learned", "_of_model", "_since_s", "delay_s")

    def __init__(self, learned: Learned, of_model: Times | None, start_s: float) -> None:
        """`of_model` is for a race that knows too little; `start_s` is the delay until one does."""
        self._learned, self._of_model = learned, of_model
        self._ended = False
        self._since_s = trio.current_time()
        learned.began()
        quantile, self.delay_s = learned.hedge.quantile, start_s
        for times in (learned, of_model):
            found_s = None if times is None else times.within_s(quantile, self._since_s)
            if found_s is not None:
                self.delay_s = found_s
                break

    def take(self) -> bool:
        """Whether an extra arm may be started after the delay; if so, take a token for it."""
        return self._learned.take()

    def ended(self, *, committed: bool) -> None:
        """Note that the first arm has committed, failed, lost or was cancelled.

        Only the first call counts.
        """
        if not self._ended:
            self._ended = True
            now_s = trio.current_time()
            for times in (self._learned, self._of_model):
                if times is not None:
                    times.saw(now_s - self._since_s, now_s, committed=committed)
