"""Ledgers: what is spent of budgets, and what is held of them. Pure: a ledger is kept in a `State`.

The theory of it: a call may begin if what is spent, what other calls hold and the most that it
can cost itself fit into each budget that is its owner's. It then holds that much, and once it has
ended its real cost is spent and the hold is gone. So what is spent and held together is never over
a limit, as long as no call costs more than it holds.

A hold expires by itself, for whoever has held it may have crashed. At the end of a day or a month
what was spent is forgotten, and holds stay: a call is paid in the period in which it ends.

Of each payer there is one ledger, for all of its periods: what is spent in each, and the sums of
what is held, by the second in which it expires. So a change takes as long with a thousand calls
under way as with one. A hold has a key of its own, by which it is known whether it was ever taken,
and whether it was given back; where the state answers at once and never fails, its call knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import ceil
from typing import Annotated, TypeAlias

import attrs
import msgspec

from orchestra.errors import StateError
from orchestra.policies.money.budget import Budget, Payer
from orchestra.records import Encoding, Revision, readable

THRESHOLDS = (50, 80, 100)
"""Percent of a budget at which its owner is told."""
DAY_S = 86_400
NEVER_S = 2**53
HOLD_KEY = "budget:hold:"
"""Before the name of each hold."""


_OfPeriods = Annotated[list[int], msgspec.Meta(min_length=2, max_length=2)]


class Ledger(msgspec.Struct, array_like=True, tag=True):
    """What is kept of one payer: what is spent in each of its periods, and held until when.

    `spent` are nano-dollars of this `day` since 1970, and of its month; `told` are the
    highest thresholds that they have reached. `holds` are nano-dollars by the second in which
    they expire; `held` is their sum, none expires before `first_s`, and all have at `last_s`.
    """

    day: Annotated[int, msgspec.Meta(ge=0, le=10**6)]
    spent: _OfPeriods
    told: _OfPeriods
    holds: dict[int, int] = {}
    held: int = 0
    first_s: int = NEVER_S
    last_s: int = 0

    @classmethod
    def empty(cls, day: int) -> Ledger:
        """Of somebody who has never paid for anything."""
        return cls(day, [0, 0], [0, 0])

    def advance(self, day: int, now_s: float) -> None:
        """Let it be now: forget what periods are over, and what holds have expired."""
        for slot in _over(self.day, day):
            self.spent[slot] = self.told[slot] = 0
        self.day = day
        self.holds = {until_s: each for until_s, each in self.holds.items() if until_s > now_s}
        self.held = sum(self.holds.values())
        self.first_s = min(self.holds, default=NEVER_S)

    def ends_s(self, budget: Budget) -> float:
        """When the present period of a budget is over."""
        return _ends_s(self.day)[budget.slot]

    def hold(self, nanodollars: int, until_s: int) -> None:
        """Hold so much more until then."""
        holds = self.holds
        holds[until_s] = holds.get(until_s, 0) + nanodollars
        self.held += nanodollars
        if not self.first_s <= until_s <= self.last_s:
            self.first_s = min(self.first_s, until_s)
            self.last_s = max(self.last_s, until_s)

    def give_back(self, nanodollars: int, until_s: int) -> None:
        """Hold so much less, and no less than nothing."""
        holds = self.holds
        before = holds.get(until_s, 0)
        if before > nanodollars:
            holds[until_s] = before - nanodollars
            self.held -= nanodollars
        else:
            holds.pop(until_s, None)
            self.held -= before

    def kept(self, payer: Payer, now_s: float) -> tuple[Ledger, float]:
        """What is to be kept of its payer, and for how long: at least until all holds expire."""
        held_s = self.last_s - now_s
        return self, max(payer.kept_s, held_s)


class Hold(msgspec.Struct, array_like=True, frozen=True, tag=True):
    """What is kept of one call: the same in each of its ledgers, until it expires."""

    nanodollars: int
    until_s: int


Kept: TypeAlias = Ledger | Hold
"""What is kept under a key."""
_DECODER = msgspec.json.Decoder(Kept)


def _read(data: bytes) -> Kept:
    """What is kept; of what cannot be read, a hold that is over: no ledger is kept as that."""
    return readable(_DECODER.decode, data, "what is kept of a budget") or Hold(0, 0)


ENCODING: Encoding[Kept] = Encoding(_read, msgspec.json.Encoder().encode)


class Wanted(msgspec.Struct, frozen=True, eq=False):
    """What a call wants to hold for so long, up to the next whole second, instead of what it holds.

    `name` is the key of its hold; "" where it has none, and `there` is what it holds.
    """

    name: str
    payers: tuple[Payer, ...]
    nanodollars: int
    for_s: float
    there: Hold | None = None


class Settlement(msgspec.Struct, frozen=True, eq=False):
    """The end of a hold: what its call has really cost. `name` and `there` as in `Wanted`.

    `again` says that it was tried before, and may have happened: then a hold that is not there
    any more has been settled, if it would not have expired by itself until now. Where that
    cannot be told, it is counted, rather twice than never.
    """

    name: str
    payers: tuple[Payer, ...]
    cost: int
    there: Hold | None = None
    again: bool = False


@attrs.frozen
class Refusal:
    """Which budget has no room, and how it was; `resets_at_s` is None where it never is."""

    budget: Budget
    spent: int
    held: int
    resets_at_s: float | None


@attrs.frozen
class Reached:
    """A settlement has brought a budget to a threshold."""

    budget: Budget
    percent: int
    spent: int


def hold(
    wanted: Wanted, kept: Sequence[Kept | None], now_s: float
) -> Revision[Hold | Refusal, Kept]:
    """Hold what is wanted in all of the budgets, or in none; then, why it does not fit.

    `kept` is what is kept of each who pays, and behind them of the hold, if it has a name.

    Raises:
        StateError: a ledger cannot be read.
    """
    there = _there(wanted.name, wanted.there, kept, now_s)
    found = Hold(wanted.nanodollars, ceil(now_s + wanted.for_s))
    more = found.nanodollars if there is None else found.nanodollars - there.nanodollars
    books = _all(wanted.payers, kept, now_s)
    refusal = _refusal(books, more, found.nanodollars)
    if refusal is not None:
        return Revision(refusal)
    records: dict[str, tuple[Kept, float] | None] = {}
    for payer, ledger in books:
        if there is not None:
            ledger.give_back(there.nanodollars, there.until_s)
        ledger.hold(found.nanodollars, found.until_s)
        records[payer.key] = ledger.kept(payer, now_s)
    if wanted.name:
        records[wanted.name] = found, found.until_s - now_s
    return Revision(found, records)


def settle(
    settlement: Settlement, kept: Sequence[Kept | None], now_s: float
) -> Revision[Sequence[Reached], Kept]:
    """A call's real cost in place of its hold; and what thresholds were reached. As of `hold`."""
    name, cost = settlement.name, settlement.cost
    there = _there(name, settlement.there, kept, now_s)
    if there is None and settlement.again and _before_end(settlement, now_s):
        return Revision(())
    records: dict[str, tuple[Kept, float] | None] = {}
    reached: list[Reached] = []
    if name:
        records[name] = None
    for payer, ledger in ledgers(settlement.payers, kept, now_s):
        if there is not None:
            ledger.give_back(there.nanodollars, there.until_s)
        if cost:
            spent = ledger.spent
            for budget in payer.budgets:
                slot = budget.slot
                spent[slot] = now_spent = spent[slot] + cost
                if now_spent * 100 >= THRESHOLDS[0] * budget.limit_nanodollars:
                    reached += _reached(ledger, budget, cost)
        records[payer.key] = ledger.kept(payer, now_s)
    return Revision(reached, records)


