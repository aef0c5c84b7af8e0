"""What a model of a deployment costs: as its settings say, else as the catalogue does."""

from __future__ import annotations

import sys

import pytest
from genai_prices.data_snapshot import get_snapshot

from orchestra.policies.money.prices import FREE, Price, Tier
from orchestra.providers.known.catalog import PROVIDERS
from orchestra.providers.known.prices import listed_price, price_of
from orchestra.providers.known.settings import ModelSettings, Prices

DOLLAR = 1_000_000_000


def settings(provider: str, model: str, **prices: float) -> ModelSettings:
    return ModelSettings(name="m", provider=provider, model=model, prices=Prices(**prices))


def test_what_runs_here_is_free_and_what_nobody_knows_is_not() -> None:
    assert price_of(settings("extractive", "")) is FREE
    assert price_of(settings("ollama", "llama3.2")) == FREE
    assert price_of(settings("ollama", "llama3.2", output=1)) == Price(input=0, output=DOLLAR)
    assert price_of(settings("vllm", "any")) is None
    assert price_of(settings("vllm", "any", output=1)) is None
    assert price_of(settings("openai", "a-model-of-our-own")) is None


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("cohere", "rerank-v3.5"),
        ("bedrock", "cohere.rerank-v3-5:0"),
        ("bedrock-invoke", "cohere.rerank-v3-5:0"),
    ],
)
def test_a_price_of_tokens_says_nothing_of_what_is_billed_by_searches(
    provider: str, model: str
) -> None:
    """So a budget that refuses unknown prices refuses it, and `check` says so."""
    assert price_of(settings(provider, model, input=1)) is None
    assert price_of(settings(provider, model, input=1, output=0)) is None
    assert price_of(settings(provider, model, search=2)) == Price(input=0, search=2 * DOLLAR)
    assert price_of(settings("cohere", "embed-v4.0", input=1)) is not None
    assert price_of(settings("vllm", "bge-reranker-v2-m3", input=1)) == Price(input=DOLLAR)


def test_what_the_settings_say_counts_for_more_and_is_not_mixed() -> None:
    listed = price_of(settings("anthropic", "claude-haiku-4-5"))
    assert listed is not None
    assert listed.output is not None
    assert listed.input < listed.output
    assert listed.cached_input is not None
    assert listed.cached_input < listed.input
    own = price_of(settings("anthropic", "claude-haiku-4-5", input=0.5))
    assert own == Price(input=DOLLAR // 2, output=listed.output)
    whole = settings("openai", "gpt-5.4-mini", input=1, output=2, cached_input=0.5, reasoning=3)
    assert price_of(whole) == Price(
        input=DOLLAR, output=2 * DOLLAR, cached_input=DOLLAR // 2, reasoning=3 * DOLLAR
    )


def test_prices_by_length_are_read_with_their_steps() -> None:
    found = listed_price("gemini", "gemini-2.5-pro")
    assert found is not None
    (tier,) = found.tiers
    assert isinstance(tier, Tier)
    assert tier.above_tokens == 200_000
    assert tier.price.input > found.input
    own = price_of(settings("gemini", "gemini-2.5-pro", output=1))
    assert own is not None
    assert own.tiers[0].price.output == own.output == DOLLAR
    assert own.tiers[0].price.input == tier.price.input


def test_models_that_we_suggest_have_a_price() -> None:
    """Of most providers: it is what shows that our names for them are the catalogue's."""
    found = {
        each.name: listed_price(each.name, each.suggested[0])
        for each in PROVIDERS.values()
        if each.suggested and each.listed_as
    }
    unknown = {name for name, price in found.items() if price is None}
    assert unknown <= {"together", "openrouter", "gemini"}, unknown


def test_the_catalogue_of_prices_has_each_provider_under_the_name_in_its_row() -> None:
    listed = {each.id for each in get_snapshot().providers}
    assert {each.listed_as for each in PROVIDERS.values() if each.listed_as} <= listed


def test_without_the_extra_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices.data_snapshot", None)
    assert price_of(settings("openai", "gpt-5.4-mini")) is None
    assert price_of(settings("openai", "gpt-5.4-mini", input=1)) == Price(input=DOLLAR)
