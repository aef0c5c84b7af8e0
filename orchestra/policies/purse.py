"""Money around calls: held when a call begins, settled when it ends, whatever happens.

Rules of the file: a hold is given back within `GIVE_BACK_S` under a shield, or remembered here and
given back with the next change. If this process dies, the hold expires by itself.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import count

import attrs

from orchestra.accounts import NO_ALLOWANCE, Caller
from orchestra.errors import BudgetExceededError, StateError
from orchestra.events import BudgetReached
from orchestra.policies.budget import (
    HOLD_KEY,
    NO_BUDGETS,
    Budget,
    Budgets,
    Outcome,
    Refusal,
    Settlement,
    decide,
    keys_of,
    used_up,
)
from orchestra.policies.giving_back import given_back
from orchestra.policies.prices import NANODOLLARS
from orchestra.protocols import Account, Change, State

LATE_MAX = 1_000
"""Settlements that are kept while the state is away; then the oldest are lost, and expire."""
CALLERS_MAX = 1_000
"""Callers, and runs, whose budgets are kept ready for all the calls that they make."""
LATE_AT_ONCE = 8
"""Of those, how many go with one change."""


class Purse:
    """Pays for the calls of a deployment. What is spent is in `state`, and shared with it.

    The purse itself keeps what could not be settled yet, at most `LATE_MAX` calls of it.
    """

    def __init__(self, budgets: Budgets, state: State) -> None:
        self.budgets = budgets
        self._keys_only = budgets == NO_BUDGETS
        self._state = state
        self._late: deque[tuple[Account, Settlement]] = deque(maxlen=LATE_MAX)
        self._of_caller = lru_cache(maxsize=CALLERS_MAX)(budgets.of_caller)
        self._of_run = lru_cache(maxsize=CALLERS_MAX)(budgets.of_run)
        self._names = map(f"{HOLD_KEY}{secrets.token_hex(6)}-{{}}".format, count())

    def may_hold(self, caller: Caller) -> bool:
        """Whether there may be a budget for a caller's calls; where not, nothing need be held."""
        return not self._keys_only or caller.allowance is not NO_ALLOWANCE

    async def hold(
        self, account: Account, nanodollars: int, *, for_s: float, model: str
    ) -> Held | None:
        """Money for a call; None where it costs nothing, or no budget applies.

        It expires by itself after `for_s` seconds. Cancelled or refused, nothing is held.

        Raises:
            BudgetExceededError: a budget has no room for it.
            StateError: the state is away, and a budget says that no call is made then.
        """
        if not nanodollars:
            return None
        budgets = self._of_caller(account.caller)
        if self.budgets.request is not None:
            budgets = self._of_run(account.run_id) + budgets
        if not budgets:
            return None
        held = Held(self, account, next(self._names), budgets, for_s, model)
        await held.grow(nanodollars)
        return held

    async def check(self, caller: Caller) -> None:
        """Nothing, where each budget of the caller has something left. Nothing is held.

        Raises:
            BudgetExceededError: one is used up.
            StateError: the state is away.
        """
        budgets = self._of_caller(caller)
        if not budgets:
            return
        refusal = await self._state.change(
            keys_of((), None, budgets),
            lambda kept, now_s: Change(used_up(kept, now_s, budgets)),
        )
        if refusal is not None:
            raise _exceeded(refusal, 1, "")

    async def change(self, held: Held, nanodollars: int) -> Outcome:
        """Hold this much instead of what is held; what is late is settled with it."""
        hold = (held.name, nanodollars, held.for_s)
        return await self._change([], hold, held.budgets)

    async def settle(self, held: Held, cost: int) -> None:
        """Spend what a call has cost, and give back what it held; if not now, then later."""
        settlement = Settlement(held.name, held.budgets, cost, held.until_s)
        told = [(held.account, settlement)]
        if not await given_back(self._state, lambda: self._change(told)):
            self._late.append((held.account, attrs.evolve(settlement, again=True)))

    async def _change(
        self,
        settlements: list[tuple[Account, Settlement]],
        hold: tuple[str, int, float] | None = None,
        budgets: tuple[Budget, ...] = (),
    ) -> Outcome:
        late = [self._late.popleft() for _ in range(min(len(self._late), LATE_AT_ONCE))]
        told = [*late, *settlements]
        ends = [settlement for _, settlement in told]
        keys = keys_of(ends, hold, budgets)

        def decided(data: Sequence[bytes | None], now_s: float) -> Change[Outcome]:
            return decide(dict(zip(keys, data, strict=True)), now_s, ends, hold, budgets)

        try:
            outcome = await self._state.change(keys, decided)
        except BaseException:
            self._late.extendleft(reversed(late))
            raise
        if outcome.reached:
            _tell(told, outcome)
        return outcome


