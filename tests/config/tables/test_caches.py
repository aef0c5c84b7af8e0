"""`cache = {...}`: what it is of, and what stands in for what."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from orchestra.config import LocalBindings, default_bindings
from orchestra.config.deployment.deployment import Deployment
from orchestra.config.reading import read
from orchestra.policies.caching.cache import CacheRule, SemanticRule
from orchestra.policies.caching.cached import CachedModel
from orchestra.policies.guard import GuardedModel
from orchestra.providers.known.identities import identity_of, identity_of_embedder
from orchestra.providers.known.settings import ModelSettings
from orchestra.providers.routing import RoutedModel
from tests.config.layers import unlimited
from tests.config.mistakes import FILE, problems

MODELS = """\
[models.gpt]
provider = "openai"
model = "gpt-5.4-mini"
cache = { ttl_s = 60, answer_bytes_max = 1000 }
[models.claude]
provider = "anthropic"
model = "claude-haiku-4-5"
[models.quotes]
provider = "extractive"
[routes.both]
models = ["gpt", "claude"]
cache = {}
"""
KEYS = {"OPENAI_API_KEY": "a", "ANTHROPIC_API_KEY": "b"}


def deployment(text: str = MODELS) -> Deployment:
    return read(text, FILE)


def wrong(text: str) -> list[str]:
    return [str(each) for each in problems(text)]


def test_a_cache_is_read_and_is_off_by_default() -> None:
    found = deployment()
    assert found.models["gpt"].cache == CacheRule(ttl_s=60, answer_bytes_max=1000)
    assert found.models["claude"].cache is None
    assert found.routes["both"].cache == CacheRule()
    assert deployment(MODELS.replace("cache = {}", "")).routes["both"].cache is None


def test_what_has_a_cache_is_behind_it(tmp_path: Path) -> None:
    with LocalBindings(tmp_path, deployment(), KEYS) as bindings:
        gpt, both = bindings.model("gpt"), bindings.model("both")
        assert isinstance(gpt, CachedModel)
        assert isinstance(unlimited(gpt.model), GuardedModel)
        assert isinstance(both, CachedModel)
        assert isinstance(unlimited(both.model), RoutedModel)
        assert isinstance(unlimited(bindings.model("claude")), GuardedModel)
        assert bindings.model("gpt") is gpt
        assert bindings.model("both") is both
        assert list(bindings.states()) == ["gpt", "claude"]
        assert gpt.capabilities == gpt.model.capabilities


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("cache = true", "models.m.cache: true is not a table"),
        ("cache = { ttl_s = 0 }", "models.m.cache.ttl_s: 0 is not a number of seconds"),
        ("cache = { ttl = 9 }", "models.m.cache.ttl: there is no such key"),
        ("cache = { answer_bytes_max = 0.5 }", "models.m.cache.answer_bytes_max: 0.5 is not"),
    ],
)
def test_a_mistake_is_told_with_its_line(line: str, says: str) -> None:
    (problem,) = wrong(f'[models.m]\nprovider = "openai"\nmodel = "gpt-5.4"\n{line}\n')
    assert "orchestra.toml:4" in problem
    assert says in problem


def test_what_is_built_in_has_no_cache() -> None:
    (problem,) = wrong('[models.m]\nprovider = "extractive"\ncache = {}\n')
    assert "built in, and has no options" in problem


@pytest.mark.parametrize(
    "change",
    [
        {"model": "gpt-5.4"},
        {"base_url": "https://other.example/v1"},
        {"provider": "mistral"},
        {"extras": {"service_tier": "flex"}},
        {"headers": {"X-Team": "search"}},
        {"name": "other"},
    ],
)
def test_another_configuration_is_another_model(change: dict[str, object]) -> None:
    found = deployment()
    gpt, both = found.models["gpt"], found.routes["both"]
    other: ModelSettings = attrs.evolve(gpt, **change)  # type: ignore[arg-type]
    assert identity_of(gpt, {}) != identity_of(other, {})
    routed = attrs.evolve(both, models={**both.models, "gpt": other})
    if "name" not in change:
        assert identity_of(routed, {}) != identity_of(both, {})


def test_what_the_environment_says_counts_and_a_limit_does_not() -> None:
    gpt = deployment().models["gpt"]
    there = {"OPENAI_BASE_URL": "https://other.example/v1"}
    assert identity_of(gpt, {}) != identity_of(gpt, there)
    assert identity_of(gpt, {}) == identity_of(attrs.evolve(gpt, cache=None, origin="x"), {})
    assert identity_of(deployment().models["quotes"], {})


def test_a_deployment_without_one_has_none(tmp_path: Path) -> None:
    with default_bindings(tmp_path, environ={}) as bindings:
        assert not isinstance(bindings.model("default"), CachedModel)


SEMANTIC = """\
[models.gpt]
provider = "openai"
model = "gpt-5.4-mini"
cache = { semantic = { threshold = 0.9, entries_max = 7 } }
[models.vectors]
provider = "openai"
model = "text-embedding-3-small"
[embedders.remote]
model = "vectors"
[routes.r]
models = ["gpt"]
cache = { semantic = { embedder = "remote" } }
"""


def test_a_semantic_cache_is_read_and_bound(tmp_path: Path) -> None:
    found = deployment(SEMANTIC)
    assert found.models["gpt"].cache == CacheRule(
        semantic=SemanticRule(threshold=0.9, entries_max=7)
    )
    routed = found.routes["r"].cache
    assert routed is not None
    assert routed.semantic == SemanticRule(embedder="remote")
    local, remote = found.embedders["default"], found.embedders["remote"]
    assert identity_of_embedder(local, {}) != identity_of_embedder(remote, {})
    with LocalBindings(tmp_path, found, KEYS) as bindings:
        for name in ("gpt", "r"):
            similar = bindings.model(name)._answers._similar  # type: ignore[attr-defined]
            assert similar._embedder() is bindings.embedder(
                "default" if name == "gpt" else "remote"
            )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"remote" }', '"remot" }', 'there is no embedder "remot"'),
        ("threshold = 0.9", "threshold = 1.5", "1.5 is not a share"),
        ("entries_max = 7", "entries_max = 1001", "1001 is not a whole number from 1 to 1000"),
        (
            'model = "text-embedding-3-small"',
            'model = "text-embedding-3-small"\ncache = { semantic = {} }',
            "models.vectors.cache.semantic: it makes vectors",
        ),
        (
            'model = "vectors"',
            'provider = "ollama"\nmodel = "all-minilm"\ncache = { semantic = {} }',
            "embedders.remote.cache.semantic: it makes vectors",
        ),
        (
            'models = ["gpt"]',
            'models = ["vectors"]',
            "routes.r.cache.semantic: it makes vectors",
        ),
    ],
)
def test_what_no_semantic_cache_can_be_is_told(old: str, new: str, says: str) -> None:
    (problem,) = wrong(SEMANTIC.replace(old, new))
    assert says in problem
