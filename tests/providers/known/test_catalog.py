"""Every row of the catalog makes an endpoint, and no key is to be seen in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.codecs.openai.quirks import PRESETS
from orchestra.codecs.openai.request import DIALECT
from orchestra.config.deployment.environment import from_environment
from orchestra.errors import BindingError, CapabilityError
from orchestra.policies.requests import extras
from orchestra.protocols import HttpRequest
from orchestra.providers.credentials import FileKey, NoCredentials, read_key
from orchestra.providers.endpoints import endpoint
from orchestra.providers.known import urls
from orchestra.providers.known.addresses import capabilities, place_of, shown_url
from orchestra.providers.known.catalog import PROVIDERS
from orchestra.providers.known.facts import known
from orchestra.providers.known.keys import AWS_BEARER, AWS_ID, AWS_SECRET, AWS_SESSION, key_state
from orchestra.providers.known.provider import AwsScheme, HeaderScheme, Provider
from orchestra.providers.known.settings import ModelSettings
from orchestra.secret import SECRET_BYTES_MAX
from orchestra.values import Capabilities, ChatRequest, EmbedRequest, FilePart, Message

SECRET = "sk-proj-Zq3x9Lw7Tb2Vn8Rk5Yd1Hc6M"
ASKED = ChatRequest((Message("user", "hi"),))
REMOTE = [row for row in PROVIDERS.values() if row.remote]
URL = "https://host.example/v1"

BASES = {
    "openai": "https://api.openai.com/v1/chat/completions",
    "anthropic": "https://api.anthropic.com/v1/messages",
    "gemini": "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent",
    "azure": "https://word.openai.azure.com/openai/deployments/word/chat/completions?api-version=word",
    "bedrock": "https://bedrock-runtime.word.amazonaws.com/model/m/converse",
    "vertex": "https://word-aiplatform.googleapis.com/v1/projects/word/locations/word/publishers/google/models/m:generateContent",
    "cohere": "https://api.cohere.com/v2/chat",
    "ollama": "http://localhost:11434/api/chat",
    "groq": "https://api.groq.com/openai/v1/chat/completions",
    "perplexity": "https://api.perplexity.ai/chat/completions",
}


def environ(provider: Provider) -> dict[str, str]:
    """An environment with the provider's key in it."""
    if isinstance(provider.scheme, AwsScheme):
        return {AWS_ID: "AKIA", AWS_SECRET: SECRET}
    assert isinstance(provider.scheme, HeaderScheme)
    return dict.fromkeys(provider.scheme.env[:1], SECRET)


def settings(provider: Provider) -> ModelSettings:
    options = {option.name: "word" for option in provider.options if option.name != "key_header"}
    if provider.name == "gemini":
        options = {}
    if provider.name == "bedrock-invoke":
        options["family"] = "anthropic.claude"
    base_url = URL if provider.base_url is None else None
    return ModelSettings(
        name="x",
        provider=provider.name,
        model="m",
        options=options,
        base_url=base_url,
        origin="o:1",
    )


@pytest.mark.parametrize("provider", REMOTE, ids=lambda row: row.name)
def test_every_row_makes_an_endpoint_that_can_be_asked(provider: Provider) -> None:
    made = endpoint(settings(provider), environ(provider))
    call = made.dialect.ask("m", ASKED, stream=False)
    request = made.credentials.sign(made.request(call, streamed=False), 0.0)
    assert urlsplit(request.url).scheme in ("http", "https")
    assert "//" not in urlsplit(request.url).path
    if provider.name in BASES:
        assert request.url == BASES[provider.name]
    if environ(provider):
        sent = dict(request.headers)
        assert SECRET in str(sent) or "AWS4-HMAC-SHA256" in sent["authorization"]
    for each in (made, made.credentials, request, settings(provider)):
        assert SECRET not in f"{each} {each!r}"


@pytest.mark.parametrize("provider", REMOTE, ids=lambda row: row.name)
def test_a_missing_key_is_told_with_where_it_would_be(provider: Provider) -> None:
    state = key_state(settings(provider), {})
    assert not state.present
    if not state.needed:
        assert isinstance(endpoint(settings(provider), {}).credentials, NoCredentials)
        return
    with pytest.raises(BindingError) as caught:
        endpoint(settings(provider), {})
    assert "model 'x' (o:1) has no key: set " in str(caught.value)
    assert state.source in str(caught.value)