@attrs.define(eq=False)
class Held:
    """What one call holds, in all of its budgets."""

    purse: Purse
    account: Account
    name: str
    budgets: tuple[Budget, ...]
    for_s: float
    model: str
    until_s: float = 0.0

    async def grow(self, nanodollars: int) -> None:
        """Hold this much. Refused or cancelled, what was held before is held still, or nothing.

        Raises:
            BudgetExceededError: a budget has no room for it.
            StateError: as of `Purse.hold`.
        """
        first = not self.until_s
        try:
            outcome = await self.purse.change(self, nanodollars)
        except StateError as error:
            closed = [each for each in self.budgets if each.when_state_fails == "closed"]
            if closed:
                if first:
                    await self.settle(0)  # noqa: ASYNC120 - it is shielded and bounded
                raise _away(closed[0], error) from error
            return
        except BaseException:
            if first:  # it may have happened
                await self.settle(0)  # noqa: ASYNC102 - it is shielded and bounded
            raise
        if outcome.refusal is not None:
            raise _exceeded(outcome.refusal, nanodollars, self.model)
        self.until_s = outcome.until_s

    async def settle(self, cost: int) -> None:
        """Spend what the call has cost, and give the rest back. Not cancelled: it takes 50 ms."""
        await self.purse.settle(self, cost)


def _tell(told: list[tuple[Account, Settlement]], outcome: Outcome) -> None:
    """Write down in each account what thresholds its calls have reached."""
    for account, settlement in told:
        for each in outcome.reached:
            if each.settlement is settlement:
                budget = each.budget
                fields = str(budget), each.percent, each.spent, budget.limit_nanodollars
                account.record(BudgetReached, *fields)


_RAISE = "Raise the limit in [budgets]"


def _exceeded(refusal: Refusal, nanodollars: int, model: str) -> BudgetExceededError:
    budget, resets_at_s = refusal.budget, refusal.resets_at_s
    if resets_at_s is None:
        when = "it is that of this run, and the next has its own"
    else:
        when = f"it is empty again at {datetime.fromtimestamp(resets_at_s, UTC):%Y-%m-%d %H:%M} UTC"
    more = "Ask for a key that may spend more" if budget.kind == "key" else _RAISE
    return BudgetExceededError(
        f"the budget of {budget} is {_dollars(budget.limit_nanodollars)}: "
        f"{_dollars(refusal.spent)} is spent and {_dollars(refusal.held)} held by other calls, "
        f"and this one may cost {_dollars(nanodollars)}; {when}. {more}, ask a cheaper model, or "
        "bound the answer by output_tokens_max",
        budget=str(budget),
        spent_nanodollars=refusal.spent,
        held_nanodollars=refusal.held,
        limit_nanodollars=budget.limit_nanodollars,
        resets_at_s=resets_at_s,
        model=model,
    )


def _away(budget: Budget, error: StateError) -> StateError:
    return StateError(
        f"what is spent of the budget of {budget} cannot be told, and it says "
        f'when_state_fails = "closed": the model was not asked ({error}). Write "open" to let '
        "calls pass while the state is away"
    )


def _dollars(nanodollars: int) -> str:
    return f"${nanodollars / NANODOLLARS:.9f}".rstrip("0").rstrip(".")
