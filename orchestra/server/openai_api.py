"""OpenAI's API: models, chat completions, embeddings, for clients that know nothing else.

Each answer is that of a run: of a chat-shaped pipeline, or of the one step that relays a model.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import attrs
import msgspec
import trio
from quart import request
from quart_trio.wrappers import TrioResponse as Response

from orchestra.codecs.openai_serving import AnswerWriter, answer_record
from orchestra.codecs.openai_serving_embeddings import embeddings_body, served_embeddings
from orchestra.codecs.openai_serving_errors import BAD_REQUEST, ServedError, error_reply, reply
from orchestra.codecs.openai_serving_request import ServedChat, refused, served_chat
from orchestra.engine.bindings import DeploymentBindings
from orchestra.errors import InputError, LimitExceededError, ModelError, StateError
from orchestra.events import Delta, RunFinished, StepRouted
from orchestra.server import problems, sse
from orchestra.server.arrival import Arrival
from orchestra.server.chat_shapes import RELAYED, Gives
from orchestra.server.openai_catalog import Bare, Catalog, Offer, Spoken
from orchestra.server.openai_errors import OpenAiProblem, as_openai, told
from orchestra.server.openai_stored import Kept, StoredCompletions, messages_of
from orchestra.server.openai_stream import RUN_ID, ChunkEvents, Chunks, Facts
from orchestra.server.relay import relay, relay_vectors, relay_whole
from orchestra.server.runs import EventStream, Runs, answer, as_json, when_over, whole_body
from orchestra.stores.state_memory import MemoryState

if TYPE_CHECKING:
    from orchestra.engine.run import Run
    from orchestra.graph.pipelines import Pipeline
    from orchestra.protocols import Bindings, State
    from orchestra.values import Embeddings, Json

log = logging.getLogger("orchestra.server")

KEEP_S = 2.0
"""How long an answer waits for being kept."""
_OWNER = "orchestra"


def open_api(runs: Runs, pipelines: Mapping[str, Pipeline[..., Any]]) -> OpenAi:
    """The handlers, over what is served; of the pipelines, those that are shaped like a chat."""
    bindings = runs.engine.bindings
    stored = StoredCompletions(partial(_state_of, bindings, MemoryState()))
    return OpenAi(runs, Catalog(bindings, pipelines), stored)


@attrs.frozen
class _Job:
    """A run that is to answer: its pipeline, its inputs, and how its output is told."""

    pipeline: Pipeline[..., Any]
    inputs: Mapping[str, object]
    gives: Gives


@attrs.frozen
class OpenAi:
    """The handlers of the routes that OpenAI's clients ask."""

    runs: Runs
    catalog: Catalog
    stored: StoredCompletions
    created_s: int = attrs.field(factory=lambda: int(time.time()))

    async def models(self) -> Response:
        """All that may be asked by whoever asks."""
        scopes = Arrival.of(request.scope).known().scopes
        data = [self._listed(each) for each in self.catalog.seen_by(scopes)]
        return as_json({"object": "list", "data": data})

    async def model(self, model: str) -> Response:
        """One of them."""
        found = self._offer(model)
        if isinstance(found, OpenAiProblem):
            return answer(found)
        return as_json(self._listed(found))

    async def keep_model(self, model: str) -> Response:
        """That one of them was not deleted: only the configuration can do without it."""
        found = self._offer(model)
        if isinstance(found, OpenAiProblem):
            return answer(found)
        return as_json({"id": model, "object": "model", "deleted": False})

    async def chat(self) -> Response:
        """What a model says, whole or as it says it."""
        body = await self._body()
        if isinstance(body, OpenAiProblem):
            return answer(body)
        try:
            served = served_chat(body, self.runs.settings.passed)
            offer = self._offer(served.model)
            if isinstance(offer, OpenAiProblem):
                return answer(offer)
            job = _job(offer, served)
            run = self.runs.begin(job.pipeline, job.inputs)
        except (ModelError, InputError, LimitExceededError) as error:
            return answer(_refusal(error))
        if served.stream:
            return await self._stream(run, job, served)
        return await self._whole(run, job, served)

    async def embeddings(self) -> Response:
        """The vectors of texts."""
        body = await self._body()
        if isinstance(body, OpenAiProblem):
            return answer(body)
        try:
            served = served_embeddings(body, self.runs.settings.passed)
            offer = self._offer(served.model)
            if isinstance(offer, OpenAiProblem):
                return answer(offer)
            inputs = {
                "request": served.request,
                "model": served.model,
                "embedder": _embeds(offer),
            }
            run = self.runs.begin(relay_vectors, inputs)
        except (ModelError, LimitExceededError) as error:
            return answer(_refusal(error))
        event = await _ended(run)
        if not isinstance(event, RunFinished):
            return answer(_failure(run, run.error))
        found, facts = cast("Embeddings", event.result), _facts(run, served.model)
        counted = facts.usage(event.usage)
        usage = {name: counted[name] for name in ("prompt_tokens", "total_tokens", "orchestra")}
        body = embeddings_body(found, model=served.model, usage=usage, base64=served.base64)
        cost = counted["orchestra"]["cost_nanodollars"]
        return as_json(msgspec.Raw(body), headers=facts.headers(cost))

    async def _stream(self, run: Run, job: _Job, served: ServedChat) -> Response:
        writer = AnswerWriter(
            int(time.time()),
            answer_id=_answer_id(run),
            model=served.model,
            include_usage=served.include_usage,
            choices=served.choices,
        )
        chunks = Chunks(run, job.gives, writer, Facts(run.id, served.model))
        keep = partial(self._keep, run, job, served) if served.store else None
        events = ChunkEvents(run, self.runs.settings, chunks, keep)
        when_over(events.leave)
        failure = await events.open()
        if failure is not None:
            await _ended(run)
            return answer(_failure(run, failure))
        return EventStream(events, chunks.facts.headers())

    async def _whole(self, run: Run, job: _Job, served: ServedChat) -> Response:
        event = await _ended(run)
        if not isinstance(event, RunFinished):
            return answer(_failure(run, run.error))
        try:
            record, facts = _record(run, job, served, event)
        except ModelError as error:
            return answer(_failure(run, error))
        if served.store:
            await self._keep(run, job, served, event)
        cost = record["usage"]["orchestra"]["cost_nanodollars"]
        return as_json(record, headers=facts.headers(cost))

    async def _keep(self, run: Run, job: _Job, served: ServedChat, event: RunFinished) -> None:
        """Keep an answer that is whole; where the state is away, it was answered all the same."""
        record, _ = _record(run, job, served, event)
        kept = Kept(
            organisation=run.caller.organisation,
            user=run.caller.user,
            model=served.model,
            completion=record,
            messages=messages_of(record["id"], served.messages),
            metadata=dict(served.metadata),
        )
        try:
            with trio.fail_after(KEEP_S):
                if not await self.stored.keep(record["id"], kept):
                    log.warning("the answer of run %s is too large to be kept", run.id)
        except (StateError, trio.TooSlowError) as error:
            log.warning("the answer of run %s is not kept: %r", run.id, error)

    async def _body(self) -> bytes | OpenAiProblem:
        given = request.headers.get("Content-Type", "")
        if given.partition(";")[0].strip().lower() != sse.JSON:
            return as_openai(problems.bad_media_type(given, forms=False))
        return await whole_body()

    def _offer(self, name: str) -> Offer | OpenAiProblem:
        found = self.catalog.find(name, Arrival.of(request.scope).known().scopes)
        if found is not None:
            return found
        said = (
            f"The model {name[:100]!r} does not exist, or you may not ask it; GET /v1/models tells "
            "what there is."
        )
        return told(reply(404, said, BAD_REQUEST, code="model_not_found", param="model"))

    def _listed(self, offer: Offer) -> dict[str, object]:
        return {
            "id": offer.name,
            "object": "model",
            "created": self.created_s,
            "owned_by": _OWNER,
            "orchestra": {"kind": offer.kind},
        }


