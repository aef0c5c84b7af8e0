"""Output: chunks that are kept whole, within bounds, and make one value."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, get_args

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from orchestra import Stream, pipeline, route, step
from orchestra.accounts import Usage
from orchestra.engine.lanes.output import Output, has_content, join, size_bytes
from orchestra.errors import EdgeTypeError, LimitExceededError
from orchestra.graph.rules.policy import Limits
from orchestra.policies.answers.sizes import MODEL_EVENTS
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import simulate
from orchestra.values import ModelEvent, TextDelta, UsageReport

texts = st.lists(st.text(), max_size=8)
anything = st.lists(st.none() | st.integers() | st.text() | st.binary(), max_size=8)


@attrs.frozen
class Piece:
    text: str
    audio: object


class Struct(msgspec.Struct):
    audio: object


@dataclass
class Data:
    audio: object


class Shape(BaseModel):
    audio: Any


nested = st.recursive(
    st.none() | st.integers() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.builds(Piece, st.text(), inner)
        | st.builds(Struct, inner)
        | st.builds(Data, inner)
        | st.builds(lambda part: Shape(audio=part), inner)
        | st.tuples(inner, inner)
    ),
    max_leaves=6,
)


def kept(chunks: Sequence[object], annotation: object, limits: Limits = Limits()) -> Output:
    output = Output(annotation, limits)
    for chunk in chunks:
        output.add(chunk)
    return output


@given(texts)
def test_text_is_joined_and_counted_as_utf_8(chunks: list[str]) -> None:
    chunks = [chunk.encode(errors="replace").decode() for chunk in chunks]
    output = kept(chunks, str)
    assert output.joined() == "".join(chunks)
    assert output.size_bytes == len("".join(chunks).encode())


@given(st.lists(st.binary(), max_size=8))
def test_bytes_are_joined_and_counted(chunks: list[bytes]) -> None:
    output = kept(chunks, bytes)
    assert output.joined() == b"".join(chunks)
    assert output.size_bytes == len(b"".join(chunks))


@given(anything, st.integers(0, 9))
def test_everything_else_is_a_list_and_any_beginning_of_it_can_be_asked_for(
    chunks: list[object], upto: int
) -> None:
    output = kept(chunks, object)
    assert output.joined() == chunks
    assert output.joined(upto=upto) == join(chunks[:upto], object) == chunks[:upto]
    assert output.size_bytes == sum(map(size_bytes, chunks))


@given(anything, st.integers(1, 5), st.integers(1, 200))
def test_an_output_over_a_bound_is_refused_and_the_bound_is_named(
    chunks: list[object], most: int, most_bytes: int
) -> None:
    limits = Limits(output_chunks=most, output_bytes=most_bytes)
    whole = sum(map(size_bytes, chunks))
    if len(chunks) <= most and whole <= most_bytes:
        assert kept(chunks, object, limits).joined() == chunks
        return
    with pytest.raises(LimitExceededError, match=r"raise Limits\(output_") as caught:
        kept(chunks, object, limits)
    assert caught.value.limit in ("output_chunks", "output_bytes")


@pytest.mark.parametrize(("annotation", "chunk"), [(str, 1), (str, b"a"), (bytes, "a"), (bytes, 1)])
def test_a_chunk_that_cannot_be_joined_with_the_others_is_refused_when_it_comes(
    annotation: type, chunk: object
) -> None:
    """Not at the end: by then a client has been sent it."""
    with pytest.raises(
        EdgeTypeError, match=rf"a stream of {annotation.__name__} gave .*, an instance of "
    ):
        kept([chunk], annotation)


def test_what_says_nothing_is_no_content() -> None:
    assert not any(map(has_content, ("", b"", None)))
    assert all(map(has_content, ("a", b"a", 0, False, [], ())))


def test_a_lone_surrogate_is_counted_and_does_not_stop_the_run() -> None:
    assert size_bytes("\ud800") == 1
    assert size_bytes(object()) == 64


@given(st.text())
def test_an_event_of_a_model_counts_what_it_holds(text: str) -> None:
    """Else a pipeline that gives its model's events would have no bound but their number."""
    said = len(text.encode(errors="replace"))
    assert size_bytes(TextDelta(text)) == 64 + said
    assert size_bytes(UsageReport(Usage(1, 1), {"x": text})) > 64 + said
    assert {*get_args(ModelEvent)} == {*MODEL_EVENTS}


@step
async def said(chunks: list[Any]) -> AsyncIterator[Any]:
    """Chunks of whatever they are, as of a generator without annotation."""
    for chunk in chunks:
        yield chunk


@pipeline
def as_text(chunks: list[object]) -> Stream[str]:
    return said(chunks)


@pipeline
def as_bytes(chunks: list[object]) -> Stream[bytes]:
    return route("b", {"b": said(chunks)})


@pipeline
def as_they_are(chunks: list[object]) -> Stream[object]:
    return said(chunks)


@given(texts | st.lists(st.binary()) | anything)
def test_what_a_pipeline_promises_is_what_its_chunks_make(chunks: list[object]) -> None:
    """Of a generator that does not say what it yields, a pipeline that says `Stream[str]` gives a text.

    It was a list, and whoever had asked for a text got one piece after the other.
    """
    for each, kind in ((as_text, str), (as_bytes, bytes), (as_they_are, object)):
        run = simulate(each, chunks=chunks)
        check_laws(run)
        if all(isinstance(chunk, kind) for chunk in chunks):
            assert run.result() == join(chunks, kind)
        else:
            assert isinstance(run.error, EdgeTypeError)
            assert f"a stream of {kind.__name__} gave" in str(run.error)


@given(nested)
def test_a_chunk_counts_what_is_in_it_wherever_that_is(chunk: object) -> None:
    """A bound in bytes holds, whatever class the chunks are of: one more megabyte counts as such."""
    if not isinstance(chunk, str | bytes):
        assert size_bytes([chunk, b"a" * 1000, {"b": "b" * 10}]) == size_bytes([chunk]) + 1011


def test_audio_in_an_object_counts_towards_the_bounds_of_an_output() -> None:
    for wrap in (
        lambda a: Piece("", a),
        Struct,
        Data,
        lambda a: Shape(audio=a),
        lambda a: {"": [a]},
    ):
        assert size_bytes(wrap(b"a" * 1000)) == 1064
    with pytest.raises(LimitExceededError, match="output_bytes"):
        kept([Piece("", b"a" * 60)] * 2, Piece, Limits(output_bytes=200))


def test_a_chunk_that_contains_itself_is_counted_once() -> None:
    chunk: list[object] = ["four"]
    chunk.append(chunk)
    assert size_bytes(chunk) == 64 + 4


def test_only_so_many_parts_of_a_chunk_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk may refer to all that a program holds."""
    monkeypatch.setattr("orchestra.engine.lanes.output._PARTS_MAX", 10)
    assert size_bytes([["four"] * 1000]) == 64 + 8 * 4


def test_a_chunk_whose_members_cannot_be_read_does_not_fail_its_run() -> None:
    class Broken(list[object]):
        def __iter__(self) -> NoReturn:
            raise ZeroDivisionError

    assert size_bytes([Broken("ab"), "four"]) == 64 + 4
