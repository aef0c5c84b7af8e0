"""`classify`: chooses one of several labels for a text, with a confidence; without training.

The text and the labels are embedded, and the cosines are turned into shares.
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
# tests/steps/classified_texts.py: the likelihood is best at 0.030 with descriptions and at 0.048
# with bare names. At 0.04, the mean confidence is 0.90 and 0.81, while 0.91 and 0.77 of the
# answers are right.
TEMPERATURE = 0.04


@step
async def classify(
    text: str,
    *,
    labels: Labels,
    model: EmbedderName = "default",
    context: Context = injected,
) -> Label:
    """The label that is nearest to the text in meaning, without training.

    `labels` are names, or a mapping from each name to a description of what it means. Better
    descriptions give better answers: of our examples, 91 % are right with descriptions and the
    default embedder, and 77 % without. The embedder is called once. The confidence is the label's
    share of a softmax over the similarities: use it to compare texts, not as a probability. A blank
    text is near to no label: all shares are equal, and the first label is given. If the labels are
    written in the pipeline itself, `check` compares the arms of a `route` with them.

    A run may raise:
        InputError: there are no labels, or they are one string.
        BindingError: the embedder needs a package that is not installed.
        ModelError: the call of the embedder failed.
    """
    described = statements(labels)
    if not text.strip():
        shares = dict.fromkeys(described, 1 / len(described))
        return Label(next(iter(shares)), 1 / len(described), MappingProxyType(shares))
    texts = [text, *described.values()]
    vector, *others = await context.embedder(model).embed(texts, purpose="classification")
    return nearest(vector, dict(zip(described, others, strict=True)))


def statements(labels: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """The text to embed for each label: its name in words, and its description if it has one.

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
    """The label with the largest share of a softmax over the cosines, divided by `temperature`.

    All vectors have to be of unit length, and there has to be at least one label. Of equally near
    labels, the first is taken. A lower temperature gives higher confidences.
    """
    cosines = {name: sum(map(mul, vector, label)) for name, label in labels.items()}
    highest = max(cosines.values())
    weights = {name: math.exp((cosine - highest) / temperature) for name, cosine in cosines.items()}
    whole = math.fsum(weights.values())
    shares = {name: weight / whole for name, weight in weights.items()}
    best = max(shares, key=shares.__getitem__)
    return Label(best, shares[best], MappingProxyType(shares))
