"""Money for calls: held when a call begins, and settled when it ends, whatever happens.

Rules of the file: a hold is released when its call ends, or later if the state does not answer:
see `outbox`. If this process dies, the hold expires by itself.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import count
from weakref import WeakKeyDictionary

import attrs
import msgspec

from orchestra.accounts import NO_ALLOWANCE, Caller
from orchestra.errors import BudgetExceededError, BudgetHeldError, StateError
from orchestra.events import BudgetReached
from orchestra.policies.account import Account
from orchestra.policies.money.budget import NO_BUDGETS, Budget, Budgets, Payer
from orchestra.policies.money.ledger import (
    ENCODING,
    HOLD_KEY,
    Hold,
    Kept,
    OnBudget,
    Reached,
    Refusal,
    Settlement,
    Wanted,
    hold,
    settle,
    used_up,
)
from orchestra.policies.money.prices import in_dollars
from orchestra.policies.money.run_ledger import RunLedger
from orchestra.policies.outbox import Outbox
from orchestra.protocols import State
from orchestra.records import Revision

CALLERS_MAX = 1_000
"""The number of callers whose payers are cached, and of budgets known to have refused a call."""
HELD_WAIT_S = 1.0
"""Seconds after which a call may be retried, if only the holds of other calls blocked it."""
_LOST = "their cost is in no budget, and what they held is free when it expires"

log = logging.getLogger("orchestra.policies")


class Purse:
    """Pays for the calls of a deployment. The spending is kept in `state`, and shared through it.

    The purse itself keeps the ends of calls that the state has not accepted yet, in `outbox`, and
    the ledger of each run's own budget, as long as the run lasts. `on_budget` is called for each
    threshold of a budget that is reached, and for each refusal, unless only the holds of other
    calls cause it.
    """

    def __init__(self, budgets: Budgets, state: State, on_budget: OnBudget | None = None) -> None:
        self.budgets = budgets
        self._on_budget = on_budget
        self._refused: dict[Budget, float] = {}
        self._keys_only = budgets == NO_BUDGETS
        self._state = state
        self.outbox: Outbox[_End] = Outbox(state, self._settled, _LOST)
        self._of_caller = lru_cache(maxsize=CALLERS_MAX)(partial(_paying, budgets))
        self._of_runs: WeakKeyDictionary[object, RunLedger] = WeakKeyDictionary()
        self._names = map(f"{HOLD_KEY}{secrets.token_hex(6)}-{{}}".format, count())

    def may_hold(self, caller: Caller) -> bool:
        """Whether a caller's calls may have a budget; if not, they never hold money."""
        return not self._keys_only or caller.allowance is not NO_ALLOWANCE

    async def hold(
        self,
        account: Account,
        nanodollars: int,
        *,
        for_s: float,
        model: str,
        tentative: bool = False,
    ) -> Reservation | None:
        """Hold money for a call; None if the call costs nothing, or no budget applies to it.

        The hold expires by itself after `for_s` seconds. If cancelled or refused, nothing is held.
        A refusal of a `tentative` hold is not reported: the caller will ask for less.

        Raises:
            BudgetHeldError: a budget would have room for the call without the holds of others.
            BudgetExceededError: a budget has no room for the call.
            StateError: the state cannot be reached, and a budget then refuses calls.
        """
        if not nanodollars:
            return None
        (payers, keys), of_run = self._of_caller(account.caller), self._of_run(account)
        if not payers and of_run is None:
            return None
        name = ""
        if not self._state.at_once:
            name = next(self._names)
            keys = (*keys, name)
        reservation = Reservation(self, account, name, payers, keys, for_s, model, of_run)
        await reservation.grow(nanodollars, tentative=tentative)
        reservation.begun = True
        return reservation

    async def check(self, caller: Caller) -> None:
        """Check that no budget of the caller is used up, without regard to holds.

        Raises:
            BudgetExceededError: a budget is used up.
            StateError: the state cannot be reached.
        """
        payers, keys = self._of_caller(caller)
        if not payers:
            return
        refusal = await self._state.look(keys, partial(used_up, payers), ENCODING)
        if refusal is not None:
            raise self.refused(refusal, _LEAST, "", begun=False)

    async def held(self, wanted: Wanted, keys: Sequence[str]) -> Hold | Refusal:
        """Hold money for all payers, or return the refusal.

        Undelivered ends are sent after the state has answered; if that releases money, a refused
        request is tried once more.

        Raises:
            StateError: the state cannot be reached; the money may be held or not.
        """
        held = partial(hold, wanted)
        found = await self._state.revise(keys, held, ENCODING)
        if self.outbox.undelivered and await self.outbox.resend() and isinstance(found, Refusal):
            found = await self._state.revise(keys, held, ENCODING)
        return found

    async def _settled(self, end: _End) -> None:
        await self._state.revise(end.keys, end.decide, ENCODING)
        for each in end.reached:
            spent, limit = in_dollars(each.spent), in_dollars(each.budget.limit_nanodollars)
            level = logging.WARNING if each.percent >= _ALL_PERCENT else logging.INFO
            line = "%d %% of the budget of %s: %s of %s"
            log.log(level, line, each.percent, each.budget, spent, limit)
            self.tell(end.account, each)

    def tell(self, account: Account, reached: Reached) -> None:
        """Report a threshold to `on_budget`, and to its call's run, if that has not ended."""
        if self._on_budget is not None:
            self._on_budget(reached)
        budget, percent, spent = reached.budget, reached.percent, reached.spent
        account.record(BudgetReached, str(budget), percent, spent, budget.limit_nanodollars)

    def refused(
        self,
        refusal: Refusal,
        nanodollars: int,
        model: str,
        *,
        begun: bool,
        tentative: bool = False,
    ) -> BudgetExceededError:
        """The error of a refusal, which is reported to `on_budget`, unless it was `tentative`.

        The first of a budget in each of its periods is logged, as its owner may never reach 100 %.
        """
        error = _exceeded(refusal, nanodollars, model, begun=begun)
        if tentative or isinstance(error, BudgetHeldError):
            return error
        if self._on_budget is not None:
            self._on_budget(refusal)
        budget, resets_at_s = refusal.budget, refusal.resets_at_s
        if resets_at_s is not None and self._refused.get(budget) != resets_at_s:
            if len(self._refused) >= CALLERS_MAX:
                self._refused.clear()
            self._refused[budget] = resets_at_s
            log.warning("a budget refuses calls, which is logged once in its period: %s", error)
        return error

    def _of_run(self, account: Account) -> RunLedger | None:
        """The ledger of the calling run; None outside runs, or if runs have no budget."""
        if self.budgets.request is None or not account.run_id:
            return None
        found = self._of_runs.get(account.run_key)
        if found is None and (budget := self.budgets.of_run(account.run_id)) is not None:
            found = self._of_runs[account.run_key] = RunLedger(budget)
        return found


