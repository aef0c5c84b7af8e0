"""Budgets: who may spend how much, in which time. Pure: what is spent is a value in a `State`.

The theory of it: a call may begin if what is spent, what other calls hold and the most that it
can cost itself fit into each budget that is its owner's. It then holds that much, and once it has
ended its real cost is spent and the hold is gone. So what is spent and held together is never over
a limit, as long as no call costs more than it holds.

A hold expires by itself, for whoever has held it may have crashed. At the end of a day or a month
what was spent is forgotten, and holds stay: a call is paid in the period in which it ends.

A ledger has the sums of what is held, by the second in which it expires, and a hold has a key of
its own: so a change takes as long with a thousand calls under way as with one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import lru_cache
from math import ceil
from types import MappingProxyType
from typing import Literal
from urllib.parse import quote

import attrs
import msgspec

from orchestra.accounts import Caller
from orchestra.protocols import Change, Entry, WhenStateFails

THRESHOLDS = (50, 80, 100)
"""Percent of a budget at which its owner is told."""
RUN_KEPT_S = 86_400.0
"""How long it is remembered what a run has spent, after its last call."""
DAY_S = 86_400
HOLD_KEY = "budget:hold:"
"""Before the name of each hold."""


class Period(Enum):
    """How long a budget is for. Days and months are those of UTC."""

    RUN = "run"
    DAY = "day"
    MONTH = "month"

    __hash__ = object.__hash__  # that of `Enum` takes as long as all of a look-up


@attrs.frozen(kw_only=True)
class Allowance:
    """What one key, user or organisation may spend, in nano-dollars; None is no limit."""

    day: int | None = None
    month: int | None = None
    when_state_fails: WhenStateFails = "closed"


NO_LIMIT = Allowance()


@attrs.frozen(kw_only=True)
class Budgets:
    """What callers of a deployment may spend: each request, user and organisation.

    What a key may spend comes with its caller. `users` and `organisations` are those that have
    other limits than the rest, by name. A model without a known price is not counted, or with
    `refuse` not asked.
    """

    request: int | None = None
    request_when_state_fails: WhenStateFails = "closed"
    user: Allowance = NO_LIMIT
    organisation: Allowance = NO_LIMIT
    users: Mapping[str, Allowance] = MappingProxyType({})
    organisations: Mapping[str, Allowance] = MappingProxyType({})
    unknown_price: Literal["flag", "refuse"] = "flag"

    def of(self, caller: Caller, run_id: str) -> tuple[Budget, ...]:
        """All that a call of this run has to fit into."""
        return self.of_run(run_id) + self.of_caller(caller)

    def of_run(self, run_id: str) -> tuple[Budget, ...]:
        """What the calls of one run have to fit into; nothing for calls of no run."""
        if self.request is None or not run_id:
            return ()
        fails = self.request_when_state_fails
        return (Budget("request", run_id, Period.RUN, self.request, fails),)

    def of_caller(self, caller: Caller) -> tuple[Budget, ...]:
        """What the calls of all runs of a caller have to fit into: their key's first."""
        found: list[Budget] = []
        if caller.key:
            own = caller.allowance
            allowed = Allowance(day=own.day_nanodollars, month=own.month_nanodollars)
            found += _limits("key", caller.key, allowed)
        if caller.user:
            allowed = self.users.get(caller.user, self.user)
            name = f"{caller.organisation}/{caller.user}" if caller.organisation else caller.user
            found += _limits("user", name, allowed)
        if caller.organisation:
            name = caller.organisation
            found += _limits("organisation", name, self.organisations.get(name, self.organisation))
        return tuple(found)


NO_BUDGETS = Budgets()


@attrs.frozen
class Budget:
    """One limit: of whom, for how long, and what becomes of calls while the state is away."""

    kind: str
    name: str
    period: Period
    limit_nanodollars: int
    when_state_fails: WhenStateFails = "closed"

    key: str = attrs.field(init=False, eq=False, repr=False)
    """Under which key its ledger is kept."""

    @key.default
    def _key(self) -> str:
        return f"budget:{self.kind}:{quote(self.name, safe='')}:{self.period.value}"

    def __str__(self) -> str:
        return f"{self.kind} {self.name}, a {self.period.value}"


