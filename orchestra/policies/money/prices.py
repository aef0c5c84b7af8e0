"""Prices, and the costs of calls. Pure.

Rules of the file: amounts are whole nano-dollars, rounded up, so that nothing with a price costs
0; an unknown cost is None, never 0.
"""

from __future__ import annotations

from decimal import Decimal
from math import ceil

import attrs

from orchestra.accounts import Certainty, Usage, check_count, check_most
from orchestra.policies.requests.tokens import Estimate

NANODOLLARS = 1_000_000_000
"""Nano-dollars in a dollar."""
_TOKENS = 1_000_000
"""The number of tokens that a price refers to."""
_SEARCHES = 1_000
"""The number of search units that a price refers to."""


@attrs.frozen(kw_only=True)
class Price:
    """The price of a model's tokens, in nano-dollars per million; 1,000,000,000 is a dollar.

    `output` is None if it is unknown. Cached input (read or written) costs as much as other input,
    and reasoning as much as other output, unless they have prices of their own. `tiers` are the
    prices of calls with longer input, which apply to all tokens of such a call; the longest last.
    `search` is the price of a thousand search units of a rerank model, None if it has none.

    Raises:
        ValueError: a price is not a whole number of 0 or more.
    """

    input: int = attrs.field(validator=check_count)
    output: int | None = attrs.field(default=None, validator=check_most)
    cached_input: int | None = attrs.field(default=None, validator=check_most)
    cache_write_input: int | None = attrs.field(default=None, validator=check_most)
    reasoning: int | None = attrs.field(default=None, validator=check_most)
    search: int | None = attrs.field(default=None, validator=check_most)
    tiers: tuple[Tier, ...] = ()
    dearest: tuple[int, int] = attrs.field(init=False, eq=False, repr=False)
    """The highest price of any input, and of any output."""

    @dearest.default
    def _dearest(self) -> tuple[int, int]:
        inputs = (self.input, self.cached_input or 0, self.cache_write_input or 0)
        return max(inputs), max(self.output or 0, self.reasoning or 0)


@attrs.frozen
class Tier:
    """The price of a call with more input tokens than `above_tokens`, including cached ones."""

    above_tokens: int
    price: Price


FREE = Price(input=0, output=0)


def cost(price: Price | None, usage: Usage) -> int | None:
    """The cost of a call in nano-dollars; None if a part of its usage has no known price.

    Cached input is a part of the input tokens, and reasoning a part of the output tokens: neither
    is added to them.
    """
    if price is None:
        return None
    if price.tiers:
        price = _tier(price, usage.input_tokens)
    total = usage.input_tokens * price.input
    if usage.cached_input_tokens or usage.cache_write_input_tokens:
        cached = min(usage.cached_input_tokens, usage.input_tokens)
        written = min(usage.cache_write_input_tokens, usage.input_tokens - cached)
        total += cached * (_or(price.cached_input, price.input) - price.input)
        total += written * (_or(price.cache_write_input, price.input) - price.input)
    if usage.output_tokens:
        if price.output is None:
            return None
        total += usage.output_tokens * price.output
        if usage.reasoning_tokens:
            reasoned = min(usage.reasoning_tokens, usage.output_tokens)
            total += reasoned * (_or(price.reasoning, price.output) - price.output)
    return -(-total // _TOKENS)


def cost_of_searches(price: Price | None, usage: Usage, searches: int) -> int | None:
    """The cost of a rerank call that is billed by search units, in nano-dollars; None if unknown.

    Without a price for them, the price of tokens counts, but only if the provider counted tokens.
    """
    if price is None:
        return None
    if price.search is not None:
        return -(-searches * price.search // _SEARCHES)
    return cost(price, usage) if usage.certainty is Certainty.EXACT else None


def worst(price: Price | None, estimate: Estimate) -> int | None:
    """The highest possible cost of a call of this size, in nano-dollars; None if unknown.

    For instance, all of its input might be written to the cache, and all of its output might be
    reasoning.
    """
    if price is None or (estimate.output and price.output is None):
        return None
    if estimate.searches and price.search is not None:
        return -(-estimate.searches * price.search // _SEARCHES)
    if price.tiers:
        price = _tier(price, estimate.input)
    inputs, outputs = price.dearest
    return -(-(estimate.input * inputs + estimate.output * outputs) // _TOKENS)


def priced(price: Price | None, usage: Usage, searches: int = 0) -> Usage:
    """The usage of one call with its cost, not settled; flagged if the cost is unknown.

    A call of a rerank model may be billed by `searches`.
    """
    nanodollars = cost_of_searches(price, usage, searches) if searches else cost(price, usage)
    return Usage(  # `attrs.evolve` takes five times as long
        usage.input_tokens,
        usage.output_tokens,
        usage.certainty,
        usage.cached_input_tokens,
        usage.cache_write_input_tokens,
        usage.reasoning_tokens,
        nanodollars or 0,
        int(nanodollars is None),
    )


def in_dollars(nanodollars: int) -> str:
    """An amount as an exact text in dollars: `$0.25`."""
    whole, rest = divmod(nanodollars, NANODOLLARS)
    return f"${whole}.{rest:09d}".rstrip("0").rstrip(".")


def for_million(dollars: float | Decimal) -> int:
    """A price in dollars per million tokens, in nano-dollars, rounded up.

    A float is read as it is written: 0.1 is exactly a tenth.
    """
    exact = dollars if isinstance(dollars, Decimal) else Decimal(repr(dollars))
    return ceil(exact * NANODOLLARS)


def _tier(price: Price, input_tokens: int) -> Price:
    for tier in reversed(price.tiers):
        if input_tokens > tier.above_tokens:
            return tier.price
    return price


def _or(price: int | None, otherwise: int) -> int:
    return otherwise if price is None else price
