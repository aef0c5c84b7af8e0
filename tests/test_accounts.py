"""Names of organisations and users may hold any character, and nobody is met under another's.

And what is consumed is counted in whole numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.accounts import USAGE_COUNTS, Caller, KeyAllowance, Usage
from orchestra.policies.caching.cache import key_of
from orchestra.policies.limits.allowance import CallerRules, OwnerLimits
from orchestra.policies.limits.owners import Owners
from orchestra.policies.money.budget import Budgets, SpendingLimits
from orchestra.policies.money.prices import Price
from orchestra.runs.keys import claim_key, head_key
from orchestra.values import Capabilities, ChatRequest, Message

SOME = OwnerLimits(requests_per_minute=1)
RULES = CallerRules(user=SOME, organisation=SOME)
BUDGETS = Budgets(user=SpendingLimits(day=1), organisation=SpendingLimits(day=1))
LONG = "é" * 200
NAMES = st.text(st.sampled_from("ab:/ %*\0.=?é"), max_size=4) | st.sampled_from(
    [LONG, sha256(quote(LONG, safe="").encode()).hexdigest()]
)


@pytest.mark.parametrize("field", ["organisation", "user", "key"])
def test_a_name_holds_no_half_of_a_character(field: str) -> None:
    """Its runs could not be recorded, nor could those that wait behind them."""
    named: Callable[..., Caller] = Caller
    with pytest.raises(ValueError, match=rf"Caller\({field}='a\\ud800'\) contains half of a char"):
        named(**{field: "a\ud800"})


def own(caller: Caller) -> set[str]:
    """Under which keys it is kept what the user takes and spends."""
    limits = [each.key for each in RULES.owners(caller, "model") if each.kind == "user"]
    return {*limits, *(each.key for each in BUDGETS.of_caller(caller) if each.kind == "user")}


def shared(caller: Caller) -> set[str]:
    """Under which keys that is kept which the tenant shares."""
    request = ChatRequest((Message("user", "hi"),))
    keys = {claim_key(caller, "answer", "key"), head_key(caller)}
    return keys | {key for key in [key_of(caller.tenant, "model", request)] if key is not None}


@given(NAMES, NAMES, NAMES, NAMES)
@example("a", "b:c", "a:b", "c")
@example("a", "b/c", "a/b", "c")
@example("", "a/b", "a", "b")
@example("", LONG, "", sha256(quote(LONG, safe="").encode()).hexdigest())
def test_nobody_is_met_under_the_name_of_another(
    organisation: str, user: str, other_organisation: str, other_user: str
) -> None:
    one, other = Caller(organisation, user), Caller(other_organisation, other_user)
    if one == other:
        return
    assert own(one).isdisjoint(own(other))
    if one.tenant != other.tenant:
        assert shared(one).isdisjoint(shared(other))
    if organisation == other_organisation:
        return
    lines, others = Owners.of(RULES, "model", one).lines, Owners.of(RULES, "model", other).lines
    assert {name for name, _ in lines}.isdisjoint({name for name, _ in others})


@given(st.text(), st.text(), st.text(), st.sampled_from([None, 0, 5]), st.booleans())
def test_a_caller_is_printed_as_it_is_written(
    organisation: str, user: str, key: str, runs: int | None, named: bool
) -> None:
    caller = Caller(organisation, user, key, KeyAllowance(runs=runs), named)
    assert eval(repr(caller)) == caller
    assert repr(Caller("acme", "ada")) == "Caller('acme', 'ada')"


@given(st.sampled_from(USAGE_COUNTS), st.floats() | st.integers(max_value=-1) | st.booleans())
def test_what_cannot_be_kept_as_a_count_is_refused(name: str, count: float) -> None:
    """A ledger with half a token in it could not be read again, nor the metrics of a process."""
    given: dict[str, Any] = {name: count}
    with pytest.raises(ValueError, match=rf"^Usage\({name}=.*\): write an integer of 0 or more"):
        Usage(**given)
    with pytest.raises(ValueError, match=r"^ChatRequest\(output_tokens_max=.*\): write an integer"):
        ChatRequest((Message("user", "hi"),), output_tokens_max=given[name])
    with pytest.raises(
        ValueError, match=r"^Capabilities\(output_tokens_max=.*\): write an integer"
    ):
        Capabilities(output_tokens_max=given[name])
    with pytest.raises(ValueError, match=r"^Price\(reasoning=.*\): write an integer"):
        Price(input=0, reasoning=given[name])