class Ledger(msgspec.Struct, array_like=True):
    """What is kept of one budget: of which period, what is spent, and what is held until when.

    `told` is the highest threshold that was reached. `holds` are nano-dollars, by the second
    since 1970 in which they expire.
    """

    period: str = ""
    spent: int = 0
    told: int = 0
    holds: dict[int, int] = {}

    @property
    def held(self) -> int:
        """What all calls hold that are under way."""
        return sum(self.holds.values())

    def hold(self, nanodollars: int, until_s: int) -> None:
        """Hold so much more until then; or less, down to nothing."""
        left = self.holds.get(until_s, 0) + nanodollars
        if left > 0:
            self.holds[until_s] = left
        else:
            self.holds.pop(until_s, None)


class Hold(msgspec.Struct, array_like=True, frozen=True):
    """What is kept of one call: the same in each of its budgets, until it expires."""

    nanodollars: int
    until_s: int


@attrs.frozen
class Settlement:
    """The end of a hold: what its call has really cost. `hold` is the key that it has.

    `again` says that it was tried before, and may have happened: then a hold that is not there
    any more has been settled, if it would not have expired by itself until now. Where that
    cannot be told, it is counted, rather twice than never.
    """

    hold: str
    budgets: tuple[Budget, ...]
    cost: int
    until_s: float = 0.0
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

    settlement: Settlement
    budget: Budget
    percent: int
    spent: int


@attrs.frozen
class Outcome:
    """What a change of ledgers came to: `until_s` is when the hold expires by itself."""

    refusal: Refusal | None
    until_s: float
    reached: tuple[Reached, ...]


def budgets_of(settlements: Sequence[Settlement], more: Sequence[Budget] = ()) -> Sequence[Budget]:
    """All the budgets that a change is about, each ledger once."""
    if not settlements:
        return more
    if len(settlements) == 1 and not more:
        return settlements[0].budgets
    found = {each.key: each for each in more}
    for settlement in settlements:
        for budget in settlement.budgets:
            found.setdefault(budget.key, budget)
    return list(found.values())


def keys_of(
    settlements: Sequence[Settlement],
    hold: tuple[str, int, float] | None = None,
    budgets: Sequence[Budget] = (),
) -> list[str]:
    """The keys that `decide` has to be given what is kept of, for the same change."""
    keys = [each.key for each in budgets_of(settlements, budgets)]
    keys += [each.hold for each in settlements]
    if hold is not None:
        keys.append(hold[0])
    return keys


def decide(
    kept: Mapping[str, bytes | None],
    now_s: float,
    settlements: Sequence[Settlement],
    hold: tuple[str, int, float] | None = None,
    budgets: Sequence[Budget] = (),
) -> Change[Outcome]:
    """Settle what has ended; then hold money for one call, in all of its budgets or in none.

    `kept` has what is remembered under the key of each budget and each hold. `hold` is its key,
    nano-dollars and seconds, up to the next whole one; where the key holds something already, it
    holds this much instead.
    """
    books = _Books(kept, now_s, budgets_of(settlements, budgets))
    reached: list[Reached] = []
    for settlement in settlements:
        books.settle(settlement, reached)
    if hold is None:
        return Change(Outcome(None, 0.0, tuple(reached)), books.entries())
    name, amount, for_s = hold
    until_s = ceil(now_s + for_s)
    refusal = books.hold(name, Hold(amount, until_s), budgets)
    if refusal is not None and not settlements:
        return Change(Outcome(refusal, until_s, ()))  # all is as it was
    return Change(Outcome(refusal, until_s, tuple(reached)), books.entries())


def used_up(
    kept: Sequence[bytes | None], now_s: float, budgets: Sequence[Budget]
) -> Refusal | None:
    """The first of these budgets that has nothing left for a call; `kept` is what is of each."""
    books = _Books(dict(zip((each.key for each in budgets), kept, strict=True)), now_s, budgets)
    return books.hold("", Hold(1, ceil(now_s)), budgets)


