"""What a step does to a list that stands in the pipeline's code stays in its run."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import orchestra
from orchestra import pipeline, step
from orchestra.compiler.blocks.mutable_values import PARTS_MAX, copied_if_mutable, is_mutable

PLAIN = st.integers() | st.text(max_size=3) | st.frozensets(st.integers(), max_size=2)
VALUES = st.recursive(
    PLAIN | st.sets(st.integers(), max_size=3),
    lambda parts: (
        st.lists(parts, max_size=3)
        | st.lists(parts, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2), parts, max_size=3)
    ),
    max_leaves=8,
)


def ids(value: Any) -> set[int]:
    """Those of all in it that can be changed."""
    found = {id(value)} if type(value) in (list, dict, set) else set()
    parts = value.values() if type(value) is dict else value
    if type(value) in (list, dict, tuple):
        found.update(*map(ids, parts))
    return found


@given(VALUES)
def test_a_renewed_value_is_equal_and_shares_nothing_that_can_be_changed(value: Any) -> None:
    own = copied_if_mutable(value)
    assert own == value
    assert type(own) is type(value)
    assert not ids(own) & ids(value)
    assert is_mutable(value) == bool(ids(value))


@given(st.integers(PARTS_MAX - 3, PARTS_MAX + 3), st.sampled_from([1, 2, 7]))
def test_a_table_is_passed_on_as_it_is(parts: int, rows: int) -> None:
    """It would be copied for each call, and nobody writes one into a pipeline's code."""
    flat = list(range(parts))
    nested = [flat[at::rows] for at in range(rows)]
    for value, count in ((flat, parts), (nested, parts + rows), (dict.fromkeys(flat), parts)):
        assert (copied_if_mutable(value) is value) == (count > PARTS_MAX)
        assert is_mutable(value) == (count <= PARTS_MAX)


class Words(list[str]):
    """A list of somebody's own class, which nobody else knows how to copy."""


def test_what_is_somebodys_own_is_passed_on_as_it_is() -> None:
    words = Words()
    assert copied_if_mutable(words) is words
    assert copied_if_mutable([words])[0] is words  # type: ignore[index]


@step
def added(words: list[str], word: str) -> list[str]:
    words.append(word)
    return words


SHARED = {"words": ["begin"]}


@step
def added_within(words: dict[str, list[str]], word: str) -> dict[str, list[str]]:
    words["words"].append(word)
    return words


@step
def in_pairs(words: tuple[list[str], str]) -> list[str]:
    words[0].append(words[1])
    return words[0]


@pipeline
def inner(word: str, words: list[str] = ["begin"]) -> list[str]:  # noqa: B006
    return added(words, word)


@pipeline
def all_ways(word: str, words: list[str] = ["begin"]) -> dict[str, Any]:  # noqa: B006
    begin = ["begin"]
    return {
        "literal": added(["begin"], word),
        "two": [added(begin, word), added(begin, word)],
        "default": added(words, word),
        "module": added_within(SHARED, word),
        "nested": in_pairs((["begin"], word)),
        "inner": inner(word),
    }


def test_runs_share_no_list_of_the_pipelines_code() -> None:
    for word in ("alice", "bob"):
        both = ["begin", word]
        assert orchestra.run(all_ways, word=word) == {
            "literal": both,
            "two": [both, both],
            "default": both,
            "module": {"words": both},
            "nested": both,
            "inner": both,
        }
    assert SHARED == {"words": ["begin"]}
