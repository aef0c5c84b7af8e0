"""The ledger of one run's own budget: the spending, and the holds of its calls. Pure.

A run is in one process, and so is its ledger, which is dropped with the run. So it is not kept in
a state, and no state has to remember every run.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from orchestra.policies.money.budget import Budget
from orchestra.policies.money.ledger import Refusal, thresholds


@attrs.define(eq=False)
class RunLedger:
    """The amounts spent and held, in nano-dollars; `reported` is the highest threshold reported."""

    budget: Budget
    spent: int = 0
    held: int = 0
    reported: int = 0

    def hold(self, before: int, nanodollars: int) -> Refusal | None:
        """Hold this amount for a call, in place of `before`; or return the refusal."""
        others = self.held - before
        if self.spent + others + nanodollars > self.budget.limit_nanodollars:
            return Refusal(self.budget, self.spent, others, None)
        self.held = others + nanodollars
        return None

    def give_back(self, nanodollars: int) -> None:
        """Reduce the holds."""
        self.held -= nanodollars

    def settle(self, held: int, cost: int) -> Sequence[int]:
        """Spend the cost of a call in place of its hold; return the thresholds newly reached."""
        self.held -= held
        self.spent += cost
        found = thresholds(self.spent, self.budget.limit_nanodollars, self.reported)
        self.reported = max(found, default=self.reported)
        return found
