"""`[budgets]`: what is right is kept and obeyed, and what is wrong told with line and key."""

from __future__ import annotations

from contextlib import nullcontext
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Caller
from orchestra.config import LocalBindings
from orchestra.config import bindings as bindings_module
from orchestra.config.reading import read
from orchestra.errors import BudgetExceededError
from orchestra.policies.account import NOBODY, NoAccount
from orchestra.policies.guard import GuardedModel
from orchestra.policies.money.budget import Budgets, SpendingLimits
from orchestra.stores.state.memory import MemoryState
from tests.config.layers import unlimited
from tests.config.mistakes import FILE, check_told

DOLLAR = 1_000_000_000
WHOLE = """\
[budgets]
request = "0.05"
unknown_price = "refuse"
when_state_fails = "open"
[budgets.user]
day = 1
month = 20.5
[budgets.organisation]
month = "1000"
when_state_fails = "closed"
[budgets.organisations.acme]
month = "none"
day = "0.000000001"
[budgets.users.bob]
day = 2
"""


def test_a_whole_table_is_read_and_what_a_name_leaves_out_is_as_for_all() -> None:
    assert read(WHOLE, FILE).budgets == Budgets(
        request=DOLLAR // 20,
        unknown_price="refuse",
        user=SpendingLimits(day=DOLLAR, month=20 * DOLLAR + DOLLAR // 2, when_state_fails="open"),
        organisation=SpendingLimits(month=1000 * DOLLAR, when_state_fails="closed"),
        organisations={"acme": SpendingLimits(day=1, when_state_fails="closed")},
        users={
            "bob": SpendingLimits(
                day=2 * DOLLAR, month=20 * DOLLAR + DOLLAR // 2, when_state_fails="open"
            )
        },
    )
    assert read("", FILE).budgets is None


@given(st.decimals(0, 999_999, places=9) | st.integers(0, 10**6 - 1).map(Decimal))
def test_dollars_are_read_exactly(dollars: Decimal) -> None:
    budgets = read(f'budgets.request = "{dollars:f}"', FILE).budgets
    assert budgets is not None
    assert budgets.request == dollars * DOLLAR


def test_a_number_is_as_good_as_a_text() -> None:
    budgets = read("budgets.request = 0.1", FILE).budgets
    assert budgets is not None
    assert budgets.request == DOLLAR // 10


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("[budgets]\nrequest = -1", 2, "-1 is not a number of dollars"),
        ("[budgets]\nrequest = nan", 2, "nan is not a number of dollars"),
        ('[budgets]\nrequest = "1 $"', 2, "is not a number of dollars"),
        ("[budgets.user]\nday = 1e-10", 2, "1e-10 dollars are not a whole number of nano-dollars"),
        ("[budgets]\nrequests = 1", 2, "budgets.requests: there is no such key"),
        ("[budgets.user]\nweek = 1", 2, "budgets.user.week: there is no such key"),
        ("[budgets.organisations]\nacme = 3", 2, "3 is not a table"),
        ('[budgets]\nunknown_price = "free"', 2, 'is not "flag" or "refuse"'),
        ('[budgets.users.bob]\nwhen_state_fails = "ajar"', 2, 'is not "open" or "closed"'),
        ("budgets = 3", 1, "3 is not a table"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, says: str) -> None:
    check_told(text, line, says)


def test_all_models_pay_from_one_purse_in_the_state_that_is_given(tmp_path: Path) -> None:
    models = "".join(
        f'[models.{name}]\nprovider = "openai"\nmodel = "{name}"\ntimeouts.total_s = {limit}\n'
        for name, limit in (("a", 30), ("b", '"none"'))
    )
    state = MemoryState()
    with LocalBindings(
        tmp_path, read(models + WHOLE, FILE), {"OPENAI_API_KEY": "x"}, state=state
    ) as bindings:
        one, other = unlimited(bindings.model("a")), unlimited(bindings.model("b"))
        assert isinstance(one, GuardedModel)
        assert isinstance(other, GuardedModel)
        purse = one._gate.costs.purse
        assert purse is other._gate.costs.purse
        assert purse is not None
        assert purse._state is state
        assert (one._gate.costs.hold_s, other._gate.costs.hold_s) == (90, 3600)
    with LocalBindings(tmp_path, read(models, FILE), {"OPENAI_API_KEY": "x"}) as bindings:
        free = unlimited(bindings.model("a"))
        assert isinstance(free, GuardedModel)
        assert not free._gate.costs.counts(NOBODY), "who has no budgets is not counted"


BUDGETS = '[budgets.user]\nday = "0.000001"\n'
FORGETS = '[state]\nurl = "memory:"\n'
FILES = {
    "": "state.sqlite",
    FORGETS: None,
    '[state]\nurl = "sqlite:own.sqlite"\ntimeout_s = 30\n': "own.sqlite",
}


async def spend(bindings: LocalBindings, nanodollars: int) -> None:
    reservation = await bindings.purse.hold(Adas(), nanodollars, for_s=60, model="m")
    assert reservation is not None
    await reservation.settle(nanodollars)


class Adas(NoAccount):
    caller = Caller(user="ada")


@pytest.mark.parametrize(("state", "file"), FILES.items())
def test_what_was_spent_is_forgotten_with_the_bindings_only_where_the_file_says_so(
    state: str, file: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each restart of a server would be a new day for everybody."""
    monkeypatch.setattr(bindings_module, "KEYS_TIMEOUT_S", 30.0)
    deployment = read(BUDGETS + state, FILE)
    with LocalBindings(tmp_path, deployment) as first:
        trio.run(spend, first, 700)
        assert first.state is first.budget_state or isinstance(first.state, MemoryState)
    assert [each.name for each in tmp_path.iterdir()] == ([] if file is None else [file])
    with LocalBindings(tmp_path, deployment) as second:
        again = nullcontext() if file is None else pytest.raises(BudgetExceededError)
        with again:
            trio.run(spend, second, 700)


def test_several_processes_keep_budgets_in_the_file_of_one(tmp_path: Path) -> None:
    """So that one more worker is no new day, either."""
    deployment = read(BUDGETS, FILE)
    with (
        LocalBindings(tmp_path, deployment) as alone,
        LocalBindings(tmp_path, deployment, several=True) as worker,
    ):
        assert worker.budget_state is worker.state
        assert getattr(worker.state, "path", 1) == getattr(alone.budget_state, "path", 2)


def test_who_has_no_budget_makes_no_file(tmp_path: Path) -> None:
    for text in ("", '[budgets]\nrequest = "1"\n'):
        with LocalBindings(tmp_path, read(text, FILE)) as bindings:
            assert trio.run(partial(bindings.purse.hold, for_s=60, model="m"), NOBODY, 7) is None
    assert not list(tmp_path.iterdir())
