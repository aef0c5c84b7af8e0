"""Ledgers: the spending and the holds of budgets, kept in a `State`. Pure.

The theory: a call may begin if the spending, the holds of other calls, and its own highest
possible cost fit together into each budget of its payers. It then holds that cost. When the call
has ended, its real cost is spent and its hold is removed. So spending and holds together never
exceed a limit, as long as no call costs more than it holds.

A hold expires by itself, since its process may have crashed. At the end of a day or a month, the
spending of that period is set aside, for operators, until the next one ends, and the holds stay: a
call is paid for in the period in which it ends. If the clock is set back over midnight, no period
begins twice: the one that had begun goes on. If it is set back by more than a day, it was wrong
before, and the period begun by mistake is dropped.

Each payer has one ledger for all of its periods: the spending in each, and the sums of holds by
the second of their expiry. So a change takes as long with a thousand running calls as with one.
A hold has its own key, which shows whether it was ever taken, and whether it was given back. If
the state answers at once and never fails, the call itself knows this, and the hold has no key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
"""Percentages of a budget that are reported to its owner."""
DAY_S = 86_400
NEVER_S = 2**53
HOLD_KEY = "budget:hold:"
"""The prefix of each hold's key."""


_OfPeriods = Annotated[list[int], msgspec.Meta(min_length=2, max_length=2)]


class Ledger(msgspec.Struct, array_like=True, tag=True):
    """The ledger of one payer: the spending in each of its periods, and the holds.

    `day` is the number of the current day since 1970. `spent` has the nano-dollars of this day and
    of its month, and `reported` the highest threshold reported for each. `holds` has the
    nano-dollars held, by the second in which they expire, and `held` is their sum. No hold expires
    before `first_s`, and none after `last_s`. `previous` has what was spent in the day and in the
    month before, None if that is unknown, as in a new ledger.
    """

    day: Annotated[int, msgspec.Meta(ge=0, le=10**6)]
    spent: _OfPeriods
    reported: _OfPeriods
    holds: dict[int, int] = {}
    held: int = 0
    first_s: int = NEVER_S
    last_s: int = 0
    previous: list[int | None] = msgspec.field(default_factory=lambda: [None, None])

    @classmethod
    def empty(cls, day: int) -> Ledger:
        """The ledger of a new payer."""
        return cls(day, [0, 0], [0, 0])

    def advance(self, day: int, now_s: float) -> None:
        """Move to this time: drop expired holds, and set what is spent aside at a period's end."""
        day = self.day if self.day == day + 1 else day
        for slot in _over(self.day, day):
            nothing = 0 if day > self.day else None
            self.previous[slot] = self.spent[slot] if _adjoins(self.day, day)[slot] else nothing
            self.spent[slot] = self.reported[slot] = 0
        self.day = day
        self.holds = {until_s: each for until_s, each in self.holds.items() if until_s > now_s}
        self.held = sum(self.holds.values())
        self.first_s = min(self.holds, default=NEVER_S)

    def ends_s(self, budget: Budget) -> float:
        """When the current period of a budget ends, in seconds since 1970."""
        return _ends_s(self.day)[budget.slot]

    def hold(self, nanodollars: int, until_s: int) -> None:
        """Add a hold until this second."""
        holds = self.holds
        holds[until_s] = holds.get(until_s, 0) + nanodollars
        self.held += nanodollars
        if not self.first_s <= until_s <= self.last_s:
            self.first_s = min(self.first_s, until_s)
            self.last_s = max(self.last_s, until_s)

    def give_back(self, nanodollars: int, until_s: int) -> None:
        """Reduce the holds that expire in this second, but not below 0."""
        holds = self.holds
        before = holds.get(until_s, 0)
        if before > nanodollars:
            holds[until_s] = before - nanodollars
            self.held -= nanodollars
        else:
            holds.pop(until_s, None)
            self.held -= before

    def kept(self, payer: Payer, now_s: float) -> tuple[Ledger, float]:
        """The ledger to keep, and for how many seconds: at least until all holds expire."""
        held_s = self.last_s - now_s
        if held_s > payer.kept_s:
            return self, held_s
        return self, payer.kept_s


class Hold(msgspec.Struct, array_like=True, frozen=True, tag=True):
    """The hold of one call: the same in each of its payers' ledgers, until it expires."""

    nanodollars: int
    until_s: int


Kept: TypeAlias = Ledger | Hold
"""The values in the state."""
_DECODER = msgspec.json.Decoder(Kept)


def _read(data: bytes) -> Kept:
    """Decode a value; an unreadable one becomes an expired `Hold`, which is never in its place."""
    return readable(_DECODER.decode, data, "the record of a budget") or Hold(0, 0)


ENCODING: Encoding[Kept] = Encoding(_read, msgspec.json.Encoder().encode)


class Wanted(msgspec.Struct, frozen=True, eq=False):
    """A request to hold an amount for `for_s`, rounded up to a second, in place of the old hold.

    `name` is the key of the hold; "" if it has none, and then `there` is the old hold.
    """

    name: str
    payers: tuple[Payer, ...]
    nanodollars: int
    for_s: float
    there: Hold | None = None


class Settlement(msgspec.Struct, frozen=True, eq=False):
    """The end of a hold, with the real cost of its call. `name` and `there` are as in `Wanted`.

    `again` says that the settlement was sent before, and may have happened. Then a missing hold
    counts as settled, unless it would have expired by now. If that is unknown, the cost is counted:
    twice is better than never.
    """

    name: str
    payers: tuple[Payer, ...]
    cost: int
    there: Hold | None = None
    again: bool = False


