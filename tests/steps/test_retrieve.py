"""`retrieve` and `nearest`: how many passages may be asked for, by meaning and by keywords."""

from __future__ import annotations

from collections.abc import Mapping
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
from orchestra.steps.retrieve import fused, telling
from orchestra.stores.memory import MemoryStore
from orchestra.stores.postgres.pool import Address
from orchestra.stores.postgres.stores import PostgresStores
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


def test_in_postgres_there_is_no_keyword_search_yet() -> None:
    with PostgresStores(Address("nowhere", {}, None)) as stores:
        world = World(stores={"notes": stores.collection("notes")})
        error = simulate(by_both, world, "E1234", 1, "a").error
    assert isinstance(error, StoreError)
    assert "the store 'notes', a PostgresCollection, has no keyword search" in str(error)


rankings = st.lists(st.sampled_from("abcdefgh"), unique=True)
weak = st.floats(0.0, 24.9)


@given(rankings, st.dictionaries(st.sampled_from("bcdefgh"), weak))
def test_what_alone_has_the_words_that_matter_is_first(
    near: list[str], others: dict[str, float]
) -> None:
    """Wherever it is by its vector, and however many passages have the common words."""
    scores = {"a": 100.0, **others}
    worded = [Passage(each, "", score=scores[each]) for each in sorted(scores)]
    both = fused(telling(worded), [Passage(each, "") for each in near])
    assert both[0].id == "a"


@given(st.lists(st.floats(-9.0, 9.0)))
def test_what_has_as_many_of_the_words_counts(scores: list[float]) -> None:
    """The first always does, and all do in a store whose scores are none, or of another kind."""
    worded = [Passage(f"{i}", "", score=each) for i, each in enumerate(sorted(scores)[::-1])]
    kept = telling(worded)
    assert kept == worded[: len(kept)]
    assert len(kept) >= min(1, len(worded))
    if max(scores, default=0.0) <= 0:
        assert kept == worded


@given(rankings, rankings)
def test_what_both_rank_higher_is_higher(one: list[str], other: list[str]) -> None:
    """The fusion has all of both, once, and is monotone: the first of both is first, with 1."""
    both = fused([Passage(each, "") for each in one], [Passage(each, "") for each in other])
    order = [each.id for each in both]
    assert sorted(order) == sorted({*one, *other})
    assert [each.score for each in both] == sorted((each.score for each in both), reverse=True)
    assert all(0 < each.score <= 1 for each in both)
    for above in set(one) & set(other):
        for below in order:
            lower = [
                below not in ranking or ranking.index(above) < ranking.index(below)
                for ranking in (one, other)
            ]
            assert not all(lower) or above == below or order.index(above) < order.index(below)
    if one and other and one[0] == other[0]:
        assert (both[0].id, both[0].score) == (one[0], 1.0)


@given(rankings)
def test_one_ranking_keeps_its_order(ranking: list[str]) -> None:
    for both in (
        fused([Passage(r, "") for r in ranking], []),
        fused([], [Passage(r, "") for r in ranking]),
    ):
        assert [each.id for each in both] == ranking
