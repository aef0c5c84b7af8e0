"""`embed` and `embed_all`: the vectors of texts."""

from __future__ import annotations

from orchestra.graph.steps import step
from orchestra.protocols import Context, EmbedderName, injected
from orchestra.values import Purpose, Vector


@step
async def embed(
    text: str,
    *,
    model: EmbedderName = "default",
    purpose: Purpose = "query",
    context: Context = injected,
) -> Vector:
    """The vector of one text, of unit length; by default as a question to search with.

    A run may raise:
        BindingError: the embedder needs a package that is not installed.
        ModelError: the call of the embedder failed.
    """
    (vector,) = await context.embedder(model).embed([text], purpose=purpose)
    return vector


@step
async def embed_all(
    texts: list[str],
    *,
    model: EmbedderName = "default",
    purpose: Purpose = "document",
    context: Context = injected,
) -> list[Vector]:
    """One vector of unit length for each text, in order, from one call of the embedder.

    A run may raise the errors of `embed`.
    """
    return await context.embedder(model).embed(texts, purpose=purpose) if texts else []
