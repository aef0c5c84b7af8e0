"""What a call costs: whole nano-dollars, never too little, and never silently nothing."""

from __future__ import annotations

from fractions import Fraction

import attrs
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Usage
from orchestra.policies.money.prices import FREE, Price, Tier, cost, for_million, priced, worst
from orchestra.policies.requests.tokens import Estimate

NANOS = st.integers(0, 10**11)
TOKENS = st.integers(0, 10**6)
PRICES = st.builds(
    Price,
    input=NANOS,
    output=NANOS,
    cached_input=st.none() | NANOS,
    cache_write_input=st.none() | NANOS,
    reasoning=st.none() | NANOS,
)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    read, written, other, thought, said = (draw(TOKENS) for _ in range(5))
    return Usage(
        read + written + other,
        thought + said,
        cached_input_tokens=read,
        cache_write_input_tokens=written,
        reasoning_tokens=thought,
    )


@given(PRICES, usages())
def test_each_token_is_paid_once_at_its_price_rounded_up(price: Price, usage: Usage) -> None:
    def or_(own: int | None, otherwise: int | None) -> int:
        return otherwise or 0 if own is None else own

    read, written = usage.cached_input_tokens, usage.cache_write_input_tokens
    thought = usage.reasoning_tokens
    exact = Fraction(
        (usage.input_tokens - read - written) * price.input
        + read * or_(price.cached_input, price.input)
        + written * or_(price.cache_write_input, price.input)
        + (usage.output_tokens - thought) * or_(price.output, 0)
        + thought * or_(price.reasoning, price.output),
        10**6,
    )
    found = cost(price, usage)
    assert found is not None
    assert 0 <= found - exact < 1
    most = worst(price, Estimate(usage.input_tokens, usage.output_tokens))
    assert most is not None
    assert most >= found


@given(usages(), usages())
def test_the_cost_of_two_calls_is_the_sum_of_their_costs(one: Usage, other: Usage) -> None:
    price = Price(input=1_500_000, output=3_000_001)
    both = priced(price, one) + priced(price, other)
    assert both.cost_nanodollars == (cost(price, one) or 0) + (cost(price, other) or 0)
    assert both.unpriced_calls == 0


def test_a_price_that_is_not_known_is_flagged_and_never_nothing() -> None:
    vectors = Price(input=for_million(0.02))
    assert cost(None, Usage(1)) is None
    assert cost(vectors, Usage(1_000_000)) == 20_000_000
    assert cost(vectors, Usage(1, 1)) is None
    assert worst(None, Estimate(1)) is None
    assert worst(vectors, Estimate(1, 1)) is None
    told = priced(None, Usage(3, 4))
    assert told == Usage(3, 4, unpriced_calls=1)
    assert not told.settled
    assert priced(FREE, Usage(3, 4)) == Usage(3, 4)


def test_a_long_question_makes_all_of_the_call_dearer() -> None:
    dear = Price(input=2_000_000, output=4_000_000)
    price = attrs.evolve(Price(input=1_000_000, output=2_000_000), tiers=(Tier(100, dear),))
    assert cost(price, Usage(100, 10)) == 120
    assert cost(price, Usage(101, 10)) == 242
    assert worst(price, Estimate(101, 10)) == 242


def test_dollars_are_read_as_they_were_written() -> None:
    assert for_million(0.1) == 100_000_000
    assert for_million(1e-9) == 1
    assert for_million(1e-10) == 1
    assert for_million(0) == 0