def _record(run: Run, job: _Job, served: ServedChat, event: RunFinished) -> tuple[Json, Facts]:
    """The whole answer of a run as OpenAI would tell it, and what is known of it beside.

    Raises:
        TruncatedStreamError: the answer was cut, though the run has finished.
    """
    facts = _facts(run, served.model)
    record = answer_record(
        job.gives.whole(event.result),
        int(time.time()),
        answer_id=_answer_id(run),
        model=served.model,
        usage=facts.usage(event.usage),
    )
    return record, facts


def _state_of(bindings: Bindings, otherwise: State) -> State:
    """What the deployment remembers things in, where it has such a thing."""
    return bindings.state if isinstance(bindings, DeploymentBindings) else otherwise


def _job(offer: Offer, served: ServedChat) -> _Job:
    """What is to be run for an answer.

    Raises:
        InvalidRequestError: this cannot be answered so.
    """
    if isinstance(offer, Spoken):
        if served.choices > 1:
            raise refused("n", "this model is a pipeline, which answers once; send 1")
        shape = offer.shape
        return _Job(shape.pipeline, shape.inputs(served.request), shape.gives)
    if not offer.speaks:
        raise refused("model", f"{offer.name!r} makes vectors only; ask POST /v1/embeddings")
    inputs = {"request": served.request, "model": served.model, "choices": served.choices}
    return _Job(relay if served.stream else relay_whole, inputs, RELAYED)


def _embeds(offer: Offer) -> bool:
    """Whether it is an embedder; else it is a model, which may make vectors.

    Raises:
        InvalidRequestError: it is a pipeline.
    """
    if isinstance(offer, Bare):
        return offer.embeds
    raise refused("model", f"{offer.name!r} is a pipeline, and makes no vectors; name an embedder")


async def _ended(run: Run) -> object:
    """The last event of a run, waiting for it."""
    await run.wait_ended()
    return run.journal.last


def _facts(run: Run, model: str) -> Facts:
    """What is known of a run that has ended."""
    facts = Facts(run.id, model)
    for event in run.journal.kept:
        if isinstance(event, StepRouted):
            facts.model = event.model
        elif isinstance(event, Delta) and facts.first_s is None:
            facts.first_s = event.at_s
    if facts.first_s is None:
        facts.first_s = run.journal.last.at_s
    return facts


def _answer_id(run: Run) -> str:
    return f"chatcmpl-{run.id}"


def _refusal(error: Exception) -> OpenAiProblem:
    """Why there is no run."""
    if isinstance(error, LimitExceededError):
        return as_openai(problems.too_busy(str(error)))
    return told(error_reply(error))


def _failure(run: Run, error: BaseException | None) -> OpenAiProblem:
    """Why a run gave no answer."""
    said: ServedError = error_reply(error if error is not None else RuntimeError("no result"))
    return told(said, (RUN_ID, run.id))
