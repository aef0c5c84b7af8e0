"""Budgets: who may spend how much, in which time. Pure: what is spent is a value in a `State`.

The theory of it: a call may begin if what is spent, what other calls hold and the most that it
can cost itself fit into each budget that is its owner's. It then holds that much, and once it has
ended its real cost is spent and the hold is gone. So what is spent and held together is never over
a limit, as long as no call costs more than it holds.

A hold expires by itself, for whoever has held it may have crashed. At the end of a day or a month
what was spent is forgotten, and holds stay: a call is paid in the period in which it ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import lru_cache
from types import MappingProxyType
from typing import Literal, TypeAlias
from urllib.parse import quote

import attrs
import msgspec

from orchestra.accounts import Caller
from orchestra.protocols import Change, Entry

THRESHOLDS = (50, 80, 100)
"""Percent of a budget at which its owner is told."""
RUN_KEPT_S = 86_400.0
"""How long it is remembered what a run has spent, after its last call."""
DAY_S = 86_400
WhenStateFails: TypeAlias = Literal["open", "closed"]


class Period(Enum):
    """How long a budget is for. Days and months are those of UTC."""

    RUN = "run"
    DAY = "day"
    MONTH = "month"


@attrs.frozen(kw_only=True)
class Allowance:
    """What one user or organisation may spend, in nano-dollars; None is no limit."""

    day: int | None = None
    month: int | None = None
    when_state_fails: WhenStateFails = "closed"


NO_LIMIT = Allowance()


@attrs.frozen(kw_only=True)
class Budgets:
    """What callers of a deployment may spend: each request, user and organisation.

    `users` and `organisations` are those that have other limits than the rest, by name. A model
    without a known price is not counted, or with `refuse` not asked.
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
        found: list[Budget] = []
        if self.request is not None and run_id:
            fails = self.request_when_state_fails
            found.append(Budget("request", run_id, Period.RUN, self.request, fails))
        if caller.user:
            allowed = self.users.get(caller.user, self.user)
            name = f"{caller.organisation}/{caller.user}" if caller.organisation else caller.user
            found += _limits("user", name, allowed)
        if caller.organisation:
            name = caller.organisation
            found += _limits("organisation", name, self.organisations.get(name, self.organisation))
        return tuple(found)


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


@attrs.frozen
class Ledger:
    """What is kept of one budget: of which period, what is spent, and what is held until when.

    `told` is the highest threshold that was reached. Holds are by id: nano-dollars, and seconds
    since 1970.
    """

    period: str = ""
    spent: int = 0
    told: int = 0
    holds: Mapping[str, tuple[int, float]] = attrs.field(factory=dict)

    @property
    def held(self) -> int:
        """What all calls hold that are under way."""
        return sum(amount for amount, _ in self.holds.values())


