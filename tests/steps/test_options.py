"""The keywords of `generate`: the type checker, the compiler and the defaults know the same."""

from __future__ import annotations

import inspect
from typing import get_type_hints

import attrs

from orchestra.graph.policy import Policy
from orchestra.steps.generate import generate
from orchestra.steps.options import Options, Settings

OPTIONS = get_type_hints(Options, include_extras=True)


def test_every_word_has_a_default() -> None:
    assert list(OPTIONS) == [field.name for field in attrs.fields(Settings)]


def test_the_compiler_reads_every_word() -> None:
    for step in (generate.say, generate.fill):
        words = step.signature.parameters
        defaults = {field.name: field.default for field in attrs.fields(Settings)}
        assert {name: words[name].default for name in OPTIONS} == defaults
        assert {step.expects[name] == kind for name, kind in OPTIONS.items()} == {True}
        assert all(words[name].kind is inspect.Parameter.KEYWORD_ONLY for name in OPTIONS)
        assert step.takes_policy
        assert step.injected == "context"
        assert step.names["model"].seam == "model"
    assert generate.say.required == ("asked",)
    assert generate.fill.required == ("asked", "returns")
    assert generate.using(Policy(timeout_s=1)).fill.policy == Policy(timeout_s=1)
