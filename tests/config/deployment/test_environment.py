"""Models that appear by themselves: whose key is there, and nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.config import LocalBindings, default_bindings, read_deployment
from orchestra.config.built_in import only_built_in
from orchestra.config.deployment.deployment import EMBEDDED
from orchestra.config.deployment.environment import from_environment
from orchestra.providers.known.addresses import shown_url
from orchestra.providers.known.catalog import PROVIDERS
from tests.config.variables import configuring, keys

ENVIRONS = st.dictionaries(st.sampled_from(sorted(configuring())), st.just("value"))


@given(ENVIRONS)
def test_the_usual_names_are_always_there(environ: dict[str, str]) -> None:
    """Whatever is set: `default`, `fast`, `smart` and the embedded embedder."""
    found = from_environment(environ)
    assert list(found.models)[:3] == ["default", "fast", "smart"]
    assert found.embedders == EMBEDDED.embedders
    if not environ.keys() & (keys() | {"OLLAMA_HOST"}):
        assert found == EMBEDDED


@given(ENVIRONS)
def test_names_are_told_without_asking_providers_where_no_variable_is_theirs(
    environ: dict[str, str],
) -> None:
    found = from_environment(environ)
    with LocalBindings(environ=environ) as bindings:
        assert list(bindings.names("model")) == [*found.models, *found.routes]
        assert list(bindings.names("embedder")) == list(found.embedders)
    assert not only_built_in(environ) or found == EMBEDDED


@given(ENVIRONS)
def test_a_provider_appears_by_its_own_variable_only(environ: dict[str, str]) -> None:
    for name, made in from_environment(environ).models.items():
        if made.provider != "extractive":
            told = made.origin.removeprefix("environment: ")
            assert environ[told], name
            assert made.model in (PROVIDERS[made.provider].suggested or ())


@pytest.mark.parametrize(
    ("environ", "provider"),
    [
        ({"OPENAI_API_KEY": "k"}, "openai"),
        ({"ANTHROPIC_API_KEY": "k"}, "anthropic"),
        ({"GEMINI_API_KEY": "k"}, "gemini"),
        ({"GOOGLE_API_KEY": "k"}, "gemini"),
        ({"COHERE_API_KEY": "k"}, "cohere"),
        ({"CO_API_KEY": "k"}, "cohere"),
        ({"GROQ_API_KEY": "k"}, "groq"),
        ({"MISTRAL_API_KEY": "k"}, "mistral"),
        ({"DEEPSEEK_API_KEY": "k"}, "deepseek"),
        ({"OPENROUTER_API_KEY": "k"}, "openrouter"),
        ({"TOGETHER_API_KEY": "k"}, "together"),
        ({"XAI_API_KEY": "k"}, "xai"),
        ({"AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_ENDPOINT": "https://a.example/"}, "azure"),
        (
            {"AWS_ACCESS_KEY_ID": "i", "AWS_SECRET_ACCESS_KEY": "k", "AWS_REGION": "us-east-1"},
            "bedrock",
        ),
        ({"AWS_BEARER_TOKEN_BEDROCK": "k", "AWS_DEFAULT_REGION": "us-east-1"}, "bedrock"),
        ({"OLLAMA_HOST": "gpu:11434"}, "ollama"),
    ],
)
def test_a_key_is_enough(environ: dict[str, str], provider: str) -> None:
    found = from_environment(environ)
    assert set(found.models) == {"default", "fast", "smart", provider}
    assert {each.provider for each in found.models.values()} == {provider}
    assert found.models["fast"] is found.models[provider]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OPENAI_API_KEY": ""},
        {"OPENAI_API_KEY": " \n"},
        {"OLLAMA_HOST": " "},
        {"AWS_BEARER_TOKEN_BEDROCK": " ", "AWS_REGION": "us-east-1"},
        {"AZURE_OPENAI_API_KEY": "k"},
        {"AWS_ACCESS_KEY_ID": "i", "AWS_SECRET_ACCESS_KEY": "k"},
        {"AWS_ACCESS_KEY_ID": "i", "AWS_REGION": "us-east-1"},
        {"OPENAI_BASE_URL": "http://localhost"},
        {"HF_TOKEN": "often there for other reasons"},
    ],
)
def test_half_of_what_is_needed_is_nothing(environ: dict[str, str]) -> None:
    assert from_environment(environ) == EMBEDDED


def test_the_first_provider_is_the_default_and_the_others_have_their_names() -> None:
    found = from_environment({"GROQ_API_KEY": "k", "ANTHROPIC_API_KEY": "k", "OLLAMA_HOST": ":1"})
    assert list(found.models) == ["default", "fast", "smart", "anthropic", "groq", "ollama"]
    assert found.models["smart"].model == "claude-sonnet-5"
    assert found.models["default"].model == found.models["fast"].model == "claude-haiku-4-5"
    assert shown_url(found.models["ollama"], {"OLLAMA_HOST": ":1"}) == "http://127.0.0.1:1/api"


def test_a_file_counts_for_more_than_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    environ = {"OPENAI_API_KEY": "k"}
    file.write_text('[models.mine]\nprovider = "extractive"\n')
    assert set(read_deployment(file, environ).models) == {"default", "fast", "smart", "mine"}
    assert read_deployment(file, environ).models["fast"].provider == "extractive"
    file.write_text('[stores]\ndata = "kept"\n')
    assert read_deployment(None, {**environ, "ORCHESTRA_CONFIG": str(file)}).models["fast"].model
    with default_bindings(config=file, environ=environ) as bindings:
        assert bindings.stores.path == tmp_path / "kept" / "store.sqlite"
    with default_bindings(tmp_path / "d", config=file, environ=environ) as bindings:
        assert bindings.stores.path == tmp_path / "d" / "store.sqlite"