@attrs.frozen
class Settlement:
    """The end of a hold: what its call has really cost.

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


def budgets_of(settlements: Sequence[Settlement], more: Sequence[Budget] = ()) -> list[Budget]:
    """All the budgets that a change is about, each ledger once."""
    found = {each.key: each for each in more}
    for settlement in settlements:
        for budget in settlement.budgets:
            found.setdefault(budget.key, budget)
    return list(found.values())


def decide(
    kept: Mapping[str, bytes | None],
    now_s: float,
    settlements: Sequence[Settlement],
    hold: tuple[str, int, float] | None = None,
    budgets: Sequence[Budget] = (),
) -> Change[Outcome]:
    """Settle what has ended; then hold money for one call, in all of its budgets or in none.

    `kept` has what is remembered under the key of each budget. `hold` is its id, nano-dollars and
    seconds; where the id holds something already, it holds this much instead.
    """
    everything = budgets_of(settlements, budgets)
    ledgers = {each.key: opened(kept.get(each.key), each.period, now_s) for each in everything}
    reached: list[Reached] = []
    for settlement in settlements:
        for budget in settlement.budgets:
            ledgers[budget.key], told = settled(ledgers[budget.key], budget, settlement, now_s)
            reached += told
    refusal, until_s = None, 0.0
    if hold is not None:
        name, amount, for_s = hold
        until_s = now_s + for_s
        refusals = (_refusal(ledgers[each.key], each, hold, now_s) for each in budgets)
        refusal = next(filter(None, refusals), None)
        if refusal is None:
            for each in budgets:
                ledger = ledgers[each.key]
                holds = {**ledger.holds, name: (amount, until_s)}
                ledgers[each.key] = Ledger(ledger.period, ledger.spent, ledger.told, holds)
    entries = {
        each.key: Entry(
            msgspec.json.encode(ledgers[each.key]), _ttl_s(ledgers[each.key], each.period, now_s)
        )
        for each in everything
    }
    return Change(Outcome(refusal, until_s, tuple(reached)), entries)


def opened(data: bytes | None, period: Period, now_s: float) -> Ledger:
    """The ledger as it is now: of the present period, and without holds that have expired."""
    ledger = _LEDGERS.decode(data) if data else Ledger()
    name, _ = _calendar(period, int(now_s // DAY_S))
    holds = ledger.holds
    if any(until_s <= now_s for _, until_s in holds.values()):
        holds = {key: each for key, each in holds.items() if each[1] > now_s}
    if ledger.period != name:
        return Ledger(name, 0, 0, holds)
    return ledger if holds is ledger.holds else attrs.evolve(ledger, holds=holds)


def settled(
    ledger: Ledger, budget: Budget, settlement: Settlement, now_s: float
) -> tuple[Ledger, list[Reached]]:
    """The ledger with a call's real cost instead of its hold, and what thresholds it reached."""
    there = settlement.hold in ledger.holds
    if settlement.again and not there and now_s < settlement.until_s:
        return ledger, []
    holds = {key: each for key, each in ledger.holds.items() if key != settlement.hold}
    spent, limit = ledger.spent + settlement.cost, budget.limit_nanodollars
    new = [
        percent
        for percent in THRESHOLDS
        if percent > ledger.told and settlement.cost and spent * 100 >= percent * limit
    ]
    told = max(new, default=ledger.told)
    reached = [Reached(settlement, budget, percent, spent) for percent in new]
    return Ledger(ledger.period, spent, told, holds), reached


def _refusal(
    ledger: Ledger, budget: Budget, hold: tuple[str, int, float], now_s: float
) -> Refusal | None:
    """Why a hold does not fit; None if it does."""
    name, amount, _ = hold
    held = ledger.held - ledger.holds.get(name, (0, 0.0))[0]
    if ledger.spent + held + amount <= budget.limit_nanodollars:
        return None
    _, ends_s = _calendar(budget.period, int(now_s // DAY_S))
    return Refusal(budget, ledger.spent, held, ends_s)


def _ttl_s(ledger: Ledger, period: Period, now_s: float) -> float:
    _, ends_s = _calendar(period, int(now_s // DAY_S))
    until_s = now_s + RUN_KEPT_S if ends_s is None else ends_s
    return max(until_s, *(until for _, until in ledger.holds.values()), now_s + 1) - now_s


@lru_cache(maxsize=16)
def _calendar(period: Period, day: int) -> tuple[str, float | None]:
    """The name of the period that a day since 1970 is in, and the second in which it ends."""
    if period is Period.RUN:
        return "run", None
    today = datetime.fromtimestamp(day * DAY_S, UTC)
    if period is Period.DAY:
        return today.strftime("%Y-%m-%d"), float((day + 1) * DAY_S)
    following = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    return today.strftime("%Y-%m"), following.timestamp()


def _limits(kind: str, name: str, allowed: Allowance) -> list[Budget]:
    limits = ((Period.DAY, allowed.day), (Period.MONTH, allowed.month))
    return [
        Budget(kind, name, period, limit, allowed.when_state_fails)
        for period, limit in limits
        if limit is not None
    ]


_LEDGERS = msgspec.json.Decoder(Ledger)
