"""What is looked through for items that failed, and what need not be."""

from __future__ import annotations

import dataclasses
import gc
import re
import sys
import tracemalloc
from collections import ChainMap, OrderedDict, UserDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple
from weakref import WeakSet

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra import accounts, answers, documents, logprobs, values
from orchestra.answers import Completion
from orchestra.event_lines import written
from orchestra.failed import Failed
from orchestra.server.responses.fit_values import DEPTH_MAX, fit_value
from orchestra.steps import relay
from orchestra.steps.relay import ChoiceEvents
from orchestra.values import Stopped, StopReason, TextDelta, TextPart

SECRET = "sk-123 in the cupboard"
FAILED = Failed(0, "a", "KeyError", SECRET, "each/read")


class Row(NamedTuple):
    part: object


class Rows(list[object]):
    pass


class Record(msgspec.Struct):
    part: object


class FrozenRecord(msgspec.Struct, frozen=True, tag="r", rename="upper"):
    part: object


@attrs.frozen
class Made:
    part: object


@dataclasses.dataclass(frozen=True, slots=True)
class Data:
    part: object


HOLDERS: tuple[Any, ...] = (
    *(Row, Record, FrozenRecord, Made, Data),
    lambda part: [1, part],
    lambda part: (part, "a"),
    lambda part: Rows([part]),
    lambda part: {"a": part, "b": 1},
    lambda part: OrderedDict(a=part),
    lambda part: defaultdict(list, a=part),
    lambda part: UserDict(a=part),
    lambda part: ChainMap({"a": part}),
    lambda part: MappingProxyType({"a": part}),
)
"""Of each kind of value that is written as what it holds, how one is made that holds a part."""


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
    said = [ChoiceEvents(0, (TextDelta("a"),))] * 1_000
    answer = Completion((TextPart("a"),) * 1_000, Stopped(StopReason.END))
    for value in ([*said], said[0], [answer], [0.5] * 1_000, [*"ab", None, b"c"] * 1_000):
        calls(value)  # what is known of a type is looked up once
        assert calls(value) < 10


def test_no_value_of_ours_holds_what_a_step_gives() -> None:
    """Or else it would have to be looked through, as those of users are."""
    modules = (accounts, answers, documents, logprobs, relay, values)
    kinds = chain.from_iterable(vars(module).values() for module in modules)
    ours = [kind for kind in kinds if isinstance(kind, type) and attrs.has(kind)]
    assert {Completion, ChoiceEvents, TextDelta} <= {*ours}
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


def withhold(_error: str, _message: str) -> str:
    return "withheld"


@given(st.lists(st.sampled_from(HOLDERS), max_size=5), st.sampled_from([list, set, frozenset]))
def test_whatever_holds_it_an_item_that_failed_tells_no_secret(
    holders: list[Any], innermost: Any
) -> None:
    """And of what is told, nothing else is another: neither its form nor its order."""
    value, told = innermost([FAILED]), innermost([attrs.evolve(FAILED, message="withheld")])
    for holder in holders:
        value, told = holder(value), holder(told)
    fitted = fit_value(value, withhold)
    assert written(fitted) == written(told)
    assert SECRET.encode() in written(value), "it is left as it was"


def test_what_is_written_by_its_repr_tells_no_secret() -> None:
    fitted = fit_value(deque([1, [FAILED]], 2), withhold)
    assert b"withheld" in written(fitted)
    assert SECRET.encode() not in written(fitted)


@pytest.mark.parametrize("depth", [0, 1, DEPTH_MAX])
@pytest.mark.parametrize("wraps", [lambda part: [part], lambda part: {"a": part}])
def test_it_is_found_as_deep_as_is_looked(depth: int, wraps: Callable[[object], object]) -> None:
    value: object = FAILED
    for _ in range(depth):
        value = wraps(value)
    assert SECRET.encode() in written(value)
    assert SECRET.encode() not in written(fit_value(value, lambda _, __: ""))


def test_a_long_result_without_one_is_not_looked_through_one_by_one() -> None:
    """Each call of Python takes as long as a hundred numbers in C."""
    value = [{"a": number, "b": [number]} for number in range(10_000)]
    calls = 0

    def called(frame: object, event: str, arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        assert fit_value(value, lambda _, __: "") is value
    finally:
        sys.setprofile(before)
    assert calls < 1_000


def test_what_holds_the_same_list_again_and_again_is_looked_at_once() -> None:
    """Also one that holds itself twice, which would be looked at 2**32 times."""
    value: list[object] = []
    for _ in range(16):
        value = [value, {"a": value}]
    tracemalloc.start()
    assert fit_value(value, lambda error, message: "failed") is value
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 100_000


def test_what_holds_none_is_given_back_as_it_is() -> None:
    for holder in HOLDERS:
        value = holder("a")
        assert fit_value(value, withhold) is value


def test_a_mapping_that_cannot_be_read_ends_nobody() -> None:
    class Broken(Mapping[str, object]):
        def __getitem__(self, key: str) -> object:
            raise OSError(key)

        def __iter__(self) -> Iterator[str]:
            return iter("a")

        def __len__(self) -> int:
            return 1

    value = Broken()
    assert fit_value(value, withhold) is value
    assert b"cannot be written" in written(value)
