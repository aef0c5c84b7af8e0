"""`retrieve` and `nearest`: how many passages may be asked for, by meaning and by keywords."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import pipeline
from orchestra.errors import InputError, StoreError
from orchestra.graph.pipelines import Pipeline
from orchestra.protocols import VectorStore
from orchestra.steps import nearest, retrieve
from orchestra.steps.retrieve import CANDIDATES_MIN, fused
from orchestra.stores.memory import MemoryStore
from orchestra.testing.simulate import simulate
from orchestra.testing.world import World
from orchestra.values import Passage, Scalar, Vector


@pipeline
def in_a_store(count: int) -> list[Passage]:
    return retrieve(Vector.of([1.0]), store="notes", top=count)


@pipeline
def in_a_list(count: int) -> list[Passage]:
    return nearest([Passage("1", "A note.")], "What?", top=count)


@pytest.mark.parametrize(
    ("asking", "says"), [(in_a_store, "retrieve(top={})"), (in_a_list, "nearest(top={})")]
)
@pytest.mark.parametrize("count", [0, -1])
def test_fewer_than_one_passage_is_an_error(
    asking: Pipeline[[int], list[Passage]], says: str, count: int
) -> None:
    world = World(stores={"notes": MemoryStore("notes")}, embedders={"default": None})
    error = simulate(asking, world, count).error
    assert isinstance(error, InputError)
    assert str(error) == f"{says.format(count)}: it has to be 1 or more"


@pipeline
def by_keywords(words: str, count: int, kind: str) -> list[Passage]:
    return retrieve(None, keywords=words, store="notes", top=count, where={"kind": kind})


@pipeline
def by_both(words: str, count: int, kind: str) -> list[Passage]:
    vector = Vector.of([1.0, 0.0])
    return retrieve(vector, keywords=words, store="notes", top=count, where={"kind": kind})


NOTES = [
    Passage("far", "the error E1234", metadata={"kind": "a"}),
    Passage("near", "a door", metadata={"kind": "a"}),
    Passage("between", "no error", metadata={"kind": "a"}),
    Passage("other", "E1234 E1234", metadata={"kind": "b"}),
]
VECTORS = [
    Vector.of([0.0, 1.0]),
    Vector.of([1.0, 0.0]),
    Vector.of([1.0, 1.0]),
    Vector.of([1.0, 0.0]),
]


def found(asking: Pipeline[[str, int, str], list[Passage]], *inputs: Any) -> list[Passage]:
    store = MemoryStore("notes")
    trio.run(store.upsert, NOTES, VECTORS)
    run = simulate(asking, World(stores={"notes": store}), *inputs)
    return run.result()


def test_a_code_is_found_by_keywords_where_its_vector_is_far() -> None:
    assert [each.id for each in found(by_keywords, "error E1234?", 9, "a")] == ["far", "between"]
    assert [each.id for each in found(by_both, "E1234", 9, "a")] == ["far", "near", "between"]
    assert [each.id for each in found(by_both, "E1234", 1, "a")] == ["far"]


def test_a_filter_holds_for_what_keywords_find() -> None:
    for asking in (by_keywords, by_both):
        assert [each.id for each in found(asking, "E1234", 9, "b")] == ["other"]
        assert found(asking, "E1234", 9, "c") == []


def test_without_a_word_only_the_vector_counts() -> None:
    assert [each.id for each in found(by_both, "?!", 2, "a")] == ["near", "between"]
    assert found(by_keywords, "?!", 2, "a") == []


def test_a_code_that_one_of_many_alike_has_is_first() -> None:
    """Vectors hardly tell the articles apart, and all of them have the question's other words."""
    store = MemoryStore("notes")
    numbers = range(1000, 1200)
    articles = [Passage(f"{n}", f"The device shows error E-{n}: restart it.") for n in numbers]
    trio.run(store.upsert, articles, [Vector.of([1.0, 0.0])] * len(articles))

    @pipeline
    def looked_up(question: str) -> list[Passage]:
        return retrieve(Vector.of([1.0, 0.0]), keywords=question, store="notes", top=3)

    for question in ("My device shows error E-1150, what now?", "E-1150", "e1150?"):
        run = simulate(looked_up, World(stores={"notes": store}), question)
        assert run.result()[0].id == "1150", question


def test_nothing_to_search_for_is_an_error() -> None:
    @pipeline
    def by_nothing() -> list[Passage]:
        return retrieve(None, store="notes")

    error = simulate(by_nothing, World(stores={"notes": MemoryStore()})).error
    assert isinstance(error, InputError)
    assert "there is nothing to search for; write retrieve(embed(question), ...)" in str(error)


