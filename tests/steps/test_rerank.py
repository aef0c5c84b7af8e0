"""`rerank`: the passages that come out are some of those that went in, in the model's order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, ClassVar

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra import pipeline
from orchestra.accounts import Usage
from orchestra.compiler.plan import plan
from orchestra.config.bindings import LocalBindings
from orchestra.config.deployment.environment import from_environment
from orchestra.errors import CapabilityError, CheckError, InputError, MalformedStreamError
from orchestra.events import RunFinished
from orchestra.protocols import Model, ModelReply
from orchestra.rankings import Ranked, Ranking, RerankRequest
from orchestra.steps import rerank, retrieve
from orchestra.testing.simulate import simulate
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import Capabilities, ChatRequest, Passage, Vector


@attrs.define(eq=False)
class Ranker(Model):
    """Gives each text the score that a test has for it."""

    scores: list[float]
    top_is_known: bool = True
    asked: list[RerankRequest] = attrs.field(factory=list)
    capabilities = Capabilities(reranking=True)

    def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
        raise NotImplementedError("it only reranks")

    async def rerank(self, request: RerankRequest) -> Ranking:
        self.asked.append(request)
        found = [Ranked(at, self.scores[at]) for at in range(len(request.texts))]
        with suppress(TypeError):  # a score is no number
            found.sort(key=lambda each: -each.score)
        return Ranking(tuple(found[: request.top] if self.top_is_known else found), Usage(5))


@pipeline
def ordered(passages: list[Passage], question: str, top: int) -> list[Passage]:
    return rerank(passages, question, model="ranker", top=top)


passages = st.builds(
    Passage,
    st.text(max_size=3),
    st.text(max_size=5),
    st.text(max_size=3),
    st.floats(-1, 1),
    st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=2),
)


@given(
    st.lists(st.tuples(passages, st.floats(allow_nan=False, allow_infinity=False)), max_size=6),
    st.integers(1, 8),
    st.booleans(),
)
def test_the_answer_is_the_best_of_the_passages_with_all_that_they_carry(
    scored: list[tuple[Passage, float]], top: int, top_is_known: bool
) -> None:
    ranker = Ranker([score for _, score in scored], top_is_known)
    given_ = [passage for passage, _ in scored]
    found = simulate(ordered, World(models={"ranker": ranker}), given_, "q", top).result()
    assert len(found) == min(top, len(given_))
    assert [each.score for each in found] == sorted(ranker.scores, reverse=True)[: len(found)]
    left = [attrs.evolve(passage, score=score) for passage, score in scored]
    for each in found:  # each comes out once for each time that it went in
        left.remove(each)
    assert len(ranker.asked) == bool(given_)


def test_passages_are_sent_with_their_headings_and_usage_is_counted() -> None:
    ranker = Ranker([0.1, 0.7])
    notes = [Passage("1", "At nine.", metadata={"heading": "Doors"}), Passage("2", "Outside.")]
    run = simulate(ordered, World(models={"ranker": ranker}), notes, "When?", 1)
    assert [each.id for each in run.result()] == ["2"]
    assert ranker.asked == [RerankRequest("When?", ("Doors\nAt nine.", "Outside."), 1)]
    (finished,) = (each for each in run.events if isinstance(each, RunFinished))
    assert finished.usage == Usage(5)


@pytest.mark.parametrize("top", [0, -1])
def test_fewer_than_one_passage_is_an_error(top: int) -> None:
    error = simulate(ordered, World(models={"ranker": Ranker([])}), [], "q", top).error
    assert isinstance(error, InputError)
    assert str(error) == f"rerank(top={top}): it has to be 1 or more"


@pytest.mark.parametrize("scores", [[float("nan")], ["high"], [None]])
def test_a_score_of_an_own_model_that_is_no_number_is_an_error(scores: list[Any]) -> None:
    world = World(models={"ranker": Ranker(scores)})
    error = simulate(ordered, world, [Passage("1", "a")], "q", 1).error
    assert isinstance(error, MalformedStreamError)


def test_a_model_that_does_not_rerank_is_an_error_of_the_run() -> None:
    world = World(models={"ranker": ScriptedModel.saying("Hi")})
    error = simulate(ordered, world, [Passage("1", "a")], "q", 1).error
    assert isinstance(error, CapabilityError)
    assert "ScriptedModel cannot rerank 1 texts" in str(error)


def test_a_model_that_is_known_not_to_rerank_is_a_problem_with_the_right_ones() -> None:
    chats = ScriptedModel.saying("Hi")
    models: dict[str, Model | None] = {"ranker": _Chatting(), "good": Ranker([]), "other": chats}
    with pytest.raises(CheckError) as caught:
        plan(ordered, World(models=models))
    (problem,) = caught.value.problems
    assert problem.code == "unable-model"
    assert problem.message.endswith("(model='ranker'): the model 'ranker' has no reranking")
    assert problem.fix == "name one that has it: 'good'"
    plan(ordered, World(models=models), unchecked=("model",))
    plan(ordered, World(models={"ranker": None}))


class _Chatting(Model):
    capabilities = Capabilities(reranking=False)

    def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
        raise NotImplementedError(request)


class Counting(World):
    """It keeps which names it was asked for: a database is asked over a connection."""

    asked: ClassVar[list[str]] = []

    def names(self, seam: str) -> Sequence[str]:
        self.asked.append(seam)
        return super().names(seam)


@pipeline
def from_a_store(question: str) -> list[Passage]:
    found = retrieve(Vector.of([1.0]), store="notes")
    return rerank(found, question, model="ranker")


def test_names_of_stores_are_looked_up_only_to_see_if_they_are_there() -> None:
    Counting.asked.clear()
    plan(from_a_store, Counting(models={"ranker": Ranker([])}, stores={"notes": None}))
    assert Counting.asked.count("store") == 1


@pipeline
def by_default(passages: list[Passage]) -> list[Passage]:
    return rerank(passages, "q", model="default")


def test_a_deployment_without_a_rerank_model_is_told_how_to_add_one() -> None:
    environ = {"OPENAI_API_KEY": "sk-test"}
    bindings = LocalBindings(deployment=from_environment(environ), environ=environ)
    with pytest.raises(CheckError, match=r"add a rerank model.*\[models.reranker\].*nearest"):
        plan(by_default, bindings)
