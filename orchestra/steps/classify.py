"""`classify`: the label of a text out of several, with a confidence."""

from __future__ import annotations

from orchestra.graph.control.labels import Labels
from orchestra.graph.steps import step
from orchestra.protocols import Context, EmbedderName, injected
from orchestra.steps.zeroshot import zero_shot
from orchestra.values import Label


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
    the better the description, the better the answer. The confidence is the label's share
    of a softmax over the similarities: compare it between texts, not with a probability.
    If they are written in the pipeline itself, `check` compares the arms of a `route` with them.

    A run may raise:
        InputError: there are no labels, or they are one string.
        BindingError: the embedder needs a package that is not installed.
        ModelError: the call of the embedder failed.
    """
    return await zero_shot(context.embedder(model), text, labels)
