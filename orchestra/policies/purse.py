"""Money around calls: held when a call begins, settled when it ends, whatever happens.

Rules of the file: a hold is given back within `GIVE_BACK_S` under a shield, or remembered here and
given back with the next change, or by `flush`. If this process dies, the hold expires by itself.
"""

from __future__ import annotations

import logging
import secrets
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import count
from weakref import WeakKeyDictionary

import attrs
import msgspec
import trio

from orchestra.accounts import NO_ALLOWANCE, Caller
from orchestra.errors import BudgetExceededError, BudgetHeldError, StateError
from orchestra.events import BudgetReached
from orchestra.policies.budget import NO_BUDGETS, Budget, Budgets, Payer
from orchestra.policies.giving_back import given_back
from orchestra.policies.ledger import (
    ENCODING,
    HOLD_KEY,
    Decision,
    Hold,
    Order,
    Refusal,
    Settlement,
    Wanted,
    decide,
    used_up,
)
from orchestra.policies.prices import in_dollars
from orchestra.policies.run_ledger import RunLedger
from orchestra.protocols import Account, State

LATE_MAX = 1_000
"""Settlements that are kept while the state is away; then the oldest are lost, and expire."""
CALLERS_MAX = 1_000
"""Callers of whom it is kept ready who pays for all the calls that they make."""
LATE_AT_ONCE = 8
"""Of those, how many go with one change."""
HELD_WAIT_S = 1.0
"""After how long a call may be made again, where only what others hold is in its way."""
REST_S = 0.05
"""How long a state is left alone that has not answered, when all is to be settled."""

log = logging.getLogger("orchestra.policies")


