"""What a budget refuses is told to whoever watches the deployment, and logged once in its period."""

from __future__ import annotations

import logging

import attrs
import pytest
import trio
import trio.testing

from orchestra.errors import BudgetExceededError, BudgetHeldError
from orchestra.policies.account import PRESENT
from orchestra.policies.guard import GuardedModel
from orchestra.policies.money import purse as purses
from orchestra.policies.money.budget import Budgets, SpendingLimits
from orchestra.policies.money.ledger import DAY_S, Reached, Refusal
from orchestra.policies.money.purse import Purse
from orchestra.testing.virtual import virtual
from tests.policies.money.test_budget import ASKED, PRICE, WORST, Fake, Told, acme, ask, watched


def watching(
    budgets: Budgets, model: Fake | None = None
) -> tuple[GuardedModel, Purse, list[Reached | Refusal]]:
    told: list[Reached | Refusal] = []
    purse = Purse(budgets, watched(), told.append)
    return GuardedModel(model or Fake(), name="m", price=PRICE, purse=purse), purse, told


async def refused(model: GuardedModel, account: Told) -> BudgetExceededError:
    with pytest.raises(BudgetExceededError) as caught:
        await ask(model, account)
    return caught.value


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.message for each in caplog.records if each.levelno == logging.WARNING]


def test_each_refusal_is_told_and_the_first_in_a_period_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Though 100 % of the budget is never reached."""

    async def main() -> None:
        model, _, told = watching(acme(day=WORST + 10))
        for refusals in (2, 4):
            await ask(model, Told())
            for _ in range(2):
                await refused(model, Told())
            found = [each.budget for each in told if isinstance(each, Refusal)]
            assert [(each.kind, each.period.value) for each in found] == [
                ("organisation", "day")
            ] * refusals
            assert len(warnings(caplog)) == refusals // 2
            await trio.sleep(DAY_S)
        assert not any(isinstance(each, Reached) and each.percent == 100 for each in told)

    virtual(main)
    assert "organisation acme, a day" in warnings(caplog)[0]


def test_the_refusal_of_a_request_whose_budget_is_used_up_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        _, purse, told = watching(acme(day=0))
        with pytest.raises(BudgetExceededError):
            await purse.check(Told().caller)
        (refusal,) = told
        assert isinstance(refusal, Refusal)

    virtual(main)
    assert len(warnings(caplog)) == 1


def test_the_refusal_of_a_runs_own_budget_is_told_and_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its owner is the run, which has the error; there may be any number of runs."""

    async def main() -> None:
        model, _, told = watching(Budgets(request=WORST - 1))
        await refused(model, Told())
        assert [each.budget.kind for each in told] == ["request"]

    virtual(main)
    assert not warnings(caplog)


def test_a_budget_that_is_only_held_by_other_calls_refuses_nobody_for_long(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        model, _, told = watching(acme(day=WORST + 50))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, model, Told())
            await trio.testing.wait_all_tasks_blocked()
            assert isinstance(await refused(model, Told()), BudgetHeldError)
        assert not any(isinstance(each, Refusal) for each in told)

    virtual(main)
    assert not warnings(caplog)


@pytest.mark.parametrize("budgets", [acme(day=3_100), Budgets(request=3_100)])
@pytest.mark.parametrize("whole", [True, False])
def test_a_call_that_goes_on_with_less_than_it_asked_for_is_not_refused(
    budgets: Budgets, whole: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A whole answer without a bound is streamed instead; a stream asks for twice what it needs."""
    unbounded = attrs.evolve(ASKED, output_tokens_max=None)

    async def main() -> None:
        model, _, told = watching(budgets, Fake(words=30, word="x" * 300, counts=None))
        account = Told()
        PRESENT.set(account)
        if whole:
            await model.complete(unbounded)
        else:
            await ask(model, account, unbounded)
        assert account.cost == 3_014
        assert not any(isinstance(each, Refusal) for each in told)
        assert not warnings(caplog)
        await refused(model, account)
        assert isinstance(told[-1], Refusal)

    virtual(main)
    assert len(warnings(caplog)) == (budgets.request is None)


def test_what_is_kept_of_refusals_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purses, "CALLERS_MAX", 2)

    async def main() -> None:
        model, purse, told = watching(Budgets(user=SpendingLimits(day=1)))
        for user in "abcde":
            await refused(model, Told(user=user))
            assert len(purse._refused) <= 2
        assert len(told) == 5

    virtual(main)
