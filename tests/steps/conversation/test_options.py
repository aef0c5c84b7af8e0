"""The keywords of `generate`: the type checker, the compiler and the defaults know the same."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import get_type_hints

import attrs

from orchestra.graph.rules.policy import Policy
from orchestra.steps.conversation.options import GenerateSettings, Options
from orchestra.steps.generate import generate
from orchestra.values import ChatRequest, Message

OPTIONS = get_type_hints(Options, include_extras=True)


def test_every_word_has_a_default() -> None:
    assert list(OPTIONS) == [field.name for field in attrs.fields(GenerateSettings)]


def test_what_is_set_goes_before_what_a_request_says() -> None:
    """Of the fields for providers' bodies, each provider's by itself."""
    said = ChatRequest(
        (Message("user", "why?"),),
        temperature=0.1,
        seed=1,
        extras={"openai": {"user": "said"}, "ollama": {"think": False}},
    )
    settings = GenerateSettings(
        temperature=0.9, extras={"openai": {"user": "set"}, "cohere": {"k": 1}}
    )
    request = settings.request(said)
    assert (request.temperature, request.seed) == (0.9, 1)
    assert request.extras == {
        "openai": {"user": "set"},
        "ollama": {"think": False},
        "cohere": {"k": 1},
    }


def test_the_defaults_are_those_of_the_page() -> None:
    page = (Path(__file__).parents[3] / "docs/language.md").read_text("utf-8")
    table = page.partition("| `tool_rounds_max=")
    told = re.findall(r"`(\w+)=(\w+)`", table[1] + table[2].partition("\n")[0])
    assert [name for name, _ in told] == ["tool_rounds_max", "tools_at_once", "tool_timeout_s"]
    assert told == [(name, repr(getattr(GenerateSettings(), name))) for name, _ in told]


def test_the_compiler_reads_every_word() -> None:
    for step in (generate.say, generate.fill):
        words = step.signature.parameters
        defaults = {field.name: field.default for field in attrs.fields(GenerateSettings)}
        assert {name: words[name].default for name in OPTIONS} == defaults
        assert {step.expects[name] == kind for name, kind in OPTIONS.items()} == {True}
        assert all(words[name].kind is inspect.Parameter.KEYWORD_ONLY for name in OPTIONS)
        assert step.takes_policy
        assert step.injected == "context"
        assert step.names["model"].seam == "model"
    assert generate.say.required == ("asked",)
    assert generate.fill.required == ("asked", "returns")
    assert generate.using(Policy(timeout_s=1)).fill.policy == Policy(timeout_s=1)