class Purse:
    """Pays for the calls of a deployment. What is spent is in `state`, and shared with it.

    The purse itself keeps what could not be settled yet, at most `LATE_MAX` calls of it, and as
    long as a run lasts, what is spent of its own budget.
    """

    def __init__(self, budgets: Budgets, state: State) -> None:
        self.budgets = budgets
        self._keys_only = budgets == NO_BUDGETS
        self._state = state
        self._late: deque[tuple[Account, Settlement]] = deque()
        self._loses = False
        self._of_caller = lru_cache(maxsize=CALLERS_MAX)(budgets.of_caller)
        self._of_runs: WeakKeyDictionary[object, RunLedger] = WeakKeyDictionary()
        self._names = map(f"{HOLD_KEY}{secrets.token_hex(6)}-{{}}".format, count())

    def may_hold(self, caller: Caller) -> bool:
        """Whether there may be a budget for a caller's calls; where not, nothing need be held."""
        return not self._keys_only or caller.allowance is not NO_ALLOWANCE

    async def hold(
        self, account: Account, nanodollars: int, *, for_s: float, model: str
    ) -> Reservation | None:
        """Money for a call; None where it costs nothing, or no budget applies.

        It expires by itself after `for_s` seconds. Cancelled or refused, nothing is held.

        Raises:
            BudgetHeldError: a budget would have room for it, if other calls held nothing of it.
            BudgetExceededError: a budget has no room for it.
            StateError: the state is away, and a budget says that no call is made then.
        """
        if not nanodollars:
            return None
        payers, of_run = self._of_caller(account.caller), self._of_run(account)
        if not payers and of_run is None:
            return None
        name = "" if self._state.at_once else next(self._names)
        reservation = Reservation(self, account, name, payers, for_s, model, of_run)
        await reservation.grow(nanodollars)
        reservation.begun = True
        return reservation

    async def check(self, caller: Caller) -> None:
        """Nothing, where each budget of the caller is not spent yet, whatever calls hold of it.

        Raises:
            BudgetExceededError: one is used up.
            StateError: the state is away.
        """
        payers = self._of_caller(caller)
        if not payers:
            return
        keys = [payer.key for payer in payers]
        refusal = await self._state.look(keys, partial(used_up, payers), ENCODING)
        if refusal is not None:
            raise _exceeded(refusal, _LEAST, "", begun=False)

    async def settle(self, reservation: Reservation, cost: int) -> None:
        """Spend what a call has cost, and give back what it held; if not now, then later.

        Not cancelled: it takes 50 ms.
        """
        reservation.settle_of_run(cost)
        if reservation.payers:
            await self.settle_shared(reservation, cost)

    async def settle_shared(self, reservation: Reservation, cost: int) -> None:
        """As `settle`, but for the budget of the run."""
        settlement = Settlement(reservation.name, reservation.payers, cost, reservation.there)
        order, accounts = Order((settlement,)), (reservation.account,)
        if not await given_back(self._state, self.change, order, accounts):
            again = msgspec.structs.replace(settlement, again=True)
            self._late.append((reservation.account, again))
            self._trim_late()

    async def change(self, order: Order, accounts: Sequence[Account] = ()) -> Decision:
        """Have this done, and settled with it what is late; `accounts` are of its settlements."""
        late = self._taken_late() if self._late else ()
        if late:
            ends = [*[each for _, each in late], *order.settlements]
            order = msgspec.structs.replace(order, settlements=ends)
            accounts = [*[each for each, _ in late], *accounts]
        keys = order.keys()
        try:
            decision = await self._state.revise(keys, partial(decide, order, keys), ENCODING)
        except BaseException:
            self._late.extendleft(reversed(late))
            self._trim_late()
            raise
        if late:
            self._loses = False
        if decision.reached:
            _tell(accounts, order.settlements, decision)
        return decision

    async def flush(self, within_s: float) -> bool:
        """Settle what is late, when no call will follow; whether nothing is late any more.

        Shielded, and for so long at the most.
        """
        with trio.move_on_after(within_s, shield=True):
            while self._late:
                if not await given_back(self._state, self.change, Order()):
                    await trio.sleep(REST_S)
        if self._late:
            log.error(
                "%d calls are not paid, since the state did not answer: what they have cost is in "
                "no budget, and what they held is free when it expires",
                len(self._late),
            )
        return not self._late

    def _of_run(self, account: Account) -> RunLedger | None:
        """The ledger of the run that makes a call, where each has a budget."""
        found = self._of_runs.get(account.run) if self._of_runs and account.run_id else None
        if found is None and (budget := self.budgets.of_run(account.run_id)) is not None:
            found = self._of_runs[account.run] = RunLedger(budget)
        return found

    def _trim_late(self) -> None:
        """Lose the oldest of those that are late, where they are too many."""
        while len(self._late) > LATE_MAX:
            self._late.popleft()
            if not self._loses:
                self._loses = True
                log.error(
                    "calls are not paid from now on, the oldest first, until the state answers: "
                    "%d of them wait for it, and no more are kept; what the others have cost is "
                    "in no budget",
                    LATE_MAX,
                )

    def _taken_late(self) -> Sequence[tuple[Account, Settlement]]:
        """Of those that are late, as many as go with one change, the oldest first."""
        count = min(len(self._late), LATE_AT_ONCE)
        return [self._late.popleft() for _ in range(count)]


@attrs.define(eq=False)
class Reservation:
    """What one call holds, in all of its budgets; `name` is the key of it, if it has one.

    `of_run` is the ledger of its run, where that has a budget.
    """

    purse: Purse
    account: Account
    name: str
    payers: tuple[Payer, ...]
    for_s: float
    model: str
    of_run: RunLedger | None = None
    there: Hold | None = None
    """What is held of those who pay, as far as is known."""
    there_of_run: int = 0
    """What is held of the run's own budget."""
    begun: bool = False
    """Whether its call is under way: it may have been paid for, and is not to be made again."""

    async def grow(self, nanodollars: int) -> None:
        """Hold this much. Refused or cancelled, what was held before is held still, or nothing.

        Raises:
            BudgetExceededError: a budget has no room for it.
            StateError: as of `Purse.hold`.
        """
        before = self.there_of_run
        if self.of_run is not None:
            refusal = self.of_run.hold(before, nanodollars)
            if refusal is not None:
                raise _exceeded(refusal, nanodollars, self.model, begun=self.begun)
            self.there_of_run = nanodollars
        try:
            if self.payers:
                await self._grow_shared(nanodollars)
        except BaseException:
            if self.of_run is not None:
                self.of_run.give_back(nanodollars - before)
                self.there_of_run = before
            raise

    def settle_of_run(self, cost: int) -> None:
        """Spend what the call has cost of its run's own budget, and hold nothing of it any more."""
        if self.of_run is None:
            return
        held, self.there_of_run = self.there_of_run, 0
        for percent in self.of_run.settle(held, cost):
            _record(self.account, self.of_run.budget, percent, self.of_run.spent)

    async def _grow_shared(self, nanodollars: int) -> None:
        there = self.there
        wanted = Wanted(self.name, nanodollars, self.for_s, there)
        try:
            decision = await self.purse.change(Order((), wanted, self.payers))
        except StateError as error:
            budgets = [each for payer in self.payers for each in payer.budgets]
            closed = [each for each in budgets if each.when_state_fails == "closed"]
            if closed:
                if there is None:
                    await self.purse.settle_shared(self, 0)  # noqa: ASYNC120 - it is shielded and bounded
                raise _away(closed[0], error) from error
            return
        except BaseException:
            if there is None:  # it may have happened
                await self.purse.settle_shared(self, 0)  # noqa: ASYNC102 - it is shielded and bounded
            raise
        if decision.refusal is not None:
            raise _exceeded(decision.refusal, nanodollars, self.model, begun=self.begun)
        self.there = decision.held


