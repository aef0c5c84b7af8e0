"""The costs of one model's calls, and the money that is held for them."""

from __future__ import annotations

import attrs

from orchestra.errors import BudgetExceededError, UnknownPriceError
from orchestra.policies.account import Account
from orchestra.policies.money.prices import Price, worst
from orchestra.policies.money.purse import Purse, Reservation
from orchestra.policies.requests.tokens import BYTES_PER_TOKEN, Estimate, tokens_of

HOLD_S = 3_600.0
"""How long a call may hold money, also if its process has died."""


@attrs.frozen
class CallCosts:
    """The price of the model `name`, None if unknown, and the purse that pays, if there is one.

    Held money expires after `hold_s` times the number of requests that it is held for.
    """

    name: str
    price: Price | None = None
    purse: Purse | None = None
    hold_s: float = HOLD_S

    def counts(self, account: Account) -> bool:
        """Whether a call on this account has to be checked, and may have to hold money."""
        return self.purse is not None and self.purse.may_hold(account.caller)

    def check(self, estimate: Estimate) -> None:
        """Check that the price of a call is known, if the budgets require that.

        Raises:
            UnknownPriceError: the price is unknown.
        """
        if self.purse is None or self.purse.budgets.unknown_price == "flag":
            return
        if worst(self.price, estimate) is None:
            raise unknown_price(self.name)

    async def hold(
        self,
        account: Account,
        estimate: Estimate,
        requests: int = 1,
        *,
        tentative: bool = False,
    ) -> Reservation | None:
        """Hold money for the highest possible cost of a call; None without a budget or a price.

        `tentative` is as in `Purse.hold`.

        Raises:
            BudgetExceededError: a budget has no room for it.
            StateError: as for `Purse.hold`.
        """
        most = worst(self.price, estimate)
        if self.purse is None or not most:
            return None
        for_s = self.hold_s * requests
        return await self.purse.hold(
            account, most, for_s=for_s, model=self.name, tentative=tentative
        )

    async def grow(self, reservation: Reservation, estimate: Estimate, output_bytes: int) -> int:
        """Hold more for an answer that is longer than expected; return the bytes it now covers.

        These are twice the output so far or, if there is no room for that, the output so far.

        Raises:
            BudgetExceededError: there is no room even for the output so far.
            StateError: as for `Purse.hold`.
        """
        tokens = tokens_of(output_bytes)
        try:
            twice = worst(self.price, Estimate(estimate.input, 2 * tokens)) or 0
            await reservation.grow(twice, tentative=True)
        except BudgetExceededError:
            await reservation.grow(worst(self.price, Estimate(estimate.input, tokens)) or 0)
            return tokens * BYTES_PER_TOKEN
        return 2 * tokens * BYTES_PER_TOKEN


def unknown_price(model: str) -> UnknownPriceError:
    """The error for a model whose price has to be known, but is not."""
    return UnknownPriceError(
        'its price is unknown, and [budgets] has unknown_price = "refuse", so it was not called: '
        f"add prices = {{ input = 1, output = 4 }} to [models.{model}], in dollars per million "
        "tokens, or install orchestra[prices]; for a rerank model, it may be prices = "
        "{ search = 2 }, in dollars per thousand search units",
        model=model,
    )
