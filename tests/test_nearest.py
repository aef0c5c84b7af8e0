"""Which name was meant, and how it is asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.nearest import NAME_MAX, did_you_mean, nearest_name

names = st.text(max_size=12)


@given(names, st.lists(names))
def test_only_what_is_known_is_meant_and_a_known_name_is_near(name: str, known: list[str]) -> None:
    near = nearest_name(name, known)
    assert near == "" or near in known
    assert nearest_name(name, [*known, name]).lower() == name.lower()


@given(names, st.lists(names))
def test_texts_stand_around_a_question_only(name: str, known: list[str]) -> None:
    near = nearest_name(name, known)
    asked = did_you_mean(name, known, before="; ", after=" ", written="`{}`".format)
    assert asked == (f"; did you mean `{near}`? " if near else "")


@pytest.mark.parametrize(
    ("name", "known", "near"),
    [
        ("qestion", ["answer", "question"], "question"),
        ("FAST", ["fast", "smart"], "fast"),
        ("prices", ["retries"], ""),
        ("question" * 20_000, ["question"], ""),
        ("x" * NAME_MAX + "y" * 1_000_000, ["x" * NAME_MAX], "x" * NAME_MAX),
        ("question", [], ""),
    ],
)
def test_the_nearest_is_meant(name: str, known: list[str], near: str) -> None:
    """However long a name is that somebody sends."""
    assert nearest_name(name, known) == near
