"""`rerank`: the most relevant passages, by a model that reads each of them with the question."""

from __future__ import annotations

import attrs

from orchestra.errors import InputError
from orchestra.graph.steps import step
from orchestra.protocols import Context, RerankerName, injected
from orchestra.rankings import RerankRequest, best
from orchestra.steps.ingest import embedded
from orchestra.values import Passage


@step
async def rerank(
    passages: list[Passage],
    question: str,
    *,
    model: RerankerName,
    top: int = 8,
    context: Context = injected,
) -> list[Passage]:
    """The `top` passages most relevant to a question, best first, each with the model's score.

    The passages are sent in one call, each with its heading. Without passages, nothing is called.

    A run may raise:
        InputError: `top` is less than 1.
        CapabilityError: the model does not rerank.
        MalformedStreamError: the ranking leaves a doubt which score belongs to which passage.
        ModelError: the call failed; for too many or too long passages, as the provider says.
    """
    if top < 1:
        raise InputError(f"rerank(top={top}): it has to be 1 or more", field="top")
    if not passages:
        return []
    request = RerankRequest(question, tuple(map(embedded, passages)), min(top, len(passages)))
    found = await context.model(model).rerank(request)
    context.used(found.usage)
    results = best(request, found.results)  # again, for models without policies, as in tests
    return [attrs.evolve(passages[each.index], score=each.score) for each in results]
