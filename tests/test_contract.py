"""The values, events and errors that everything else stands on."""

from __future__ import annotations

import json
import re
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra import errors
from orchestra.accounts import Certainty, Usage
from orchestra.event_lines import encode
from orchestra.events import Delta, RunFinished
from orchestra.messages import describe
from orchestra.values import Label, Vector

floats = st.lists(st.floats(width=32, allow_nan=False))
usages = st.builds(Usage, st.integers(0, 9), st.integers(0, 9), st.sampled_from(Certainty))


@given(floats)
def test_a_vector_keeps_its_numbers(numbers: list[float]) -> None:
    """As float32, exactly."""
    vector = Vector.of(numbers)
    assert list(vector) == numbers
    assert len(vector) == len(numbers)


@given(usages, usages, usages)
def test_usage_adds_up_in_any_order_and_is_never_made_more_certain(
    one: Usage, two: Usage, three: Usage
) -> None:
    """A sum is as certain as its least certain part."""
    assert one + two == two + one
    assert (one + two) + three == one + (two + three)
    assert Certainty.ESTIMATED not in (one.certainty, two.certainty) or (
        (one + two).certainty is Certainty.ESTIMATED
    )


@given(st.text(st.characters(exclude_categories=()), max_size=20))
def test_any_text_can_be_encoded_even_half_a_character(text: str) -> None:
    """A model's chunk may end in the middle of a surrogate pair; one line of JSON says so."""
    line = encode(Delta(1, 0.5, text))
    assert b"\n" not in line
    assert json.loads(line)["chunk"] == text


def test_a_lone_surrogate_is_written_as_its_escape() -> None:
    assert rb"\ud83d" in encode(Delta(1, 0.0, "\ud83d"))


def test_what_json_does_not_know_is_still_told() -> None:
    """A mapping of any kind is an object, anything else its repr."""
    label = Label("a", 0.5, MappingProxyType({"a": 0.5}))
    told = json.loads(encode(RunFinished(1, 0.0, [label, 1j], {})))
    assert told["result"] == [{"name": "a", "confidence": 0.5, "scores": {"a": 0.5}}, "1j"]


def test_a_label_reads_as_its_name() -> None:
    assert f"{Label('policy', 0.9)} question" == "policy question"


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    """Name and depth of every line in the drawing are those of the classes."""
    drawn = re.findall(r"^    ([│├└─ ]*)(\w+Error)\b", errors.__doc__ or "", re.MULTILINE)

    def depth(name: str) -> int:
        cls = getattr(errors, name)
        return len([base for base in cls.__mro__ if base.__module__ == "orchestra.errors"]) - 1

    assert [(name, len(lead) // 4) for lead, name in drawn] == [
        (name, depth(name)) for _, name in drawn
    ]
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert {name for _, name in drawn} == defined


@pytest.mark.parametrize("error", [ValueError("why"), ValueError()])
def test_an_error_is_described_in_one_line(error: Exception) -> None:
    assert describe(error) in ("ValueError: why", "ValueError")
