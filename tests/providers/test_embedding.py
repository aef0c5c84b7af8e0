"""A model's vectors, as an embedder gives them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import BindingError, MalformedStreamError
from orchestra.protocols import Model
from orchestra.providers.embedding import RemoteEmbedder, unit
from orchestra.values import Embeddings, EmbedRequest, Vector

numbers = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=16)


class Embedding(Model):
    """Gives for each text the vector that a function makes of it."""

    def __init__(self, vector: Callable[[str], list[float]]) -> None:
        self._vector = vector
        self.asked: list[EmbedRequest] = []

    def stream(self, request: object) -> None:  # type: ignore[override]
        raise AssertionError("it only embeds")

    async def embed(self, request: EmbedRequest) -> Embeddings:
        self.asked.append(request)
        return Embeddings(tuple(Vector.of(self._vector(text)) for text in request.texts))


@given(numbers)
def test_a_vector_has_unit_length_and_its_direction(given: list[float]) -> None:
    vector = Vector.of(given)
    scaled = unit(vector)
    length = math.sqrt(math.fsum(x * x for x in vector))
    if length < 1e-30:  # zeros, or so near to it that float32 has lost the direction
        return
    assert math.sqrt(math.fsum(x * x for x in scaled)) == pytest.approx(1, abs=2e-3)
    assert list(scaled) == pytest.approx([x / length for x in vector], abs=2e-3)


def test_zeros_have_no_direction() -> None:
    assert unit(Vector.of([0.0, 0.0])) == Vector.of([0.0, 0.0])


def test_its_length_is_what_was_said_or_what_came_first() -> None:
    model = Embedding(lambda text: [float(len(text)), 1.0, 0.0])
    embedder = RemoteEmbedder(model, "big", None)
    with pytest.raises(BindingError, match=r"write `dimensions = NUMBER` into \[embedders.big\]"):
        _ = embedder.dimensions
    trio.run(embedder.embed, ["a"])
    assert embedder.dimensions == 3
    assert RemoteEmbedder(model, "big", 3).dimensions == 3


def test_a_vector_of_another_length_is_refused() -> None:
    embedder = RemoteEmbedder(Embedding(lambda text: [1.0] * len(text)), "big", 3)
    with pytest.raises(
        MalformedStreamError,
        match=r"'big' returned a vector of 2 numbers, but its dimensions are 3; .*embedders\.big",
    ):
        trio.run(embedder.embed, ["abc", "ab"])


@pytest.mark.parametrize(("shortens", "asked"), [(True, 2), (False, None)])
def test_what_is_asked_for_says_the_purpose_and_the_length(
    *, shortens: bool, asked: int | None
) -> None:
    model = Embedding(lambda text: [3.0, 4.0])
    embedder = RemoteEmbedder(model, "big", 2, shortens=shortens)

    async def embed() -> list[Vector]:
        return await embedder.embed(["why?"], purpose="query")

    (vector,) = trio.run(embed)
    assert list(vector) == pytest.approx([0.6, 0.8])
    assert model.asked == [EmbedRequest(("why?",), "query", asked)]