class _End(msgspec.Struct, frozen=True, eq=False):
    """The end of a call, with its account.

    `reached` are the thresholds that the settlement last decided, since the state may make a change
    whose result is lost: an end that is sent `again` and finds its hold settled has the same ones.
    """

    account: Account
    keys: tuple[str, ...]
    settlement: Settlement
    reached: list[Reached] = []

    def decide(
        self, kept: Sequence[Kept | None], now_s: float
    ) -> Revision[Sequence[Reached], Kept]:
        found = settle(self.settlement, kept, now_s)
        if found.records:  # else it is settled already
            self.reached[:] = found.result
        return found

    def again(self) -> _End:
        again = msgspec.structs.replace(self.settlement, again=True)
        return _End(self.account, self.keys, again, self.reached)


@attrs.define(eq=False)
class Reservation:
    """The money held by one call in all of its budgets; `name` is the hold's key, or "".

    `of_run` is the ledger of its run, if runs have a budget.
    """

    purse: Purse
    account: Account
    name: str
    payers: tuple[Payer, ...]
    keys: tuple[str, ...]
    """The keys of the payers' ledgers and, if it has one, of this hold."""
    for_s: float
    model: str
    of_run: RunLedger | None = None
    there: Hold | None = None
    """The hold in the payers' ledgers, as far as it is known."""
    there_of_run: int = 0
    """The amount held in the run's own budget."""
    begun: bool = False
    """Whether the call has begun: it may have cost money, and must not be repeated."""

    async def grow(self, nanodollars: int, *, tentative: bool = False) -> None:
        """Hold this amount in place of the old one. If cancelled or refused, the old hold stays.

        `tentative` is as in `Purse.hold`.

        Raises:
            BudgetExceededError: a budget has no room for it.
            StateError: as for `Purse.hold`.
        """
        before = self.there_of_run
        if self.of_run is not None:
            refusal = self.of_run.hold(before, nanodollars)
            if refusal is not None:
                raise self._refused(refusal, nanodollars, tentative=tentative)
            self.there_of_run = nanodollars
        try:
            if self.payers:
                await self._grow_shared(nanodollars, tentative=tentative)
        except BaseException:
            if self.of_run is not None:
                self.of_run.give_back(nanodollars - before)
                self.there_of_run = before
            raise

    async def settle(self, cost: int) -> None:
        """Spend the cost of the call, and release its hold; later if the state does not answer.

        Shielded, and bounded by `outbox.GIVE_BACK_S`.
        """
        of_run, held = self.of_run, self.there_of_run
        if of_run is not None:
            self.there_of_run = 0
            for percent in of_run.settle(held, cost):
                self.purse.tell(self.account, Reached(of_run.budget, percent, of_run.spent))
        if self.payers:
            await self._settle_shared(cost)

    async def _settle_shared(self, cost: int) -> None:
        """As `settle`, without the budget of the run."""
        settlement = Settlement(self.name, self.payers, cost, self.there)
        await self.purse.outbox.send(_End(self.account, self.keys, settlement))

    def _refused(
        self, refusal: Refusal, nanodollars: int, *, tentative: bool
    ) -> BudgetExceededError:
        return self.purse.refused(
            refusal, nanodollars, self.model, begun=self.begun, tentative=tentative
        )

    async def _grow_shared(self, nanodollars: int, *, tentative: bool) -> None:
        there = self.there
        wanted = Wanted(self.name, self.payers, nanodollars, self.for_s, there)
        try:
            found = await self.purse.held(wanted, self.keys)
        except StateError as error:
            budgets = [each for payer in self.payers for each in payer.budgets]
            closed = [each for each in budgets if each.when_state_fails == "closed"]
            if closed:
                if there is None:
                    await self._settle_shared(0)  # noqa: ASYNC120 - it is shielded and bounded
                raise _away(closed[0], error) from error
            return
        except BaseException:
            if there is None:  # the state may have taken the hold
                await self._settle_shared(0)  # noqa: ASYNC102 - it is shielded and bounded
            raise
        if isinstance(found, Refusal):
            raise self._refused(found, nanodollars, tentative=tentative)
        self.there = found