@pytest.mark.parametrize("provider", REMOTE, ids=lambda row: row.name)
def test_a_row_is_whole(provider: Provider) -> None:
    assert provider.about
    assert provider.extras
    assert "model" in provider.seams
    names = [option.name for option in provider.options]
    assert len(names) == len(set(names))
    for suggested in provider.suggested or ():
        assert known(suggested).capabilities.embeddings is not True


OPENAI_LIKE = [row for row in REMOTE if row.name in PRESETS and row.name != "ollama"]
"""Ollama has a dialect of its own; the quirks are those of its other API."""


@pytest.mark.parametrize("provider", OPENAI_LIKE, ids=lambda row: row.name)
def test_a_row_and_the_quirks_of_the_same_name_agree(provider: Provider) -> None:
    quirks = PRESETS[provider.name]
    assert quirks.embeddings is ("embedder" in provider.seams)
    assert quirks.files is provider.files
    assert quirks.reranking is provider.reranks


@pytest.mark.parametrize(
    "provider", [row for row in REMOTE if row.options], ids=lambda row: row.name
)
def test_an_option_that_is_missing_is_told(provider: Provider) -> None:
    bare = attrs.evolve(settings(provider), options={})
    needed = [o.name for o in provider.options if o.needed and o.default is None]
    if provider.name == "azure":
        needed = ["resource"]
    if not needed:
        endpoint(bare, environ(provider))
        return
    with pytest.raises(BindingError) as caught:
        endpoint(bare, environ(provider))
    assert needed[0] in str(caught.value)
    assert shown_url(bare, {}) == "?" or provider.name == "azure"


@pytest.mark.parametrize(
    ("provider", "base_url", "place"),
    [
        ("openai", None, ("api.openai.com", 443)),
        ("openai", "https://ada:secret@models.test:8443/v1", ("models.test", 8443)),
        ("ollama", "http://gpu/v1", ("gpu", 80)),
        ("ollama", "http://[::1]:11434", ("::1", 11434)),
        ("azure", None, ("", 0)),
        ("extractive", None, ("", 0)),
    ],
)
def test_traces_tell_the_host_and_port_that_a_model_is_asked_at(
    provider: str, base_url: str | None, place: tuple[str, int]
) -> None:
    model = ModelSettings(name="x", provider=provider, model="m", base_url=base_url)
    assert place_of(model, {}) == place


def test_an_option_may_come_from_the_environment() -> None:
    bare = ModelSettings(name="x", provider="bedrock", model="m")
    keys = environ(PROVIDERS["bedrock"])
    made = endpoint(bare, {**keys, "AWS_DEFAULT_REGION": "eu-west-1"})
    assert made.base_url == "https://bedrock-runtime.eu-west-1.amazonaws.com"
    made = endpoint(attrs.evolve(bare, options={"region": "r"}), {**keys, "AWS_REGION": "other"})
    assert made.base_url == "https://bedrock-runtime.r.amazonaws.com"


def test_aws_keys_sign_and_a_bedrock_key_is_a_bearer_token() -> None:
    bedrock = ModelSettings(name="x", provider="bedrock", model="m", options={"region": "r"})
    request = HttpRequest("https://h/model/m/converse", b"{}")

    def sent(environ: Mapping[str, str], model: ModelSettings = bedrock) -> dict[str, str]:
        credentials = endpoint(model, environ).credentials
        assert SECRET not in credentials.redact(f"{SECRET} was refused")
        return {name.lower(): value for name, value in credentials.sign(request, 0.0).headers}

    keys = {AWS_ID: "AKIA\r", AWS_SECRET: f"{SECRET}\n", AWS_SESSION: " session"}  # of a file
    assert sent(keys)["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIA/19700101/r/")
    assert sent(keys)["x-amz-security-token"] == "session"
    assert sent({**keys, AWS_BEARER: SECRET})["authorization"] == f"Bearer {SECRET}"
    own = attrs.evolve(bedrock, key_env="MINE")
    assert sent({**keys, "MINE": SECRET}, own)["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("provider", "options", "header", "value"),
    [
        ("openai", {}, "authorization", f"Bearer {SECRET}"),
        ("anthropic", {}, "x-api-key", SECRET),
        ("gemini", {}, "x-goog-api-key", SECRET),
        ("azure", {"resource": "r"}, "api-key", SECRET),
        (
            "azure",
            {"resource": "r", "key_header": "Authorization"},
            "authorization",
            f"Bearer {SECRET}",
        ),
        ("openai-compatible", {"key_header": "X-Api-Key"}, "x-api-key", SECRET),
    ],
)
def test_a_key_stands_in_the_header_of_its_provider(
    provider: str, options: dict[str, str], header: str, value: str
) -> None:
    model = ModelSettings(
        name="x", provider=provider, model="m", options=options, key_env="MINE", base_url=URL
    )
    signed = endpoint(model, {"MINE": f" {SECRET}\n"}).credentials.sign(HttpRequest(URL), 0.0)
    assert dict(signed.headers)[header] == value


