"""OpenAI's API: models, chat completions and embeddings.

Each answer is the result of a run: of a chat-shaped pipeline, or of the single step that relays a
model.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import attrs
import msgspec
from quart_trio.wrappers import TrioResponse as Response

from orchestra.codecs.anthropic_serving.models import model_record, models_page
from orchestra.codecs.openai_serving.answers import AnswerWriter, answer_record
from orchestra.codecs.openai_serving.embeddings import embeddings_body, served_embeddings
from orchestra.codecs.openai_serving.request import served_chat
from orchestra.codecs.serving.requests import ServedChat, refused
from orchestra.engine.bindings import DeploymentBindings
from orchestra.server.front.departure import arrived
from orchestra.server.models.catalog import Bare, Catalog, Offer
from orchestra.server.models.responding import (
    AnswerFormat,
    Answers,
    answering,
    body_as,
    facts_of,
    finished,
    offered,
    refusing,
    respond,
)
from orchestra.server.openai.stored import StoredCompletions, keep, messages_of
from orchestra.server.responses.whole_answers import as_json
from orchestra.server.runs.pipelines import Runs
from orchestra.server.runs.relay import relay_vectors
from orchestra.stores.state.memory import MemoryState

if TYPE_CHECKING:
    from orchestra.engine.run import Run
    from orchestra.graph.pipelines import Pipeline
    from orchestra.protocols import Bindings, State
    from orchestra.values import Embeddings, Json

_OWNER = "orchestra"


def open_api(runs: Runs, pipelines: Mapping[str, Pipeline[..., Any]]) -> OpenAi:
    """The handlers, for the models of the engine and the chat-shaped ones of `pipelines`."""
    bindings = runs.engine.shared.bindings
    stored = StoredCompletions(partial(_state_of, bindings, MemoryState()))
    return OpenAi(runs, Catalog(bindings, pipelines), stored)


@attrs.frozen
class OpenAi:
    """The handlers of models, chat completions and embeddings."""

    runs: Runs
    catalog: Catalog
    stored: StoredCompletions
    created_s: int = attrs.field(factory=lambda: int(time.time()))

    async def models(self) -> Response:
        """List all names that the caller may use."""
        arrival = arrived()
        seen = self.catalog.seen_by(arrival.known().scopes)
        if arrival.of_anthropic:
            names = [each.name for each in seen if each.kind != "embedder"]
            return as_json(models_page(names, self.created_s))
        data = [self._listed(each) for each in seen]
        return as_json({"object": "list", "data": data})

    @refusing
    async def model(self, model: str) -> Response:
        """Show one name."""
        found = offered(self.catalog, model)
        if arrived().of_anthropic:
            return as_json(model_record(found.name, self.created_s))
        return as_json(self._listed(found))

    @refusing
    async def keep_model(self, model: str) -> Response:
        """Answer that the model was not deleted: models are defined in the configuration."""
        offered(self.catalog, model)
        return as_json({"id": model, "object": "model", "deleted": False})

    @refusing
    async def chat(self) -> Response:
        """Answer a chat, whole or streamed."""
        settings = self.runs.settings
        reading = partial(served_chat, allowed=settings.allowed, stores=settings.store_answers)
        served = await body_as(reading)
        offer = answering(self.catalog, served.model)
        return await respond(self.runs, offer, served, partial(self._format, served))

    @refusing
    async def embeddings(self) -> Response:
        """Answer with the vectors of texts."""
        served = await body_as(partial(served_embeddings, allowed=self.runs.settings.allowed))
        embedder = _embeds(offered(self.catalog, served.model))
        inputs = {"request": served.request, "model": served.model, "embedder": embedder}
        run = self.runs.begin(relay_vectors, inputs)
        event = await finished(run)
        found, facts = cast("Embeddings", event.result), facts_of(run, served.model)
        counted = facts.usage(event)
        usage = {name: counted[name] for name in ("prompt_tokens", "total_tokens", "orchestra")}
        body = embeddings_body(found, model=served.model, usage=usage, base64=served.base64)
        cost = counted["orchestra"]["cost_nanodollars"]
        return as_json(msgspec.Raw(body), headers=facts.headers(cost))

    def _format(self, served: ServedChat, run: Run) -> AnswerFormat:
        answer_id, created_s = f"chatcmpl-{run.id}", int(time.time())
        writer = AnswerWriter(
            created_s,
            answer_id=answer_id,
            model=served.model,
            include_usage=served.include_usage,
            choices=served.choices,
        )

        def record(answers: Answers, usage: Json) -> Json:
            return answer_record(
                answers(), created_s, answer_id=answer_id, model=served.model, usage=usage
            )

        async def store(record: Json) -> None:
            await keep(self.stored, run, served, messages_of(answer_id, served.messages), record)

        return AnswerFormat(writer=writer, record=record, keep=store if served.store else None)

    def _listed(self, offer: Offer) -> dict[str, object]:
        return {
            "id": offer.name,
            "object": "model",
            "created": self.created_s,
            "owned_by": _OWNER,
            "orchestra": {"kind": offer.kind},
        }


def _state_of(bindings: Bindings, otherwise: State) -> State:
    """The state of the deployment, if the bindings are a deployment's."""
    return bindings.state if isinstance(bindings, DeploymentBindings) else otherwise


def _embeds(offer: Offer) -> bool:
    """Whether the offer is an embedder; if not, it is a model, which may have embeddings as well.

    Raises:
        InvalidRequestError: the offer is a pipeline.
    """
    if isinstance(offer, Bare):
        return offer.embeds
    raise refused("model", f"{offer.name!r} is a pipeline, not an embedder; name an embedder")