class Plain:
    """A store of the user's, as it was written before there was keyword search."""

    async def search(
        self, vector: Vector, *, top: int, where: Mapping[str, Scalar] | None = None
    ) -> list[Passage]:
        return [Passage("1", f"{len(vector)} {top} {where}")]


class Inherits(Plain, VectorStore):
    """The same, as a subclass."""


@pytest.mark.parametrize("kind", [Plain, Inherits])
def test_a_store_without_keyword_search_says_so(kind: type[Any]) -> None:
    world = World(stores={"notes": kind()})
    error = simulate(by_both, world, "E1234", 1, "a").error
    assert isinstance(error, StoreError)
    assert f"the store 'notes', a {kind.__name__}, has no keyword search; leave out" in str(error)
    assert simulate(in_a_store, world, 1).error is None


rankings = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 9))


def ranked(scores: Mapping[str, float]) -> list[Passage]:
    best_first = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return [Passage(name, "", score=score) for name, score in best_first]


@given(rankings, rankings, st.integers(1, 9))
def test_what_both_score_higher_is_higher(
    words: dict[str, float], near: dict[str, float], most: int
) -> None:
    """The fusion has all of both, once, and is monotone: the first of both is first, with 1."""
    both = fused(ranked(words)[:most], ranked(near)[:most], most)
    scores = {each.id: each.score for each in both}
    kept = [{each.id: each.score for each in ranked(part)[:most]} for part in (words, near)]
    assert len(both) == len(scores)
    assert scores.keys() == kept[0].keys() | kept[1].keys()
    assert [each.score for each in both] == sorted(scores.values(), reverse=True)
    assert all(0 <= score <= 1 for score in scores.values())
    for above, below in permutations(scores, 2):
        if all(part.get(above, 0) >= part.get(below, 0) for part in kept):
            assert scores[above] >= scores[below]
    firsts = {ranked(part)[0].id for part in (words, near) if part}
    if words and near and len(firsts) == 1:
        assert (both[0].id, both[0].score) == (*firsts, 1.0)


@given(rankings.filter(bool), rankings, st.integers(1, 9))
def test_the_best_by_keywords_is_before_all_that_are_not_found_by_them(
    words: dict[str, float], near: dict[str, float], most: int
) -> None:
    """Wherever it is by its vector: names, codes and numbers are what vectors do not tell apart."""
    worded = ranked(words)[:most]
    order = [each.id for each in fused(worded, ranked(near)[:most], most)]
    before = order[: order.index(worded[0].id)]
    assert {*before} <= {each.id for each in worded}


def test_of_many_that_have_the_common_words_only_those_that_say_more_count() -> None:
    """As they fill the search, those that it leaves out are as good as the last one."""
    common = {f"{number}": 2.0 for number in range(CANDIDATES_MIN)}
    worded = ranked({**common, "code": 12.0, "half": 7.0})[:CANDIDATES_MIN]
    near = ranked({"0": 0.9, "1": 0.8, "2": 0.1})
    both = fused(worded, near, CANDIDATES_MIN)
    assert [(each.id, each.score) for each in both[:5]] == [
        ("code", 0.5), ("0", 0.5), ("1", pytest.approx(0.4375)), ("half", 0.25), ("10", 0.0)
    ]  # fmt: skip


def test_each_of_a_few_keyword_hits_counts() -> None:
    """Of two passages with the code, the second one is nearly as good as the first one."""
    worded = ranked({"first": 10.0, "second": 9.0})
    both = fused(worded, ranked({"a": 0.9, "b": 0.8, "second": 0.1}), CANDIDATES_MIN)
    assert [each.id for each in both] == ["first", "a", "second", "b"]


@given(rankings, rankings, st.sampled_from([1, 3]), st.integers(-2, 2), st.integers(1, 9))
def test_the_scale_of_the_scores_does_not_matter(
    words: dict[str, float], near: dict[str, float], factor: int, offset: int, most: int
) -> None:
    """Such as cosines below 0, or distances, where less is better."""
    worded, found = ranked(words)[:most], ranked(near)[:most]
    others = [Passage(each.id, "", score=factor * each.score) for each in worded]
    distant = [Passage(each.id, "", score=offset - factor * each.score) for each in found]
    assert fused(others, distant, most) == fused(worded, found, most)


@given(st.lists(st.floats(-9, 9)).map(sorted), st.integers(1, 9))
def test_one_ranking_keeps_its_order_whatever_its_scores_are(
    scores: list[float], most: int
) -> None:
    """Also if they are all alike, or some are below 0."""
    ranking = [Passage(f"{at}", "", score=score) for at, score in enumerate(scores[::-1][:most])]
    for both in (fused(ranking, [], most), fused([], ranking, most)):
        assert [each.id for each in both] == [each.id for each in ranking]
        assert all(0 <= each.score <= 0.5 for each in both)