class _Books:
    """The ledgers of one change, as they are now: of the present period, without expired holds."""

    def __init__(
        self, kept: Mapping[str, bytes | None], now_s: float, budgets: Sequence[Budget]
    ) -> None:
        self._kept = kept
        self._now_s = now_s
        self._budgets = budgets
        self._today = today = _calendar(int(now_s // DAY_S))
        self._holds: dict[str, Hold | None] = {}
        """Those that are changed."""
        self._ledgers: dict[str, Ledger] = {}
        for budget in budgets:
            data = kept.get(budget.key)
            ledger = _LEDGER(data) if data else Ledger()
            name, _ = today[budget.period]
            if ledger.period != name:
                ledger.period, ledger.spent, ledger.told = name, 0, 0
            holds = ledger.holds
            if holds and min(holds) <= now_s:
                ledger.holds = {key: each for key, each in holds.items() if key > now_s}
            self._ledgers[budget.key] = ledger

    def _there(self, name: str) -> Hold | None:
        """What is held under this key, and has not expired."""
        if name in self._holds:
            return self._holds[name]
        data = self._kept.get(name)
        hold = _HOLD(data) if data else None
        return hold if hold is not None and hold.until_s > self._now_s else None

    def settle(self, settlement: Settlement, reached: list[Reached]) -> None:
        """A call's real cost instead of its hold; and add what thresholds were reached."""
        there = self._there(settlement.hold)
        if there is None and settlement.again and self._now_s < settlement.until_s:
            return
        self._holds[settlement.hold] = None
        for budget in settlement.budgets:
            ledger = self._ledgers[budget.key]
            if there is not None:
                ledger.hold(-there.nanodollars, there.until_s)
            if settlement.cost:
                ledger.spent += settlement.cost
                percent = _NEXT.get(ledger.told, THRESHOLDS[0])
                if percent and ledger.spent * 100 >= percent * budget.limit_nanodollars:
                    reached += _reached(ledger, budget, settlement)

    def hold(self, name: str, hold: Hold, budgets: Sequence[Budget]) -> Refusal | None:
        """Hold this much in each of these instead of what is held; or why it does not fit."""
        there = self._there(name)
        before = 0 if there is None else there.nanodollars
        for budget in budgets:
            ledger = self._ledgers[budget.key]
            held = ledger.held - before
            if ledger.spent + held + hold.nanodollars > budget.limit_nanodollars:
                _, ends_s = self._today[budget.period]
                return Refusal(budget, ledger.spent, held, ends_s)
        for budget in budgets:
            ledger = self._ledgers[budget.key]
            if there is not None:
                ledger.hold(-before, there.until_s)
            ledger.hold(hold.nanodollars, hold.until_s)
        self._holds[name] = hold
        return None

    def entries(self) -> dict[str, Entry | None]:
        """All of it, as it is to be kept."""
        now_s, today, ledgers = self._now_s, self._today, self._ledgers
        entries: dict[str, Entry | None] = {}
        for budget in self._budgets:
            ledger = ledgers[budget.key]
            _, ends_s = today[budget.period]
            until_s = now_s + RUN_KEPT_S if ends_s is None else max(ends_s, now_s + 1)
            if ledger.holds:
                until_s = max(until_s, *ledger.holds)
            entries[budget.key] = Entry(_ENCODE(ledger), until_s - now_s)
        for name, hold in self._holds.items():
            entries[name] = None if hold is None else Entry(_ENCODE(hold), hold.until_s - now_s)
        return entries


def _reached(ledger: Ledger, budget: Budget, settlement: Settlement) -> list[Reached]:
    spent, limit = ledger.spent, budget.limit_nanodollars
    new = [
        percent
        for percent in THRESHOLDS
        if percent > ledger.told and spent * 100 >= percent * limit
    ]
    ledger.told = max(new, default=ledger.told)
    return [Reached(settlement, budget, percent, spent) for percent in new]


@lru_cache(maxsize=4)
def _calendar(day: int) -> Mapping[Period, tuple[str, float | None]]:
    """What period a day since 1970 is in, of each kind: its name, and the second it ends in."""
    today = datetime.fromtimestamp(day * DAY_S, UTC)
    following = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    return {
        Period.RUN: ("run", None),
        Period.DAY: (today.strftime("%Y-%m-%d"), float((day + 1) * DAY_S)),
        Period.MONTH: (today.strftime("%Y-%m"), following.timestamp()),
    }


def _limits(kind: str, name: str, allowed: Allowance) -> list[Budget]:
    limits = ((Period.DAY, allowed.day), (Period.MONTH, allowed.month))
    return [
        Budget(kind, name, period, limit, allowed.when_state_fails)
        for period, limit in limits
        if limit is not None
    ]


_NEXT = dict(zip((0, *THRESHOLDS), (*THRESHOLDS, None), strict=True))
"""The threshold after the one that was told."""
_ENCODE = msgspec.json.Encoder().encode
_LEDGER = msgspec.json.Decoder(Ledger).decode
_HOLD = msgspec.json.Decoder(Hold).decode
