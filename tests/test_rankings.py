"""What counts as a ranking: an order of some of the texts, whose scores are certain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import MalformedStreamError
from orchestra.rankings import Ranked, Ranking, RerankRequest, best, joined, parted

scores = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, 0.5, 0.5, 1.0])


@st.composite
def answers(draw: st.DrawFn) -> tuple[RerankRequest, list[Ranked]]:
    """A request, and an answer with what it wants, or with all of its texts, in any order."""
    count = draw(st.integers(1, 8))
    top = draw(st.none() | st.integers(1, 8))
    request = RerankRequest("q", ("t",) * count, top)
    indexes = draw(st.permutations(range(count)))[: draw(st.sampled_from([request.wanted, count]))]
    return request, [Ranked(index, draw(scores)) for index in indexes]


@given(answers())
def test_the_best_are_some_of_those_given_in_descending_order(
    answer: tuple[RerankRequest, list[Ranked]],
) -> None:
    request, given_ = answer
    found = best(request, given_)
    assert len(found) == request.wanted
    assert len({each.index for each in found}) == len(found)
    assert set(found) <= set(given_)
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    left = [each.score for each in given_ if each not in found]
    assert all(found[-1].score >= score for score in left)
    assert best(request, found) == found


@given(st.lists(scores, min_size=1, max_size=9), st.none() | st.integers(1, 9), st.integers(1, 5))
def test_parts_are_ranked_as_the_whole_is(given_: list[float], top: int | None, most: int) -> None:
    """Where each text is scored by itself; also among equal scores."""
    texts = tuple(f"{at}" for at in range(len(given_)))
    whole = RerankRequest("q", texts, top)

    def ranking(request: RerankRequest) -> Ranking:
        results = [Ranked(at, given_[int(text)]) for at, text in enumerate(request.texts)]
        return Ranking(best(request, results))

    parts = parted(whole, most)
    assert tuple(text for part in parts for text in part.texts) == texts
    assert all(len(part.texts) <= most for part in parts)
    assert parted(whole, None) == parted(whole, len(texts)) == [whole]
    if len(parts) > 1:
        answers = [(part, ranking(part)) for part in parts]
        assert joined(whole, answers) == ranking(whole).results


HALF: Any = 0.5
NONE: Any = None
BREAKS: list[tuple[Callable[[Ranked, int], Any], str]] = [
    (lambda each, count: attrs.evolve(each, index=count), "the indexes 0 to"),
    (lambda each, _: attrs.evolve(each, index=-1), "index -1"),
    (lambda each, _: attrs.evolve(each, index=True), "index True"),
    (lambda each, _: Ranked(HALF, each.score), "index 0.5"),
    (lambda each, _: attrs.evolve(each, score=float("nan")), "not a finite number"),
    (lambda each, _: attrs.evolve(each, score=float("inf")), "not a finite number"),
    (lambda each, _: Ranked(each.index, NONE), "not a finite number"),
    (lambda each, _: attrs.evolve(each, score=10**400), "not a finite number"),
]


@pytest.mark.parametrize(("broken", "says"), BREAKS)
@given(answers(), st.data())
def test_one_wrong_result_spoils_the_ranking(
    broken: Callable[[Ranked, int], Any],
    says: str,
    answer: tuple[RerankRequest, list[Ranked]],
    data: st.DataObject,
) -> None:
    request, given_ = answer
    at = data.draw(st.integers(0, len(given_) - 1))
    given_[at] = broken(given_[at], len(request.texts))
    with pytest.raises(MalformedStreamError, match=says):
        best(request, given_)


@given(answers(), st.data())
def test_a_text_with_two_scores_and_results_that_are_missing_or_too_many_are_errors(
    answer: tuple[RerankRequest, list[Ranked]], data: st.DataObject
) -> None:
    request, given_ = answer
    twice = data.draw(st.sampled_from(given_))
    with pytest.raises(MalformedStreamError, match="more than once"):
        best(request, [*given_, twice])
    count = data.draw(st.integers(0, len(given_)))
    if count not in (request.wanted, len(request.texts)):
        with pytest.raises(MalformedStreamError, match=f"{request.wanted} were wanted"):
            best(request, given_[:count])


def test_a_text_that_is_first_twice_is_an_error() -> None:
    twice = [Ranked(0, 0.9), Ranked(0, 0.1)]
    with pytest.raises(MalformedStreamError, match=r"a text more than once: \[0, 0\]"):
        best(RerankRequest("q", ("a", "b")), twice)


def test_numbers_of_numpy_become_plain_ones() -> None:
    results: Any = [Ranked(np.int64(1), np.float32(0.5)), Ranked(np.int64(0), np.float64(0.75))]  # type: ignore[arg-type]
    found = best(RerankRequest("q", ("a", "b")), results)
    assert found == (Ranked(0, 0.75), Ranked(1, 0.5))
    assert {(type(each.index), type(each.score)) for each in found} == {(int, float)}
