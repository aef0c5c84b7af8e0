"""What passes to another process, and is copied: errors, pipelines and steps, values."""

from __future__ import annotations

import copy
import inspect
import multiprocessing
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar, cast

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

import orchestra
from orchestra import errors, pipeline, step
from orchestra.cli.failures import CommandError
from orchestra.errors import DeadlineError, ModelError, OrchestraError, RateLimitError
from orchestra.problem import Problem
from orchestra.steps import classify
from orchestra.values import ChatRequest, Label, Message

T = TypeVar("T")

KINDS = [
    kind
    for kind in (*vars(errors).values(), CommandError)
    if isinstance(kind, type) and issubclass(kind, OrchestraError)
]

texts = st.text(max_size=9)
problems = st.lists(st.builds(Problem, texts, texts, texts, texts), max_size=2)
anybodys = st.builds(ValueError, texts) | st.builds(RateLimitError, texts)
ARGUMENTS: Mapping[str, st.SearchStrategy[object]] = {
    "str": texts,
    "str | None": st.none() | texts,
    "int": st.integers(0, 9),
    "int | None": st.none() | st.integers(400, 599),
    "bool | None": st.none() | st.booleans(),
    "float | None": st.none() | st.floats(0, 9),
    "Sequence[str]": st.lists(texts, max_size=2),
    "Sequence[Problem]": problems,
    "Sequence[BaseException]": st.lists(anybodys, max_size=2),
    "Mapping[str, object]": st.dictionaries(texts, texts, max_size=2),
    "Mapping[str, BaseException]": st.dictionaries(texts, anybodys, max_size=2),
    "Mapping[str, ModelError]": st.dictionaries(texts, st.builds(ModelError, texts), max_size=2),
}


def made(kind: type[OrchestraError]) -> st.SearchStrategy[OrchestraError]:
    """Errors of this class, made as its `__init__` asks for, with notes."""
    parameters = [*inspect.signature(kind.__init__).parameters.values()][1:]
    given = {each.name: ARGUMENTS[each.annotation] for each in parameters if each.kind in _NAMED}
    noted = st.lists(texts, max_size=2)
    return st.builds(_noted, st.builds(kind, *([] if given else [texts]), **given), noted)


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _noted(error: OrchestraError, notes: list[str]) -> OrchestraError:
    for note in notes:
        error.add_note(note)
    return error


def told(value: object) -> object:
    """All that there is to an error, as what can be compared."""
    if isinstance(value, BaseException):
        return type(value), str(value), value.args, told(vars(value))
    if isinstance(value, Mapping):
        return {key: told(held) for key, held in value.items()}
    return [told(held) for held in value] if isinstance(value, list | tuple) else value


def pickled(value: T) -> T:
    return cast("T", pickle.loads(pickle.dumps(value)))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(again=st.sampled_from([pickled, copy.copy, copy.deepcopy]), data=st.data())
def test_an_error_that_is_pickled_or_copied_is_the_same(
    kind: type[OrchestraError],
    again: Callable[[OrchestraError], OrchestraError],
    data: st.DataObject,
) -> None:
    error = data.draw(made(kind))
    before = told(error)
    copied = again(error)
    assert told(copied) == before
    copied.add_note("of the copy")
    assert told(error) == before


@step
async def wait(number: int) -> int:
    await trio.Event().wait()
    return number


@step
def double(number: int) -> int:
    return 2 * number


@pipeline
def doubled(number: int) -> int:
    return double(number)


@pipeline(deadline_s=0.01)
def waited(number: int) -> int:
    return wait(number)


def test_a_pool_of_processes_runs_a_pipeline_and_hands_on_what_it_raises() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        run: Callable[..., Any] = partial(orchestra.run, doubled)
        found = pool.map_async(run, [1, 2])
        assert found.get(timeout=60) == [2, 4]
        late = pool.map_async(partial(orchestra.run, waited), [1])
        with pytest.raises(DeadlineError, match=r"deadline_s=0\.01 s") as caught:
            late.get(timeout=60)
    assert caught.value.limit == "deadline_s"


@pytest.mark.parametrize("named", [waited, wait, doubled, classify])
@pytest.mark.parametrize("again", [pickled, copy.copy, copy.deepcopy])
def test_a_pipeline_or_step_that_is_pickled_or_copied_is_itself(
    named: object, again: Callable[[object], object]
) -> None:
    assert again(named) is named


def test_a_pipeline_that_no_name_stands_for_is_not_pickled() -> None:
    with pytest.raises(pickle.PicklingError, match=r"<pipeline 'waited' at .*not the same object"):
        pickled(waited.using(deadline_s=1))


@pytest.mark.parametrize(
    "value",
    [
        ChatRequest((Message("user", "Hello?"),), extras={"openai": {"n": 1}}),
        ChatRequest((Message("user", "Hello?"),)),
        Label("a", 0.5, MappingProxyType({"a": 0.5})),
        Label("a", 0.5),
    ],
)
@pytest.mark.parametrize("again", [pickled, copy.deepcopy])
def test_a_value_is_pickled_and_copied_with_its_mappings(
    value: object, again: Callable[[object], object]
) -> None:
    assert again(value) == value
    assert repr(again(value)) == repr(value)
