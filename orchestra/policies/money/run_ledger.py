"""The budget of one run: what is spent of it, and what its calls hold. Pure.

A run is in one process, and so is its ledger, which goes when the run goes: no state is asked,
and none has to remember each run that there ever was.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from orchestra.policies.money.budget import Budget
from orchestra.policies.money.ledger import Refusal, thresholds


@attrs.define(eq=False)
class RunLedger:
    """In nano-dollars; `told` is the highest threshold that was reached."""

    budget: Budget
    spent: int = 0
    held: int = 0
    told: int = 0

    def hold(self, before: int, nanodollars: int) -> Refusal | None:
        """Hold this much for a call that has held so much before; or why it does not fit."""
        others = self.held - before
        if self.spent + others + nanodollars > self.budget.limit_nanodollars:
            return Refusal(self.budget, self.spent, others, None)
        self.held = others + nanodollars
        return None

    def give_back(self, nanodollars: int) -> None:
        """Hold so much less."""
        self.held -= nanodollars

    def settle(self, held: int, cost: int) -> Sequence[int]:
        """Spend what a call has cost in place of what it held; the thresholds that this reaches."""
        self.held -= held
        self.spent += cost
        found = thresholds(self.spent, self.budget.limit_nanodollars, self.told)
        self.told = max(found, default=self.told)
        return found
