"""Rate limits per minute, by the generic cell rate algorithm, with exact refunds. Pure.

The theory. One number is kept: the time at which everything taken so far is paid for, at a steady
rate. Units may be taken if that time is at most one burst ahead of now. A burst is a share of the
limit, by default a tenth, and the steady rate is the rest, so that *any* window of 60 seconds sees
no more than the limit; with the limit as the steady rate, it could see a burst more. A take larger
than a burst waits until its excess has been saved up.

A refund undoes a take as if it had never happened. That differs from adding the units back now: a
take of a minute ago may have no effect any more, and adding its units would let two bursts through
together. If units are taken while the time is ahead of now by `slack`, a refund of an earlier take
can move the time by no more than `slack`; the rest of it was saved up before those units. So for
each open take, the meter keeps what was saved up before it, and how much of a refund would still
have an effect after the units that were taken for good until the next open take. A refund of all
units takes the place of the take: it also brings back what was saved up before. Refunds are exact,
in any order, whatever overlaps: only takes that are closed before they are settled get none.

A meter may be kept in a state, as a `MeterState`: other processes then continue with the same
limit, and a take is found by its id.

Rules of the file: all numbers are integers (nanoseconds and units have a common measure), so that
nothing is lost to rounding. Time is an argument, and never goes back.
"""

from __future__ import annotations

import msgspec

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
BURST_SHARE = 0.1
WAIT_MIN_S = 1e-6
"""A shorter wait might be lost to the clock's rounding, and be repeated for ever."""
OPEN_MAX = 256
"""The most open takes in a kept meter; beyond that, the oldest get no refund."""


