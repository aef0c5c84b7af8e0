"""So much a minute, by the generic cell rate algorithm, with exact refunds. Pure.

The theory. One number is kept: the time until which all that was taken is paid for, at a steady
rate. Something may be taken when that time is no more than a burst ahead. A burst is a tenth of
the limit and the steady rate the rest of it, so that *any* 60 seconds, wherever they begin, see
no more than the limit; with a burst as large as the limit, they could see twice as much. What is
larger than a burst waits until its excess has been saved up.

A refund undoes what was taken, as if it had never been. That is not the same as paying it back:
of what was taken a minute ago nothing may be left, and paying it back now would let two bursts
through together. So for everything that may be refunded it is remembered how much of it is still
felt: when something is taken while the time is ahead by `slack`, then a refund of what came
before can move it by no more than that.

What is taken may be kept elsewhere, as a `MeterState`: other processes then go on with the same
limit, and what was taken is found again by its id.

Rules of the file: numbers are whole (a nanosecond and a unit have a common measure), so that
nothing is lost to rounding. Time is an argument, and never goes back.
"""

from __future__ import annotations

import msgspec

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
BURST_SHARE = 10
WAIT_MIN_S = 1e-6
"""A shorter wait might be lost in a clock's rounding, and be waited for ever."""
OPEN_MAX = 256
"""Takes that a kept meter remembers for their refunds; the oldest are beyond refund then."""