@attrs.frozen
class Refusal:
    """A budget without room, and its balance; `resets_at_s` is None if it never resets."""

    budget: Budget
    spent: int
    held: int
    resets_at_s: float | None


@attrs.frozen
class Reached:
    """A threshold of a budget that a settlement has reached."""

    budget: Budget
    percent: int
    spent: int


OnBudget: TypeAlias = Callable[[Reached | Refusal], None]
"""Called synchronously when a threshold is known to be reached, which may be after the run of its
call has ended, and when a budget refuses a call; must neither block nor raise."""


def hold(
    wanted: Wanted, kept: Sequence[Kept | None], now_s: float
) -> Revision[Hold | Refusal, Kept]:
    """Hold the amount in all budgets, or in none of them and return the refusal.

    `kept` are the ledgers of the payers, followed by the hold, if it has a name.

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
    """Spend a call's real cost in place of its hold; return the thresholds newly reached.

    `kept` is as for `hold`; unreadable ledgers are left out.
    """
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
    """The first budget that is used up, without regard to holds; None if there is none.

    `kept` are the payers' ledgers.

    Raises:
        StateError: a ledger cannot be read.
    """
    for payer, ledger in _all(payers, kept, now_s):
        for budget in payer.budgets:
            spent = ledger.spent[budget.slot]
            if spent >= budget.limit_nanodollars:
                return Refusal(budget, spent, ledger.held, ledger.ends_s(budget))
    return None


def ledgers(
    payers: Sequence[Payer], kept: Sequence[Kept | None], now_s: float
) -> list[tuple[Payer, Ledger]]:
    """The current ledger of each payer; `kept` are the stored ones. The caller may change them.

    They are moved to the current periods, without expired holds. Unreadable ones are left out.
    """
    day, found = int(now_s // DAY_S), []
    for at, payer in enumerate(payers):  # a hold may follow in `kept`
        ledger = kept[at]
        if isinstance(ledger, Hold):
            continue
        if ledger is None:
            ledger = Ledger.empty(day)
        elif ledger.first_s <= now_s or ledger.day != day:
            ledger.advance(day, now_s)
        found.append((payer, ledger))
    return found


def _all(
    payers: Sequence[Payer], kept: Sequence[Kept | None], now_s: float
) -> list[tuple[Payer, Ledger]]:
    """As `ledgers`, but an unreadable ledger is an error, so that no spending is lost."""
    found = ledgers(payers, kept, now_s)
    if len(found) < len(payers):
        raise StateError(next(illegible(payers, kept)))
    return found


def illegible(payers: Sequence[Payer], kept: Sequence[Kept | None]) -> Iterator[str]:
    """A message for each payer with an unreadable ledger."""
    for payer, ledger in zip(payers, kept, strict=False):  # a hold may follow
        if isinstance(ledger, Hold):
            yield (
                f"the spending of {payer.kind} {payer.budgets[0].name} cannot be read: it is from "
                "another version, or damaged; restore the state, or reset it with `orchestra "
                "budgets reset`"
            )


def _there(name: str, known: Hold | None, kept: Sequence[Kept | None], now_s: float) -> Hold | None:
    """The hold, if it has not expired: the last of `kept` if it has a name, else `known`."""
    found = kept[-1] if name else known
    return found if type(found) is Hold and found.until_s > now_s else None


def _before_end(settlement: Settlement, now_s: float) -> bool:
    """Whether the hold would still exist if it had not been settled."""
    return settlement.there is not None and now_s < settlement.there.until_s


def _refusal(
    ledgers: Sequence[tuple[Payer, Ledger]], more: int, nanodollars: int
) -> Refusal | None:
    """The first budget without room for `more` held money, of a hold of `nanodollars` in all."""
    for payer, ledger in ledgers:
        spent, held = ledger.spent, ledger.held + more
        for budget in payer.budgets:
            if spent[budget.slot] + held > budget.limit_nanodollars:
                ends_s = ledger.ends_s(budget)
                return Refusal(budget, spent[budget.slot], held - nanodollars, ends_s)
    return None


def thresholds(spent: int, limit: int, reported: int) -> list[int]:
    """The thresholds, in percent, that this spending reaches, above the highest one reported."""
    return [each for each in THRESHOLDS if each > reported and spent * 100 >= each * limit]


def _reached(ledger: Ledger, budget: Budget, cost: int) -> list[Reached]:
    spent, limit = ledger.spent[budget.slot], budget.limit_nanodollars
    # Thresholds are reported again after the limit was raised; if it was lowered, those are
    # reported that the spending has thereby passed.
    before = max(thresholds(spent - cost, limit, 0), default=0)
    reported = min(ledger.reported[budget.slot], before)
    new = thresholds(spent, limit, reported)
    ledger.reported[budget.slot] = max(new, default=reported)
    return [Reached(budget, percent, spent) for percent in new]


@lru_cache(maxsize=4)
def _ends_s(day: int) -> tuple[float, float]:
    """When this day and its month end, in seconds since 1970."""
    today = datetime.fromtimestamp(day * DAY_S, UTC)
    following = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    return float((day + 1) * DAY_S), following.timestamp()


def _adjoins(before: int, day: int) -> Sequence[bool]:
    """Whether the day `before`, and its month, is the one just before that of `day`."""
    next_month = _ends_s(before)[1] // DAY_S
    return before + 1 == day, _ends_s(next_month)[1] == _ends_s(day)[1]


def _over(before: int, day: int) -> Sequence[int]:
    """The slots of the periods that differ between two days."""
    if before == day:
        return ()
    return (0,) if _ends_s(before)[1] == _ends_s(day)[1] else (0, 1)
