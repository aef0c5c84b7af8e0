"""The prices of configured models: from their settings, else from a catalog of list prices.

The catalog is the package `genai-prices`, of the extra `[prices]`. Its wheel contains the data,
which is read without a network when the first model needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs

from orchestra.policies.money.prices import FREE, Price, Tier, for_million
from orchestra.providers.known.addresses import capabilities
from orchestra.providers.known.catalog import PROVIDERS
from orchestra.providers.known.settings import ModelSettings

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "input": "input_mtok",
        "output": "output_mtok",
        "cached_input": "cache_read_mtok",
        "cache_write_input": "cache_write_mtok",
        "reasoning": "output_reasoning_mtok",
    }
)


def price_of(settings: ModelSettings) -> Price | None:
    """The current prices of a model; None if unknown.

    If the settings have a price for input but none for cached input, cached input costs the same as
    input: the catalog's price for cached input is not used. The same applies to output and
    reasoning. Where reranking is billed by search units, only `search` is the price of a rerank
    model.
    """
    configured, provider = settings.prices, PROVIDERS[settings.provider]
    if provider.built_in:
        return FREE
    own: dict[str, Any] = {
        field.name: for_million(value)
        for field in attrs.fields(type(configured))
        if (value := getattr(configured, field.name)) is not None
    }
    by_search = provider.bills_searches and capabilities(settings).reranking
    if by_search and "search" not in own:
        return None
    if provider.free:
        return Price(**{"input": 0, "output": 0, **own})
    if "input" in own and "output" in own:
        return Price(**own)
    listed = listed_price(settings.provider, settings.model)
    if listed is None:
        return Price(**{"input": 0, **own}) if own.keys() & {"input", "search"} else None
    return _overridden(own, listed) if own else listed


def listed_price(provider: str, model: str) -> Price | None:
    """The list prices of a model; None if the catalog has none, or is not installed."""
    name = PROVIDERS[provider].listed_as
    if name is None:
        return None
    try:
        from genai_prices.data_snapshot import get_snapshot
    except ImportError:
        return None
    try:
        _, found = get_snapshot().find_provider_model(model, None, name, None)
    except LookupError:
        return None
    return _read(found.get_prices(datetime.now(UTC)))


def _overridden(own: Mapping[str, Any], listed: Price) -> Price:
    """The list price, overridden by the prices `own` of the settings, in all of its tiers."""
    hidden: dict[str, Any] = (
        {"cached_input": None, "cache_write_input": None} if "input" in own else {}
    )
    hidden |= {"reasoning": None} if "output" in own else {}
    tiers = tuple(Tier(tier.above_tokens, _overridden(own, tier.price)) for tier in listed.tiers)
    return attrs.evolve(listed, **{**hidden, **own, "tiers": tiers})


def _read(theirs: ModelPrice) -> Price | None:
    found = {ours: getattr(theirs, key) for ours, key in _KEYS.items()}
    base = _at(found, 0)
    if base is None:
        return None
    starts = {tier.start for each in found.values() for tier in getattr(each, "tiers", ()) if each}
    tiers = ((start, _at(found, start + 1)) for start in sorted(starts))
    return attrs.evolve(
        base, tiers=tuple(Tier(start, price) for start, price in tiers if price is not None)
    )


def _at(found: Mapping[str, object], input_tokens: int) -> Price | None:
    """The prices of a call with this many input tokens; None without a price for input."""
    named: dict[str, Any] = {}
    for ours, theirs in found.items():
        price = getattr(theirs, "base", theirs)
        for tier in getattr(theirs, "tiers", ()):
            price = tier.price if input_tokens > tier.start else price
        if isinstance(price, Decimal):
            named[ours] = for_million(price)
    return Price(**named) if "input" in named else None
