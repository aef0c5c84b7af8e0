"""`embed`: text to vectors."""

from __future__ import annotations

from orchestra.graph.steps import step
from orchestra.protocols import Context, EmbedderName, injected
from orchestra.values import Vector


@step
async def embed(
    text: str, *, model: EmbedderName = "default", context: Context = injected
) -> Vector:
    """The vector of one text, of unit length."""
    (vector,) = await context.embedder(model).embed([text])
    return vector


@step
async def embed_all(
    texts: list[str], *, model: EmbedderName = "default", context: Context = injected
) -> list[Vector]:
    """One vector for each text, in order, of unit length; asked for together."""
    return await context.embedder(model).embed(texts) if texts else []