def used_up(payers: Sequence[Payer], kept: Sequence[Kept | None], now_s: float) -> Refusal | None:
    """The first of their budgets that is spent, whatever is held; `kept` is what is of each.

    Raises:
        StateError: a ledger cannot be read.
    """
    for payer, ledger in _all(payers, kept, now_s):
        refusal = _refusal([(payer, ledger)], 1 - ledger.held, 1 - ledger.held)
        if refusal is not None:
            return refusal
    return None


def ledgers(
    payers: Sequence[Payer], kept: Sequence[Kept | None], now_s: float
) -> list[tuple[Payer, Ledger]]:
    """The ledger of each payer as it is now, to be changed; `kept` is what is of each.

    They are of the present periods, without expired holds. One that cannot be read is left out.
    """
    day, found = int(now_s // DAY_S), []
    for payer, ledger in zip(payers, kept, strict=False):  # a hold may follow
        if isinstance(ledger, Hold):
            continue
        if ledger is None:
            ledger = Ledger.empty(day)  # noqa: PLW2901 - that of somebody new
        elif ledger.first_s <= now_s or ledger.day != day:
            ledger.advance(day, now_s)
        found.append((payer, ledger))
    return found


def _all(
    payers: Sequence[Payer], kept: Sequence[Kept | None], now_s: float
) -> list[tuple[Payer, Ledger]]:
    """As `ledgers`, and none of them is missing: what was spent is not forgotten."""
    found = ledgers(payers, kept, now_s)
    if len(found) < len(payers):
        raise StateError(next(illegible(payers, kept)))
    return found


def illegible(payers: Sequence[Payer], kept: Sequence[Kept | None]) -> Iterator[str]:
    """What is to be said of each payer whose ledger cannot be read."""
    for payer, ledger in zip(payers, kept, strict=False):  # a hold may follow
        if isinstance(ledger, Hold):
            yield (
                f"what is spent of the budgets of {payer.kind} {payer.budgets[0].name} cannot be "
                "read: it is of another version, or damaged; restore the state, or let it begin "
                "anew with `orchestra budgets reset`"
            )


def _there(name: str, known: Hold | None, kept: Sequence[Kept | None], now_s: float) -> Hold | None:
    """What is held, and has not expired: what is kept under its name, the last, if it has one."""
    found = kept[-1] if name else known
    return found if type(found) is Hold and found.until_s > now_s else None


def _before_end(settlement: Settlement, now_s: float) -> bool:
    """Whether its hold would be there still, if nobody had settled it."""
    return settlement.there is not None and now_s < settlement.there.until_s


def _refusal(
    ledgers: Sequence[tuple[Payer, Ledger]], more: int, nanodollars: int
) -> Refusal | None:
    """Which budget has no room for this much more, of a hold of so many nano-dollars."""
    for payer, ledger in ledgers:
        spent, held = ledger.spent, ledger.held + more
        for budget in payer.budgets:
            if spent[budget.slot] + held > budget.limit_nanodollars:
                ends_s = _ends_s(ledger.day)[budget.slot]
                return Refusal(budget, spent[budget.slot], held - nanodollars, ends_s)
    return None


def thresholds(spent: int, limit: int, told: int) -> list[int]:
    """Those that so much of a limit reaches, in percent, behind the highest that was told."""
    return [each for each in THRESHOLDS if each > told and spent * 100 >= each * limit]


def _reached(ledger: Ledger, budget: Budget, cost: int) -> list[Reached]:
    spent, limit = ledger.spent[budget.slot], budget.limit_nanodollars
    # a limit that was raised is told of anew, and one that was lowered what it has passed by
    before = max(thresholds(spent - cost, limit, 0), default=0)
    told = min(ledger.told[budget.slot], before)
    new = thresholds(spent, limit, told)
    ledger.told[budget.slot] = max(new, default=told)
    return [Reached(budget, percent, spent) for percent in new]


@lru_cache(maxsize=4)
def _ends_s(day: int) -> tuple[float, float]:
    """The second in which each of the periods ends that a day since 1970 is in."""
    today = datetime.fromtimestamp(day * DAY_S, UTC)
    following = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    return float((day + 1) * DAY_S), following.timestamp()


def _over(before: int, day: int) -> Sequence[int]:
    """The slots of what is over, or not yet, when it was that day and is this one."""
    if before == day:
        return ()
    return (0,) if _ends_s(before)[1] == _ends_s(day)[1] else (0, 1)
