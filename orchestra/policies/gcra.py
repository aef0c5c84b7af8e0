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

A meter may be kept elsewhere, between its uses, as a `MeterState`: other processes then go on with
the same limit, and what was taken is found again by its id.

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
_ALL = 1 << 200


class Taken(msgspec.Struct, array_like=True, eq=False):
    """Units that were taken, and may be refunded as long as they have not been settled.

    `felt` is how much of a refund can still be felt after what was taken from here on to the
    next of these. `id` and `until_ns` are of those in a kept meter: what they are found by, and
    when they are beyond refund.
    """

    units: int
    felt: int = _ALL
    id: str = ""
    until_ns: int = 0


class MeterState(msgspec.Struct, array_like=True):
    """A meter as it is kept: a value of bounded size, which JSON holds exactly.

    `debt` is for how much is not paid yet at `at_ns`, in the measure of a meter; below nought, how
    much is saved up.
    """

    at_ns: int
    debt: int
    open: list[Taken] = []


class Meter:
    """What is taken of one limit, per minute. Every method takes the time, in seconds."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self.burst = max(1, per_minute // BURST_SHARE)
        self.steady = per_minute + 1 - self.burst
        """Units a minute. One more than is left by the burst: a minute ends before its end."""
        self._paid_until = -per_minute * MINUTE_NS
        """In nanoseconds, times `steady`: in this measure, a unit takes `MINUTE_NS`."""
        self._open: list[Taken] = []

    @classmethod
    def resumed(cls, per_minute: int, state: MeterState, now_s: float) -> Meter:
        """The meter that was kept as this, whatever its limit was then.

        Where the clock has gone back since, no time has passed.
        """
        meter = cls(per_minute)
        at_ns = min(state.at_ns, int(now_s * SECOND_NS))
        meter._paid_until = at_ns * meter.steady + state.debt
        meter._open = state.open
        return meter

    def state(self, now_s: float) -> MeterState:
        """This meter as it may be kept. What is beyond refund is left out; it stays taken."""
        now = int(now_s * SECOND_NS)
        if self._open:
            self._close_beyond_refund(now)
        return MeterState(now, self._paid_until - now * self.steady, self._open)

    def find(self, id: str) -> Taken | None:  # noqa: A002 - the field's own name
        """What was taken under this id, None if it is beyond refund."""
        return next((taken for taken in self._open if taken.id == id), None)

    def room(self, now_s: float) -> int:
        """How many units may be taken now."""
        saved = (self._time(now_s) - self._paid_until) // MINUTE_NS
        return min(max(self.burst + saved, 0), self.per_minute)

    def full_s(self, now_s: float) -> float:
        """Seconds until it is as if nothing had ever been taken."""
        ahead = self._paid_until + self.per_minute * MINUTE_NS - self._time(now_s)
        return max(ahead / self.steady / SECOND_NS, 0.0)

    def wait_s(self, now_s: float, units: int, ahead: int = 0) -> float:
        """Seconds until the units may be taken, behind `ahead` others; 0.0 if it is now.

        More units than the limit wait as long as the limit itself.
        """
        units = min(units, self.per_minute) + ahead
        wait = self._paid_until + (units - self.burst) * MINUTE_NS - self._time(now_s)
        return max(-(-wait // self.steady) / SECOND_NS, WAIT_MIN_S) if wait > 0 else 0.0

    def spend(self, now_s: float, units: int) -> None:
        """Take units for good, whether or not they may be taken."""
        now = self._time(now_s)
        if self._open:
            last = self._open[-1]
            last.felt = min(last.felt, max(self._paid_until - now, 0))
        self._paid_until = max(self._paid_until, now) + units * MINUTE_NS

    def take(self, now_s: float, units: int, *, id: str = "", until_s: float = 0.0) -> Taken:  # noqa: A002 - the field's own name
        """Take units that are an estimate; `settle` them once, whatever happens.

        Of a meter that is kept, they are settled by their id, and until then.
        """
        self.spend(now_s, units)
        taken = Taken(units, _ALL, id, int(until_s * SECOND_NS))
        self._open.append(taken)
        return taken

    def settle(self, taken: Taken, now_s: float, units: int) -> None:
        """Say how many units it really was: fewer were never taken, more are taken now."""
        at = self._open.index(taken)
        behind = self._open[at:]
        if units < taken.units:
            back = min((taken.units - units) * MINUTE_NS, *(each.felt for each in behind))
            for each in behind:
                each.felt -= back
            self._paid_until -= back
        if at:
            before = self._open[at - 1]
            before.felt = min(before.felt, taken.felt)
        del self._open[at]
        if units > taken.units:
            self.spend(now_s, units - taken.units)

    def settle_id(self, id: str, now_s: float, estimate: int, units: int) -> None:  # noqa: A002 - the field's own name
        """As `settle`, of what was taken under an id; what is beyond refund stays taken."""
        taken = self.find(id)
        if taken is not None:
            self.settle(taken, now_s, units)
        elif units > estimate:
            self.spend(now_s, units - estimate)

    def _close_beyond_refund(self, now_ns: int) -> None:
        """Settle takes that nobody settles any more, or that are too many, as they were.

        Behind a take of which nothing is felt, no refund of those before it is felt either.
        """
        unfelt = [at for at, taken in enumerate(self._open) if taken.felt <= 0]
        if unfelt:
            del self._open[: unfelt[-1] + 1]
        late = len(self._open) - OPEN_MAX
        for at, taken in enumerate(list(self._open)):
            if at < late or taken.until_ns <= now_ns:
                self.settle(taken, now_ns / SECOND_NS, taken.units)

    def _time(self, now_s: float) -> int:
        return int(now_s * SECOND_NS) * self.steady
