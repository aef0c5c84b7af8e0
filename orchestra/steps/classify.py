"""`classify`: the label of a text out of several, with a confidence; without training.

The text and the labels are embedded; the cosines are turned into shares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import mul
from types import MappingProxyType

from orchestra.errors import InputError
from orchestra.graph.control.labels import Labels
from orchestra.graph.steps import step
from orchestra.protocols import Context, EmbedderName, injected
from orchestra.values import Label, Vector

# Measured with the default embedder on the 94 texts and five sets of labels of
# tests/steps/classified_texts.py: likelihood is best at 0.030 with descriptions and 0.048
# with bare names. At 0.04 the mean confidence is 0.90 and 0.81, where 0.91 and 0.77 of
# the answers are right.
TEMPERATURE = 0.04


@step
async def classify(
    text: str,
    *,
    labels: Labels,
    model: EmbedderName = "default",
    context: Context = injected,
) -> Label:
    """The label nearest in meaning, without training.

    `labels` are names, or a mapping from name to a description that says what it means;
    the better the description, the better the answer: of our examples, 91 % are right with
    descriptions and the default embedder, and 77 % without. The embedder is called once. The
    confidence is the label's share of a softmax over the similarities: compare it between texts,
    not with a probability. If the labels are written in the pipeline itself, `check` compares the
    arms of a `route` with them.

    A run may raise:
        InputError: there are no labels, or they are one string.
        BindingError: the embedder needs a package that is not installed.
        ModelError: the call of the embedder failed.
    """
    said = statements(labels)
    texts = [text, *said.values()]
    vector, *others = await context.embedder(model).embed(texts, purpose="classification")
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
