"""What is looked through for items that failed, and what need not be."""

from __future__ import annotations

import gc
import re
import sys
from itertools import chain
from weakref import WeakSet

import attrs

from orchestra import accounts, answers, documents, logprobs, values
from orchestra.answers import Completion
from orchestra.server.front.fit_values import fit_value
from orchestra.steps import relay
from orchestra.steps.relay import Said
from orchestra.values import Stopped, StopReason, TextDelta, TextPart


def fit(error: str, message: str) -> str:
    return f"{error} {message}"


def calls(value: object) -> int:
    """How many functions are called for a value."""
    found = 0

    def look(_frame: object, event: str, _argument: object) -> None:
        nonlocal found
        found += event == "call"

    sys.setprofile(look)
    try:
        fit_value(value, fit)
    finally:
        sys.setprofile(None)
    return found


def test_what_models_say_is_not_looked_through() -> None:
    """A stream of thousands of tokens is kept when it has ended, and nobody waits for that."""
    said = [Said(0, (TextDelta("a"),))] * 1_000
    answer = Completion((TextPart("a"),) * 1_000, Stopped(StopReason.END))
    for value in ([*said], said[0], [answer], [0.5] * 1_000, [*"ab", None, b"c"] * 1_000):
        calls(value)  # what is known of a type is looked up once
        assert calls(value) < 10


def test_no_value_of_ours_holds_what_a_step_gives() -> None:
    """Or else it would have to be looked through, as those of users are."""
    modules = (accounts, answers, documents, logprobs, relay, values)
    kinds = chain.from_iterable(vars(module).values() for module in modules)
    ours = [kind for kind in kinds if isinstance(kind, type) and attrs.has(kind)]
    assert {Completion, Said, TextDelta} <= {*ours}
    for kind in ours:
        for member in attrs.fields(kind):
            assert not re.search(r"\b(Any|object|Failed)\b", str(member.type)), (kind, member.name)


def test_of_classes_that_are_made_in_each_run_few_are_remembered() -> None:
    kept = WeakSet[type]()

    def run() -> None:
        made = attrs.make_class("Made", ["a"])
        kept.add(made)
        fit_value([made(1)], fit)

    for _ in range(2_000):
        run()
    gc.collect()
    assert len(kept) <= 1_100  # attrs and Python keep a few themselves
