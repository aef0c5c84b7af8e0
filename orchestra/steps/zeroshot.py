"""The label that is nearest to a text, without training: the core of `classify`.

The text and the labels are embedded; the cosines are turned into shares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import mul
from types import MappingProxyType

from orchestra.errors import InputError
from orchestra.protocols import Embedder
from orchestra.values import Label, Vector

# Measured with the default embedder on the 94 texts and five sets of labels of
# tests/steps/zeroshot_texts.py: likelihood is best at 0.030 with descriptions and 0.048
# with bare names. At 0.04 the mean confidence is 0.90 and 0.81, where 0.91 and 0.77 of
# the answers are right.
TEMPERATURE = 0.04


async def zero_shot(
    embedder: Embedder, text: str, labels: Sequence[str] | Mapping[str, str]
) -> Label:
    """The label nearest in meaning to the text, with its share among all.

    `labels` are names, or names with descriptions: with these, 91 % of our
    examples are right with the default embedder, without them 77 %.
    Calls the embedder once, for the text and all labels.

    Raises:
        InputError: there are no labels.
    """
    said = statements(labels)
    vector, *others = await embedder.embed([text, *said.values()], purpose="classification")
    return nearest(vector, dict(zip(said, others, strict=True)))


def statements(labels: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """The text embedded for each label: its name in words, and its description if it has one.

    Raises:
        InputError: there are no labels.
    """
    if not labels or isinstance(labels, str):
        raise InputError(
            f"labels={labels!r} names no labels to choose from; write them as a tuple "
            '("bug", "question") or a dict {"bug": "something is broken", ...}',
            field="labels",
        )
    described = labels if isinstance(labels, Mapping) else dict.fromkeys(labels, "")
    words = {name: name.replace("_", " ").replace("-", " ") for name in described}
    return {
        name: f"{words[name]}: {description}" if description else words[name]
        for name, description in described.items()
    }


def nearest(
    vector: Vector, labels: Mapping[str, Vector], *, temperature: float = TEMPERATURE
) -> Label:
    """The label with the largest share: a softmax over cosines, divided by `temperature`.

    All vectors are of unit length, and there is at least one label. Of equal labels the first
    is taken. A lower temperature gives higher confidences.
    """
    cosines = {name: sum(map(mul, vector, label)) for name, label in labels.items()}
    highest = max(cosines.values())
    weights = {name: math.exp((cosine - highest) / temperature) for name, cosine in cosines.items()}
    whole = math.fsum(weights.values())
    shares = {name: weight / whole for name, weight in weights.items()}
    best = max(shares, key=shares.__getitem__)
    return Label(best, shares[best], MappingProxyType(shares))