def _paying(budgets: Budgets, caller: Caller) -> tuple[tuple[Payer, ...], tuple[str, ...]]:
    """The payers of a caller's calls, and the keys of their ledgers."""
    payers = budgets.of_caller(caller)
    return payers, tuple(payer.key for payer in payers)


_ALL_PERCENT = 100
"""From here on a threshold is logged as a warning, as its owner is refused."""
_LEAST = 1
"""The least amount, in nano-dollars: a budget without room for it has nothing left."""
_LESS = (
    "send shorter texts, or for a chat bound the answer by output_tokens_max (in OpenAI's API: "
    "max_completion_tokens)"
)
_HELD = (
    "they release what they have not spent when they end. Retry then, or make fewer calls at once; "
    f"or {_LESS}, so that each call holds less"
)


def _exceeded(
    refusal: Refusal, nanodollars: int, model: str, *, begun: bool
) -> BudgetExceededError:
    """The error if a budget has no room for this amount; with `begun`, for a running call."""
    budget, resets_at_s = refusal.budget, refusal.resets_at_s
    only_held = not begun and refusal.spent + nanodollars <= budget.limit_nanodollars
    whose = str(budget)
    if resets_at_s is None:
        whose = "this run"
        when = "the next run has a budget of its own"
    else:
        when = f"it resets at {datetime.fromtimestamp(resets_at_s, UTC):%Y-%m-%d %H:%M} UTC"
    if begun:
        what = f"this answer was stopped, as it may cost {in_dollars(nanodollars)} if it goes on"
    elif not only_held and nanodollars == _LEAST:
        what = "nothing is left"
    else:
        what = f"this call may cost {in_dollars(nanodollars)}"
    more = "have the limit in [budgets] raised"
    if budget.kind == "key":
        more = "ask for a key that may spend more"
    if refusal.spent < budget.limit_nanodollars:  # else nothing that costs anything would fit
        more = f"{_LESS}; or ask a cheaper model, or {more}"
    error = (BudgetHeldError if only_held else BudgetExceededError)(
        f"the budget of {whose} is {in_dollars(budget.limit_nanodollars)}: "
        f"{in_dollars(refusal.spent)} is spent and {in_dollars(refusal.held)} held by other calls, "
        f"and {what}; " + (_HELD if only_held else f"{when}. {more[0].upper()}{more[1:]}"),
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
        f"the spending of the budget of {budget} cannot be read, and the budget has "
        f'when_state_fails = "closed", so the model was not called ({error}). Write "open" to '
        "allow calls while the state cannot be reached"
    )
