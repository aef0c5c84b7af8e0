"""What the calls of one model cost, and the money that is held for them."""

from __future__ import annotations

import attrs

from orchestra.errors import BudgetExceededError, UnknownPriceError
from orchestra.policies.account import Account
from orchestra.policies.money.prices import Price, worst
from orchestra.policies.money.purse import Purse, Reservation
from orchestra.policies.tokens import BYTES_PER_TOKEN, Estimate, tokens_of

HOLD_S = 3_600.0
"""How long a call may hold money, whatever became of its process."""


@attrs.frozen
class CallCosts:
    """The price of the model `name`, None where nobody knows it, and the purse that pays, if any.

    What a call holds expires after `hold_s`, for each request that it is.
    """

    name: str
    price: Price | None = None
    purse: Purse | None = None
    hold_s: float = HOLD_S

    def counts(self, account: Account) -> bool:
        """Whether a call on this account has to be checked, and may have to hold money."""
        return self.purse is not None and self.purse.may_hold(account.caller)

    def check(self, estimate: Estimate) -> None:
        """Nothing, where the price of a call is known or need not be.

        Raises:
            UnknownPriceError: it has to be, and is not.
        """
        if self.purse is None or self.purse.budgets.unknown_price == "flag":
            return
        if worst(self.price, estimate) is None:
            raise unknown_price(self.name)

    async def hold(
        self, account: Account, estimate: Estimate, requests: int = 1
    ) -> Reservation | None:
        """Money for the most that a call can cost; None where no budget applies, or no price.

        Raises:
            BudgetExceededError: a budget has no room for it.
            StateError: as of `Purse.hold`.
        """
        most = worst(self.price, estimate)
        if self.purse is None or not most:
            return None
        for_s = self.hold_s * requests
        return await self.purse.hold(account, most, for_s=for_s, model=self.name)

    async def grow(self, reservation: Reservation, estimate: Estimate, said_bytes: int) -> int:
        """Hold more, for an answer that is longer than was thought; the bytes that it is for.

        Twice as much as was said, or where there is no room for that, just as much.

        Raises:
            BudgetExceededError: there is no room for what was said already.
            StateError: as of `Purse.hold`.
        """
        said = tokens_of(said_bytes)
        try:
            await reservation.grow(worst(self.price, Estimate(estimate.input, 2 * said)) or 0)
        except BudgetExceededError:
            await reservation.grow(worst(self.price, Estimate(estimate.input, said)) or 0)
            return said * BYTES_PER_TOKEN
        return 2 * said * BYTES_PER_TOKEN


def unknown_price(model: str) -> UnknownPriceError:
    """The error of a model whose price has to be known, and is not."""
    return UnknownPriceError(
        'nobody knows what it costs, and [budgets] says unknown_price = "refuse", so that it is '
        f"not asked: add prices = {{ input = 1, output = 4 }} to [models.{model}], in dollars for "
        "a million tokens, or install orchestra[prices]",
        model=model,
    )
