"""What whatever is asked next would meet, too: a wrong key, and not a wrong question."""

from __future__ import annotations

import pytest

from orchestra.errors import (
    ArmsFailedError,
    AuthenticationError,
    BudgetExceededError,
    BudgetHeldError,
    DefinitionError,
    ModelsFailedError,
    OverloadedError,
    QuotaError,
)
from orchestra.policies.health.permanent import is_permanent


@pytest.mark.parametrize(
    ("error", "another_run", "same_run"),
    [
        (AuthenticationError("x"), True, True),
        (OverloadedError("x"), False, False),
        (ValueError("x"), False, False),
        (BudgetExceededError("x", resets_at_s=1.0), True, True),
        (BudgetExceededError("x"), False, True),
        (BudgetHeldError("x", resets_at_s=1.0), False, False),
        (ArmsFailedError("x", {"a": QuotaError("x"), "b": ValueError("x")}), False, False),
        (ArmsFailedError("x", {"a": QuotaError("x"), "b": BudgetExceededError("x")}), False, True),
        (ModelsFailedError("x", {"a": AuthenticationError("x")}), True, True),
        (ArmsFailedError("x", {}), False, False),
        (DefinitionError("x"), True, True),
        (RuntimeError("no running event loop"), True, True),
        (RuntimeError("x"), False, False),
    ],
)
def test_what_all_that_follows_would_meet(
    error: Exception, another_run: bool, same_run: bool
) -> None:
    assert is_permanent(error, within_run=False) == another_run
    assert is_permanent(error, within_run=True) == same_run
