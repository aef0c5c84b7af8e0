"""What a step returns is held against its annotation: it is the step that is blamed, at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NewType, Protocol, TypedDict, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import orchestra
from orchestra import Stream, pipeline, step
from orchestra.annotations.acceptance import accepts, is_of
from orchestra.errors import EdgeTypeError

T = TypeVar("T", bound=str)
Name = NewType("Name", str)


class Measurable(Protocol):
    """What has a length."""

    def __len__(self) -> int: ...


class Place(TypedDict):
    """A place."""

    city: str


class Odd(type):
    """A class of classes that cannot tell."""

    def __instancecheck__(cls, instance: object) -> bool:
        raise RuntimeError("who knows")


class Unclear(metaclass=Odd):
    """What nothing can be held against."""


CASES: list[tuple[object, object, bool]] = [
    (str, "a", True),
    (str, None, False),
    (str, 3, False),
    (str | None, None, True),
    (str | None, 3, False),
    (float, 3, True),
    (int, 3.0, False),
    (list[str], [1], True),  # what is in it, its reader looks at
    (list[str], ("a",), False),
    (Sequence[str], ("a",), True),
    (Mapping[str, int], {}, True),
    (Literal["a", "b"], "b", True),
    (Literal["a", "b"], "c", False),
    (T, "a", True),
    (T, 3, False),
    (Name, "a", True),
    (Name, 3, False),
    (Measurable, [], True),
    (Measurable, 3, False),
    (Place, {}, True),
    (Place, [], False),
    (Any, 3, True),
    (object, None, True),
    (Unclear, 3, True),
    (Annotated[str, []], "a", True),
    (Annotated[str, []], 3, False),
    (None, None, True),
    (None, 3, False),
]


@pytest.mark.parametrize(("annotation", "value", "right"), CASES, ids=str)
def test_a_value_is_of_the_class_that_is_written_or_not(
    annotation: object, value: object, *, right: bool
) -> None:
    assert is_of(annotation, value) is right


VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers())


@given(st.sampled_from([annotation for annotation, _, _ in CASES]), VALUES)
def test_what_is_accepted_is_of_the_class(annotation: object, value: object) -> None:
    """Looking at the class only refuses nothing that would be right."""
    assert is_of(annotation, value) or not accepts(annotation, value)


async def helper(text: str) -> str:
    return text.upper()


@step
async def forgets_to_await(text: str) -> str:
    return helper(text)  # type: ignore[return-value]


@step
def forgets_to_return(text: str) -> str:
    return None  # type: ignore[return-value]


@step(thread=True)
def returns_a_number(text: str) -> str:
    return len(text)  # type: ignore[return-value]


@step
async def returns_a_generator(text: str) -> str:
    async def words() -> AsyncIterator[str]:
        yield text

    return words()  # type: ignore[return-value]


@step
async def says(text: str) -> str:
    return text


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (forgets_to_await, r"nobody awaits; write `return await helper\(...\)`"),
        (
            forgets_to_return,
            "`-> str` and returned None, an instance of NoneType; return a value on every path",
        ),
        (returns_a_number, "`-> str` and returned 4, an instance of int; return a value of"),
        (returns_a_generator, "yield the chunks in the step itself, or collect them"),
    ],
)
def test_a_step_that_returns_something_else_is_blamed_for_it(wrong: Any, told: str) -> None:
    """It was served as a result, or the step that read it was blamed."""

    @pipeline
    def result(text: str) -> str:
        return wrong(text)  # type: ignore[no-any-return]

    @pipeline
    def read(text: str) -> str:
        return says(wrong(text))

    for each in (result, read):
        with pytest.raises(EdgeTypeError, match=told) as caught:
            orchestra.run(each, text="text")
        assert f"step {wrong.name!r}" in "".join(caught.value.__notes__)


@step
async def spoken(text: str) -> AsyncIterator[str]:
    for word in text.split():
        yield word


@step
async def hands_on(chunks: Stream[str]) -> object:
    return chunks


@step
def hands_on_at_once(chunks: Stream[str]) -> Any:
    return chunks


@pytest.mark.parametrize("wrong", [hands_on, hands_on_at_once])
def test_a_stream_that_is_returned_is_told_to_be_passed_on(wrong: Any) -> None:
    """What is not annotated has let it pass, and its reader was told that the stream had ended."""

    @pipeline
    def result(text: str) -> object:
        return wrong(spoken(text))

    with pytest.raises(EdgeTypeError, match=r"yield its chunks \(`async for chunk in stream: yi"):
        orchestra.run(result, text="a b")