def test_a_key_in_a_file_is_read_anew_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("first\r\n", encoding="utf-8-sig")  # as an editor on Windows saves it
    model = ModelSettings(name="x", provider="openai", model="m", key_file=file)
    credentials = endpoint(model, {"OPENAI_API_KEY": "not this one"}).credentials

    def sent() -> str:
        return dict(credentials.sign(HttpRequest(URL), 0.0).headers)["authorization"]

    assert sent() == "Bearer first"
    replace(file, "second")
    assert sent() == "Bearer second"
    assert credentials.redact("first second") == "[redacted] [redacted]"
    replace(file, "third")
    assert sent() == "Bearer third"
    assert credentials.redact("first second third") == "first [redacted] [redacted]"
    replace(file, "")
    assert sent() == "Bearer third"
    file.unlink()
    assert sent() == "Bearer third"
    assert "third" not in repr(credentials)


def replace(file: Path, text: str) -> None:
    """Write it anew, with another time: those of two writes may be the same."""
    import os

    before = file.stat().st_mtime_ns
    file.write_text(text)
    os.utime(file, ns=(before + 10**9, before + 10**9))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, "cannot be read: No such file"),
        (b" \n", "is empty"),
        (b"one\ntwo", "does not hold a valid key"),
        ("schlüssel".encode(), "does not hold a valid key"),
        (b"k" * (SECRET_BYTES_MAX + 1), "it must hold one key"),
    ],
)
def test_a_key_file_that_is_wrong_is_told_and_not_shown(
    tmp_path: Path, data: bytes | None, says: str
) -> None:
    file = tmp_path / "key"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(BindingError) as caught:
        read_key(file)
    assert says in str(caught.value)
    assert str(file) in str(caught.value)
    assert "two" not in str(caught.value)
    with pytest.raises(BindingError):
        FileKey(file, "x")


def test_a_key_file_that_is_not_there_is_told() -> None:
    model = ModelSettings(name="x", provider="openai", model="m", key_file=Path("/nowhere/key"))
    with pytest.raises(BindingError, match="file /nowhere/key does not exist"):
        endpoint(model, {"OPENAI_API_KEY": "k"})


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("gpu", "http://gpu:11434/api"),
        ("gpu:99", "http://gpu:99/api"),
        (":99", "http://127.0.0.1:99/api"),
        ("0.0.0.0", "http://127.0.0.1:11434/api"),
        ("http://gpu", "http://gpu:80/api"),
        ("https://gpu/below/", "https://gpu:443/below/api"),
        ("http://[::1]:99", "http://[::1]:99/api"),
    ],
)
def test_ollama_is_found_where_ollama_would_be(value: str, url: str) -> None:
    model = ModelSettings(name="x", provider="ollama", model="m")
    assert endpoint(model, {"OLLAMA_HOST": value}).base_url == url


