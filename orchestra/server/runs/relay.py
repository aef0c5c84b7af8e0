"""The pipelines that serve models under their own names; each has a single step.

So a direct call of a model is a run like any other, with a caller, a journal, limits and
cancellation.
"""

from __future__ import annotations

from orchestra.answers import Completion
from orchestra.graph.pipelines import pipeline
from orchestra.protocols import Stream
from orchestra.server.inputs.reading import RELAY
from orchestra.steps import relay as steps
from orchestra.steps.relay import ChoiceEvents
from orchestra.values import ChatRequest, Embeddings, EmbedRequest


@pipeline(name=RELAY)
def relay(request: ChatRequest, model: str, choices: int) -> Stream[ChoiceEvents]:
    """A model's answer as a stream."""
    return steps.relay(request, model=model, choices=choices)


@pipeline(name=RELAY)
def relay_whole(request: ChatRequest, model: str, choices: int) -> list[Completion]:
    """A model's complete answer."""
    return steps.relay_whole(request, model=model, choices=choices)


@pipeline(name=RELAY)
def relay_vectors(request: EmbedRequest, model: str, embedder: bool) -> Embeddings:
    """The vectors of texts."""
    return steps.relay_vectors(request, model=model, embedder=embedder)


RELAYS = (relay, relay_whole, relay_vectors)
"""All these pipelines; their input `model` is the requested name."""