class Rate(msgspec.Struct, frozen=True):
    """So much a minute, and what it allows. A `debt` is that of a `MeterState`."""

    per_minute: int
    burst: int
    steady: int
    """Units a minute. One more than is left by the burst: a minute ends before its end."""

    @classmethod
    def of(cls, per_minute: int) -> Rate:
        """The rate of a limit."""
        burst = max(1, per_minute // BURST_SHARE)
        return cls(per_minute, burst, per_minute + 1 - burst)

    def unused(self, now_ns: int) -> MeterState:
        """A meter of which nothing has been taken yet."""
        return MeterState(now_ns, -self.per_minute * MINUTE_NS)

    def held(self, units: int) -> int:
        """What is taken for an estimate of so many units: no more than a minute has.

        Whoever asks may write any number, and a process that dies never gives it back.
        """
        return min(units, self.per_minute)

    def wait_s(self, debt: int, units: int, ahead: int = 0) -> float:
        """Seconds until the units may be taken, behind `ahead` others; 0.0 if it is now.

        More units than the limit wait as long as the limit itself.
        """
        wait = debt + (self.held(units) + ahead - self.burst) * MINUTE_NS
        if wait <= 0:
            return 0.0
        return max(-(-wait // self.steady) / SECOND_NS, WAIT_MIN_S)

    def room(self, debt: int) -> int:
        """How many units may be taken now."""
        return min(max(self.burst - -(-debt // MINUTE_NS), 0), self.per_minute)


class Taken(msgspec.Struct, array_like=True, eq=False):
    """Units that were taken, and may be refunded as long as they have not been settled.

    `felt` is how much of a refund can still be felt after what was taken from here on to the
    next of these. `id` and `until_ns` are of those in a kept meter: what they are found by, and
    when they are beyond refund.
    """

    units: int
    felt: int
    id: str = ""
    until_ns: int = 0


class MeterState(msgspec.Struct, array_like=True):
    """What is taken of one limit, as it was at `at_ns`. JSON holds it exactly.

    `debt` is for how much is not paid yet; below nought, how much is saved up. It is in
    nanoseconds, times the steady rate: in this measure, a unit takes `MINUTE_NS`.
    """

    at_ns: int
    debt: int
    open: list[Taken] = []

    def advance(self, rate: Rate, now_ns: int) -> bool:
        """Let the time be this, at this rate; whether the clock was put back, and none passed."""
        passed_ns = now_ns - self.at_ns
        if passed_ns > 0:
            self.debt -= passed_ns * rate.steady
        self.at_ns = now_ns
        return passed_ns < 0

    def spend(self, units: int) -> None:
        """Take units for good, whether or not they may be taken."""
        slack = max(0, self.debt)
        if self.open and self.open[-1].felt > slack:
            self.open[-1].felt = slack
        self.debt = slack + units * MINUTE_NS

    def take(self, units: int, *, id: str = "", until_ns: int = 0) -> Taken:  # noqa: A002 - the field's own name
        """Take units that are an estimate; `settle` them once, whatever happens.

        Of a meter that is kept, they are settled by their id, and until then.
        """
        slack = max(0, self.debt)
        if self.open and self.open[-1].felt > slack:
            self.open[-1].felt = slack
        self.debt = debt = slack + units * MINUTE_NS
        taken = Taken(units, debt, id, until_ns)
        self.open.append(taken)
        return taken

    def settle(self, taken: Taken, units: int) -> None:
        """Say how many units it really was: fewer were never taken, more are taken now.

        Only where it was more does it matter what time it is.
        """
        if taken is self.open[-1] and units <= taken.units:  # as nearly always: the same, in short
            back = (taken.units - units) * MINUTE_NS
            back = min(back, taken.felt)
            self.debt -= back
            del self.open[-1]
            if self.open:
                self.open[-1].felt = min(self.open[-1].felt, taken.felt - back)
            return
        at = self.open.index(taken)
        if units < taken.units:
            back = (taken.units - units) * MINUTE_NS
            behind = self.open[at:]
            for each in behind:
                back = min(back, each.felt)
            for each in behind:
                each.felt -= back
            self.debt -= back
        if at:
            before = self.open[at - 1]
            before.felt = min(before.felt, taken.felt)
        del self.open[at]
        if units > taken.units:
            self.spend(units - taken.units)

    def settle_id(self, id: str, estimate: int, units: int) -> None:  # noqa: A002 - the field's own name
        """As `settle`, of what was taken under an id; what is beyond refund stays taken."""
        taken = self.open[-1] if self.open else None
        if taken is None or taken.id != id:
            taken = self.find(id)
        if taken is not None:
            self.settle(taken, units)
        elif units > estimate:
            self.spend(units - estimate)

    def find(self, id: str) -> Taken | None:  # noqa: A002 - the field's own name
        """What was taken under this id, None if it is beyond refund."""
        for taken in self.open:
            if taken.id == id:
                return taken
        return None

    def closed(self, rate: Rate) -> float:
        """Seconds for which it makes a difference, once it is closed."""
        if self.open:
            self.close()
        ahead = self.debt + rate.per_minute * MINUTE_NS
        return ahead / rate.steady / SECOND_NS if ahead > 0 else 0.0

    def close(self) -> None:
        """Leave out what is beyond refund, so that the size is bounded; it stays taken.

        That is what nobody settles any more, or is too old of too many. And behind a take of
        which nothing is felt, no refund of those before it is felt either.
        """
        felt_from, over = 0, False
        for at, taken in enumerate(self.open, 1):
            if taken.felt <= 0:
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
    """What is taken of one limit in this process. Every method takes the time, in seconds.

    Who needs not say it, since it was said just now or does not matter, has the `state`.
    """

    def __init__(self, per_minute: int) -> None:
        self.rate = Rate.of(per_minute)
        self.state = self.rate.unused(0)

    def advance(self, now_s: float) -> None:
        """Let it be now."""
        self.state.advance(self.rate, int(now_s * SECOND_NS))

    def wait_s(self, now_s: float, units: int, ahead: int = 0) -> float:
        """Seconds until the units may be taken, as of `Rate.wait_s`."""
        self.state.advance(self.rate, int(now_s * SECOND_NS))
        return self.rate.wait_s(self.state.debt, units, ahead)

    def spend(self, now_s: float, units: int) -> None:
        """Take units for good, whether or not they may be taken."""
        self.state.advance(self.rate, int(now_s * SECOND_NS))
        self.state.spend(units)

    def take(self, now_s: float, units: int) -> Taken:
        """Take units that are an estimate; `settle` them once, whatever happens."""
        self.state.advance(self.rate, int(now_s * SECOND_NS))
        return self.state.take(units)

    def settle(self, taken: Taken, now_s: float, units: int) -> None:
        """Say how many units it really was: fewer were never taken, more are taken now."""
        self.state.advance(self.rate, int(now_s * SECOND_NS))
        self.state.settle(taken, units)