@pytest.mark.parametrize(
    ("provider", "name", "value"),
    [
        ("ollama", "OLLAMA_HOST", "gpu:port"),
        ("openai", "OPENAI_BASE_URL", "foo"),
        ("openai", "OPENAI_BASE_URL", "ftp://foo/v1"),
        ("anthropic", "ANTHROPIC_BASE_URL", "http://"),
    ],
)
def test_a_wrong_address_in_the_environment_is_told(provider: str, name: str, value: str) -> None:
    """By the model that would be asked there, and which is none of another provider's instead."""
    model = ModelSettings(name="x", provider=provider, model="m")
    environ = {name: value, "OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}
    with pytest.raises(BindingError, match=f"{name} is not a valid address of {provider}"):
        endpoint(model, environ)
    assert shown_url(model, environ) == "?"
    assert provider in {each.provider for each in from_environment(environ).models.values()}


@pytest.mark.parametrize(
    ("value", "options", "url"),
    [
        ("https://r.openai.azure.com/", {}, "https://r.openai.azure.com/openai/v1"),
        ("https://r.openai.azure.com/openai/v1/", {}, "https://r.openai.azure.com/openai/v1"),
        ("https://r.openai.azure.com", {"api_version": "v"}, "https://r.openai.azure.com/openai"),
    ],
)
def test_azures_endpoint_is_read_as_azure_shows_it(
    value: str, options: dict[str, str], url: str
) -> None:
    assert urls.azure_endpoint(value, options) == url


def test_the_base_url_of_a_providers_own_client_counts() -> None:
    anthropic = ModelSettings(name="x", provider="anthropic", model="m")
    told = {"ANTHROPIC_BASE_URL": "http://proxy", "ANTHROPIC_API_KEY": "k"}
    assert endpoint(anthropic, told).base_url == "http://proxy/v1"
    assert endpoint(attrs.evolve(anthropic, base_url=URL), told).base_url == URL


@given(st.from_regex(r"https?://[a-z]+:[a-z]+@host(:9)?/p\?key=[a-z]+", fullmatch=True))
@example("https://name:password@host/p?key=secret")
def test_an_address_is_shown_without_what_is_private(url: str) -> None:
    assert "@" not in urls.shown(url)
    assert "?" not in urls.shown(url)
    assert urls.shown(url).startswith(("http://host", "https://host"))


def test_extras_go_into_every_request_and_its_own_count_for_more() -> None:
    model = ModelSettings(
        name="x", provider="openai", model="m", extras={"service_tier": "flex", "user": "me"}
    )
    made = endpoint(model, {"OPENAI_API_KEY": "k"})
    own = attrs.evolve(ASKED, extras={"openai": {"user": "you"}, "groq": {"x": 1}})
    body = made.asked(own, stream=True).body
    assert b'"service_tier":"flex"' in body
    assert b'"user":"you"' in body
    assert b'"x"' not in body
    embed = made.asked(EmbedRequest(("t",)))
    assert b'"user":"me"' in embed.body


EXTRAS_OF_OTHERS = {"vertex": "gemini", "bedrock-invoke": "bedrock"}
"""Providers whose extras have the name of another one with the same API."""


@pytest.mark.parametrize("provider", REMOTE, ids=lambda row: row.name)
def test_the_extras_of_a_provider_are_found_under_its_name(provider: Provider) -> None:
    name = EXTRAS_OF_OTHERS.get(provider.name, provider.name)
    assert provider.extras == name
    made = endpoint(settings(provider), environ(provider))
    asked = attrs.evolve(ASKED, extras={name: {"extra": "sent"}})
    assert b'"extra":"sent"' in made.dialect.ask("m", asked, stream=False).body


def test_all_keys_of_extras_are_known_where_they_are_checked() -> None:
    """A request with any other key that is near one of them is refused."""
    of_providers = {provider.extras for provider in REMOTE}
    known = {*of_providers, extras.EXTRAS, DIALECT}
    assert known == extras.KEYS, f"KEYS of policies/requests/extras.py: {known ^ extras.KEYS}"
    assert extras.PROVIDERS_OF_OTHER_KEYS == EXTRAS_OF_OTHERS


def test_a_provider_is_told_to_keep_what_it_has_read_where_the_deployment_says_so() -> None:
    for prompt_cache in (True, False):
        model = ModelSettings(
            name="x", provider="anthropic", model="claude-sonnet-5", prompt_cache=prompt_cache
        )
        made = endpoint(model, {"ANTHROPIC_API_KEY": "k"})
        assert (b"cache_control" in made.asked(ASKED, stream=True).body) == prompt_cache


def test_what_a_deployment_says_of_a_model_counts_for_more_than_what_is_known() -> None:
    model = ModelSettings(
        name="x",
        provider="azure",
        model="gpt-5.4-mini",
        capabilities=Capabilities(context_tokens=5, vision=False),
    )
    found = capabilities(model)
    assert (found.context_tokens, found.vision) == (5, False)
    assert found.tools is True
    assert found.output_tokens_max == known("gpt-5.4-mini").capabilities.output_tokens_max


@pytest.mark.parametrize(
    ("model", "context", "vision", "dimensions"),
    [
        ("gpt-5.4-mini-2026-03-17", 400_000, True, None),
        ("gpt-5.4", 1_050_000, True, None),
        ("gpt-5", 400_000, True, None),
        ("openai/gpt-oss-120b", 131_072, False, None),
        ("o3-mini", 200_000, False, None),
        ("claude-sonnet-4-5-20250929", 200_000, True, None),
        ("global.anthropic.claude-sonnet-4-6", 1_000_000, True, None),
        ("models/gemini-2.5-flash", 1_048_576, True, None),
        ("text-embedding-3-small", 8_191, False, 1_536),
        ("amazon.titan-embed-text-v2:0", 8_192, False, 1_024),
        ("pplx-embed-v1-0.6b", 32_000, False, 1_024),
        ("cohere.embed-v4:0", 128_000, False, 1_536),
        ("nomic-embed-text:latest", 8_192, False, 768),
        ("accounts/fireworks/models/kimi-k2p6", 262_144, True, None),
        ("a-model-of-ours", None, None, None),
    ],
)
def test_common_models_are_known_by_their_names(
    model: str, context: int | None, vision: bool | None, dimensions: int | None
) -> None:
    found = known(model)
    assert found.capabilities.context_tokens == context
    assert found.capabilities.vision is vision
    assert found.dimensions == dimensions
    assert found.capabilities.embeddings is (None if context is None else dimensions is not None)


@pytest.mark.parametrize(
    ("model", "reads"),
    [
        ("gpt-5.4", True),
        ("claude-sonnet-4-5-20250929", True),
        ("models/gemini-2.5-flash", True),
        ("us.amazon.nova-lite-v1:0", True),
        ("gpt-3.5-turbo", False),
        ("amazon.titan-text-express-v1", False),
        ("text-embedding-3-small", False),
        ("command-a", None),
        ("mistral-large-latest", None),
        ("a-model-of-ours", None),
    ],
)
def test_who_reads_pdfs_is_known_where_its_provider_says_so(model: str, reads: bool | None) -> None:
    assert known(model).capabilities.files is reads


@pytest.mark.parametrize("provider", REMOTE, ids=lambda row: row.name)
def test_no_model_reads_pdfs_where_none_can_be_sent(provider: Provider) -> None:
    """Whatever is known of its name: it may stand in front of another server."""
    named = settings(provider)
    options = {name: told for name, told in named.options.items() if name != "family"}
    claude = attrs.evolve(named, model="anthropic.claude-sonnet-4-6", options=options)
    paper = ChatRequest((Message("user", (FilePart(b"%PDF-"),)),))
    dialect = endpoint(claude, environ(provider)).dialect
    if capabilities(claude).files:
        dialect.ask(claude.model, paper, stream=False)
    else:
        with pytest.raises(CapabilityError, match="cannot be sent to"):
            dialect.ask(claude.model, paper, stream=False)
    insisting = attrs.evolve(claude, capabilities=Capabilities(files=True))
    assert capabilities(insisting).files is True


def test_what_runs_here_has_no_endpoint() -> None:
    with pytest.raises(BindingError, match="has no endpoint"):
        endpoint(ModelSettings(name="x", provider="extractive"), {})


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("claude-3-haiku-20240307", 4_096),
        ("claude-sonnet-4-5", 32_000),
        ("claude-unheard-of", 4_096),
    ],
)
def test_a_claude_may_say_as_much_as_it_can(model: str, tokens: int) -> None:
    """It has to be asked for a number; one too small would cut answers that nobody bounded."""
    named = ModelSettings(name="x", provider="anthropic", model=model)
    call = endpoint(named, {"ANTHROPIC_API_KEY": SECRET}).dialect.ask(model, ASKED, stream=True)
    assert msgspec.json.decode(call.body)["max_tokens"] == tokens


@pytest.mark.parametrize(
    ("model", "reranks"),
    [
        ("rerank-v4.0-pro", True),
        ("rerank-2.5-lite", True),
        ("BAAI/bge-reranker-v2-m3", True),
        ("Alibaba-NLP/gte-reranker-modernbert-base", True),
        ("nvidia/llama-3.2-nv-rerankqa-1b-v2", True),
        ("Qwen/Qwen3-Reranker-8B", True),
        ("cross-encoder/ms-marco-MiniLM-L6-v2", True),
        ("Salesforce/Llama-Rank-V1", True),
        ("zeroentropy/zerank-2", True),
        ("us.cohere.rerank-v3-5:0", True),
        ("amazon.rerank-v1:0", False),  # its format is another one
        ("meta-llama/Llama-3.2-3B", False),
        ("our-own", None),
    ],
)
def test_a_rerank_model_is_known_by_its_name(model: str, reranks: bool | None) -> None:
    """So that it is pinged as one, and a step that cannot use it is reported before it runs."""
    assert known(model).capabilities.reranking is reranks
    if reranks is not None:
        assert known(model).capabilities.embeddings is False
