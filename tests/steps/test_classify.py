"""Zero-shot classification: shares are shares, and confidence means something."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import cast

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import InputError
from orchestra.protocols import Context, Embedder
from orchestra.providers.wordllama import WordLlamaEmbedder
from orchestra.steps.classify import classify, nearest, statements
from orchestra.values import Label, Purpose, Vector
from tests.steps.classified_texts import SETS

angles = st.floats(0, 2 * math.pi)
names = st.text(min_size=1, max_size=5)


def direction(angle: float) -> Vector:
    return Vector.of([math.cos(angle), math.sin(angle)])


@given(angle=angles, labels=st.dictionaries(names, angles, min_size=1, max_size=6))
def test_shares_sum_to_one_and_are_in_the_order_of_nearness(
    angle: float, labels: dict[str, float]
) -> None:
    label = nearest(direction(angle), {name: direction(at) for name, at in labels.items()})
    assert math.fsum(label.scores.values()) == pytest.approx(1)
    assert label.confidence == label.scores[label.name] == max(label.scores.values())
    cosines = {name: math.cos(at - angle) for name, at in labels.items()}
    assert cosines[label.name] == pytest.approx(max(cosines.values()), abs=1e-6)
    assert list(label.scores) == list(labels)


@given(angle=angles, labels=st.dictionaries(names, angles, min_size=2, max_size=6))
def test_a_lower_temperature_is_surer(angle: float, labels: dict[str, float]) -> None:
    vectors = {name: direction(at) for name, at in labels.items()}
    cold = nearest(direction(angle), vectors, temperature=0.01)
    warm = nearest(direction(angle), vectors, temperature=1)
    assert cold.confidence >= warm.confidence - 1e-12


async def classified(
    embedder: Embedder, text: str, labels: tuple[str, ...] | Mapping[str, str]
) -> Label:
    context = cast("Context", SimpleNamespace(embedder=lambda _: embedder))
    return await classify.call(text, labels=labels, context=context)


class Compass:
    """An embedder that knows four words, and counts how often it is asked."""

    dimensions = 2
    asked = 0

    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        self.asked += 1
        turns = ["east", "north", "west", "south", "north: up there"]
        return [direction(math.pi / 2 * turns.index(text)) for text in texts]


def test_the_nearest_label_is_asked_for_once() -> None:
    compass = Compass()
    label = trio.run(classified, compass, "north", ("west", "north", "east"))
    assert label == Label("north", label.confidence, label.scores)
    assert label.confidence > 0.99
    assert compass.asked == 1


@pytest.mark.parametrize("blank", ["", " \n\t"])
def test_a_blank_text_is_near_to_no_label(blank: str) -> None:
    """With its vector, whatever that is, one label would be given with a high confidence."""
    label = trio.run(classified, WordLlamaEmbedder(), blank, ("sports", "cooking"))
    assert label == Label("sports", 0.5, {"sports": 0.5, "cooking": 0.5})


def test_names_are_read_as_words_and_descriptions_with_them() -> None:
    assert statements(("how-to", "not_yet")) == {"how-to": "how to", "not_yet": "not yet"}
    assert statements({"a": "x", "b": ""}) == {"a": "a: x", "b": "b"}


@pytest.mark.parametrize("labels", [(), {}, "bug"])
def test_no_labels_is_an_error_with_an_example(labels: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="write them as a tuple") as caught:
        statements(labels)
    assert caught.value.field == "labels"
    assert repr(labels) in str(caught.value)


@pytest.mark.parametrize(("described", "right_min"), [(True, 0.9), (False, 0.75)])
def test_with_the_default_embedder_confidence_is_about_how_often_it_is_right(
    described: bool, right_min: float
) -> None:
    """The measurement behind `TEMPERATURE`; it may not get worse unnoticed."""
    embedder = WordLlamaEmbedder()
    right, confidences = [], []

    async def main() -> None:
        for labels, texts in SETS.values():
            asked = labels if described else tuple(labels)
            for expected, examples in texts.items():
                for text in examples:
                    label = await classified(embedder, text, asked)
                    right.append(label.name == expected)
                    confidences.append(label.confidence)

    trio.run(main)
    share = sum(right) / len(right)
    assert share >= right_min
    assert sum(confidences) / len(confidences) == pytest.approx(share, abs=0.05)
