"""The key `coalesce`: what is right is bound, and what is wrong told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.config import LocalBindings
from orchestra.config.reading import read
from orchestra.errors import ConfigError
from orchestra.policies.flights.coalesce import CoalesceRule
from orchestra.policies.flights.coalesced import CoalescedModel
from orchestra.policies.guard import GuardedModel
from orchestra.providers.routing import RoutedModel
from tests.config.layers import unlimited
from tests.config.mistakes import FILE, problem

MODEL = """\
[models.a]
provider = "openai"
model = "gpt-5.4-mini"
"""
ROUTE = f"""\
{MODEL}[routes.r]
models = ["a"]
"""
ENVIRON = {"OPENAI_API_KEY": "sk-x"}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("", None),
        ("coalesce = false", None),
        ("coalesce = true", CoalesceRule()),
        ("coalesce = {}", CoalesceRule()),
        ("coalesce = { normalize = true }", CoalesceRule(normalize=True)),
        ("coalesce.similarity = 0.9", CoalesceRule(similarity=0.9)),
        (
            "coalesce = { similarity = 0.9, paraphrases = true }",
            CoalesceRule(similarity=0.9, paraphrases=True),
        ),
        (
            'coalesce = { similarity = 1, embedder = "mine" }\n[embedders.mine]\n'
            'provider = "wordllama"',
            CoalesceRule(similarity=1.0, embedder="mine"),
        ),
    ],
)
def test_what_is_right_is_kept_and_bound(
    tmp_path: Path, written: str, meant: CoalesceRule | None
) -> None:
    of_model, of_route = read(MODEL + written, FILE), read(ROUTE + written, FILE)
    assert of_model.models["a"].coalesce == meant
    assert of_route.routes["r"].coalesce == meant
    assert of_route.models["a"].coalesce is None
    for found, name, kind in ((of_model, "a", GuardedModel), (of_route, "r", RoutedModel)):
        with LocalBindings(tmp_path, found, ENVIRON) as bindings:
            model = bindings.model(name)
            assert bindings.model(name) is model
            if meant is None:
                assert isinstance(unlimited(model), kind)
            else:
                assert isinstance(model, CoalescedModel)
                assert isinstance(unlimited(model.model), kind)
                assert model.name == name
                assert model.rule.similarity == meant.similarity
                assert model.rule.paraphrases == meant.paraphrases
                assert model.rule.normalize == meant.normalize
            assert list(bindings.states()) == ["a"]


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("coalesce = 1", "coalesce: 1 is not true, false, or a table"),
        ("coalesce = { normalise = true }", "did you mean 'normalize'?"),
        ("coalesce = { similarity = 1.5 }", "coalesce.similarity: 1.5 is not a share"),
        ('coalesce = { embedder = "default" }', "nothing to compare without similarity"),
        (
            'coalesce = { similarity = 0.9, embedder = "defualt" }',
            "did you mean 'default'?",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(written: str, says: str) -> None:
    for before in (MODEL, ROUTE):
        told = problem(before + written)
        assert told.where == f"{FILE}:{before.count(chr(10)) + 1}"
        assert says in str(told)


def test_a_built_in_model_has_nothing_to_share() -> None:
    with pytest.raises(ConfigError, match="is built in, and has no options"):
        read('[models.a]\nprovider = "extractive"\ncoalesce = true', FILE)