class Rate(msgspec.Struct, frozen=True):
    """A rate per minute, and what it allows. Each `debt` argument is `MeterState.debt`."""

    per_minute: int
    burst: int
    steady: int
    """Units per minute: the limit less the burst, plus one, as a minute excludes its end."""

    @classmethod
    def of(cls, per_minute: int, burst_share: float = BURST_SHARE) -> Rate:
        """The rate of a limit, with this share of it as the burst: over 0 and up to 1."""
        burst = min(max(1, int(per_minute * burst_share)), per_minute)
        return cls(per_minute, burst, per_minute + 1 - burst)

    def unused(self, now_ns: int) -> MeterState:
        """An unused meter."""
        return MeterState(now_ns, -self.per_minute * MINUTE_NS)

    def held(self, units: int) -> int:
        """The units to take for an estimate: at most those of a minute.

        A caller can cause any estimate, and a process that dies never gives it back.
        """
        return min(units, self.per_minute)

    def wait_s(self, debt: int, units: int, ahead: int = 0) -> float:
        """Seconds until the units may be taken, after `ahead` other units; 0.0 means now.

        More units than the limit wait only as long as the limit itself.
        """
        wait = debt + (units + ahead - self.burst) * MINUTE_NS
        if wait > 0 and units > self.per_minute:
            wait -= (units - self.per_minute) * MINUTE_NS
        if wait <= 0:
            return 0.0
        return max(-(-wait // self.steady) / SECOND_NS, WAIT_MIN_S)

    def room(self, debt: int) -> int:
        """The number of units that may be taken now."""
        return min(max(self.burst - -(-debt // MINUTE_NS), 0), self.per_minute)


class Taken(msgspec.Struct, array_like=True, eq=False):
    """An open take: units that may be refunded until the take is settled.

    `felt` is how much of a refund, of this take or an earlier one, would still have an effect after
    all units taken for good up to the next open take; None if there are none. `id` and `until_ns`
    are for kept meters: the id by which the take is found, and the time until which it may be
    refunded. `saved` is what was saved up before; below zero, what was not paid yet.
    """

    units: int
    felt: int | None = None
    id: str = ""
    until_ns: int = 0
    saved: int = 0

    def limit(self, felt: int | None) -> None:
        """Note that no more than this of a refund has an effect."""
        if felt is not None and (self.felt is None or felt < self.felt):
            self.felt = felt

    def pass_on(self, back: int) -> int:
        """The effect of this refund, after all units up to the next open take."""
        if self.felt is None:
            return back
        back = min(back, self.felt)
        self.felt -= back
        return back


class MeterState(msgspec.Struct, array_like=True):
    """The meter of one limit, as of `at_ns`. JSON represents it exactly.

    `debt` is what is not paid yet; below zero, it is what is saved up. It is in nanoseconds times
    the steady rate: in this measure, a unit is `MINUTE_NS`.
    """

    at_ns: int
    debt: int
    open: list[Taken] = []

    def advance(self, rate: Rate, now_ns: int) -> bool:
        """Move to this time, at this rate; if the clock went back, return True: no time passes."""
        passed_ns = now_ns - self.at_ns
        if passed_ns > 0:
            self.debt -= passed_ns * rate.steady
        self.at_ns = now_ns
        return passed_ns < 0

    def spend(self, units: int) -> None:
        """Take units without a refund, even if the limit has no room."""
        slack = max(0, self.debt)
        if self.open:
            self.open[-1].limit(slack)
        self.debt = slack + units * MINUTE_NS

    def take(self, units: int, *, id: str = "", until_ns: int = 0) -> Taken:  # noqa: A002 - the field's own name
        """Take estimated units; they must be settled once, whatever happens.

        In a kept meter, they are settled by their id, before `until_ns`.
        """
        saved = -self.debt
        self.debt = max(0, self.debt) + units * MINUTE_NS
        taken = Taken(units, None, id, until_ns, saved)
        self.open.append(taken)
        return taken

    def settle(self, taken: Taken, units: int) -> None:
        """Correct a take to the real number: if lower, the rest was never taken; else, take more.

        The meter has to be at the current time only if the real number is higher.
        """
        at = len(self.open) - 1 if taken is self.open[-1] else self.open.index(taken)
        if units < taken.units or not units:
            back = (taken.units - units) * MINUTE_NS + (0 if units else max(0, taken.saved))
            back = taken.pass_on(back)
            for each in self.open[at + 1 :]:
                if not back:
                    break  # all of it was saved up before a later take
                each.saved += back
                if each.saved > 0:
                    back -= min(back, each.saved)
                if each.felt is not None:
                    back = each.pass_on(back)
            self.debt -= back
        if at:
            before_it = self.open[at - 1]
            before_it.limit(taken.felt)
            if units:
                before_it.limit(max(0, -taken.saved))
        del self.open[at]
        if units > taken.units:
            self.spend(units - taken.units)

    def settle_id(self, id: str, estimate: int, units: int) -> None:  # noqa: A002 - the field's own name
        """As `settle`, by the take's id; a take that is no longer open gets no refund."""
        taken = self.open[-1] if self.open else None
        if taken is None or taken.id != id:
            taken = self.find(id)
        if taken is not None:
            self.settle(taken, units)
        elif units > estimate:
            self.spend(units - estimate)

    def find(self, id: str) -> Taken | None:  # noqa: A002 - the field's own name
        """The open take with this id; None if there is none."""
        for taken in self.open:
            if taken.id == id:
                return taken
        return None

    def closed(self, rate: Rate) -> float:
        """Drop open takes as `close` does; return the seconds for which the meter still matters."""
        if self.open:
            self.close()
        ahead = self.debt + rate.per_minute * MINUTE_NS
        return ahead / rate.steady / SECOND_NS if ahead > 0 else 0.0

    def close(self) -> None:
        """Drop open takes that get no refund any more; their units stay taken.

        These are the takes that are too old or too many, so that the size is bounded, and those
        whose refund would have no effect, with all takes before them.
        """
        felt_from, over = 0, False
        for at, taken in enumerate(self.open, 1):
            if taken.felt == 0:
                felt_from = at
            elif taken.until_ns <= self.at_ns:
                over = True
        if felt_from:
            del self.open[:felt_from]
        if over or len(self.open) > OPEN_MAX:
            self._close_over()

    def _close_over(self) -> None:
        late = len(self.open) - OPEN_MAX
        for at, taken in enumerate(tuple(self.open)):
            if at < late or taken.until_ns <= self.at_ns:
                self.settle(taken, taken.units)


class Meter:
    """The meter of one limit in this process. Every method takes the time, in seconds.

    Take and settle at its `state`, at the time to which it was moved last.
    """

    def __init__(self, per_minute: int, burst_share: float = BURST_SHARE) -> None:
        self.rate = Rate.of(per_minute, burst_share)
        self.state = self.rate.unused(0)

    def advance(self, now_s: float) -> None:
        """Move to this time."""
        self.state.advance(self.rate, int(now_s * SECOND_NS))

    def wait_s(self, now_s: float, units: int, ahead: int = 0) -> float:
        """Seconds until the units may be taken, as for `Rate.wait_s`."""
        self.state.advance(self.rate, int(now_s * SECOND_NS))
        return self.rate.wait_s(self.state.debt, units, ahead)