def _tell(
    accounts: Sequence[Account], settlements: Sequence[Settlement], decision: Decision
) -> None:
    """Write down in each account what thresholds its calls have reached.

    It is logged, too: where a call is settled late, its run may have ended.
    """
    for each in decision.reached:
        spent, limit = in_dollars(each.spent), in_dollars(each.budget.limit_nanodollars)
        log.info("%d %% of the budget of %s: %s of %s", each.percent, each.budget, spent, limit)
    for account, settlement in zip(accounts, settlements, strict=True):
        for each in decision.reached:
            if each.settlement is settlement:
                _record(account, each.budget, each.percent, each.spent)


def _record(account: Account, budget: Budget, percent: int, spent: int) -> None:
    account.record(BudgetReached, str(budget), percent, spent, budget.limit_nanodollars)


_LEAST = 1
"""Nano-dollars: who has no room for it has nothing left."""
_RAISE = "Raise the limit in [budgets]"
_BOUND = "bound the answer by output_tokens_max (in OpenAI's API: max_completion_tokens)"
_HELD = (
    "those give back what they do not spend when they end. Try again then, make fewer calls at "
    f"once, or {_BOUND}, so that each holds less"
)


def _exceeded(
    refusal: Refusal, nanodollars: int, model: str, *, begun: bool
) -> BudgetExceededError:
    """The error of a call, or with `begun` of one that is under way, without room for so much."""
    budget, resets_at_s = refusal.budget, refusal.resets_at_s
    only_held = not begun and refusal.spent + nanodollars <= budget.limit_nanodollars
    if resets_at_s is None:
        when = "it is that of this run, and the next has its own"
    else:
        when = f"it begins anew at {datetime.fromtimestamp(resets_at_s, UTC):%Y-%m-%d %H:%M} UTC"
    if begun:
        what = f"this answer was stopped, which may cost {in_dollars(nanodollars)} if it goes on"
    elif not only_held and nanodollars == _LEAST:
        what = "nothing is left"
    else:
        what = f"this one may cost {in_dollars(nanodollars)}"
    more = "Ask for a key that may spend more" if budget.kind == "key" else _RAISE
    error = (BudgetHeldError if only_held else BudgetExceededError)(
        f"the budget of {budget} is {in_dollars(budget.limit_nanodollars)}: "
        f"{in_dollars(refusal.spent)} is spent and {in_dollars(refusal.held)} held by other calls, "
        f"and {what}; "
        + (_HELD if only_held else f"{when}. {more}, ask a cheaper model, or {_BOUND}"),
        budget=str(budget),
        spent_nanodollars=refusal.spent,
        held_nanodollars=refusal.held,
        limit_nanodollars=budget.limit_nanodollars,
        resets_at_s=resets_at_s,
        model=model,
    )
    error.retry_after_s = HELD_WAIT_S if only_held else None
    return error


def _away(budget: Budget, error: StateError) -> StateError:
    return StateError(
        f"what is spent of the budget of {budget} cannot be told, and it says "
        f'when_state_fails = "closed": the model was not asked ({error}). Write "open" to let '
        "calls pass while the state is away"
    )
