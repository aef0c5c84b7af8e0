"""What is the same for all of OpenAI's API: how a request becomes a run, and its end an answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any

import attrs
import trio
from quart_trio.wrappers import TrioResponse as Response

from orchestra.codecs.openai_serving.errors import BAD_REQUEST, ServedError, error_reply, reply
from orchestra.codecs.openai_serving.request import ServedChat, refused
from orchestra.errors import InvalidRequestError, LimitExceededError, StateError
from orchestra.events import Delta, StepRouted
from orchestra.server import sse
from orchestra.server.front import problems
from orchestra.server.front.arrival import Arrival
from orchestra.server.front.departure import present
from orchestra.server.front.routes import Handler
from orchestra.server.openai.catalog import Catalog, Offer, Spoken
from orchestra.server.openai.errors import OpenAiProblem, as_openai, told
from orchestra.server.openai.stored import Kept, StoredCompletions
from orchestra.server.openai.stream import RUN_ID, ChunkEvents, Facts
from orchestra.server.runs.chat_shapes import RELAYED, Gives
from orchestra.server.runs.pipelines import EventStream, answer, when_over, whole_body
from orchestra.server.runs.relay import relay, relay_whole

if TYPE_CHECKING:
    from orchestra.engine.run import Run
    from orchestra.graph.pipelines import Pipeline
    from orchestra.values import Json

log = logging.getLogger("orchestra.server")

KEEP_S = 2.0
"""How long an answer waits for being kept."""


@attrs.frozen
class Job:
    """A run that is to answer: its pipeline, its inputs, and how its output is told."""

    pipeline: Pipeline[..., Any]
    inputs: Mapping[str, object]
    gives: Gives


def offered(catalog: Catalog, name: str) -> Offer | OpenAiProblem:
    """What a name stands for, to whoever asks."""
    scopes = Arrival.of(present().scope).known().scopes
    found = catalog.find(name, scopes)
    if found is not None:
        return found
    said = (
        f"The model {name[:100]!r} does not exist, or you may not ask it; GET /v1/models tells "
        "what there is."
    )
    if (other := catalog.unlike_a_chat(name, scopes)) is not None:
        given = ", ".join(other.inputs) or "nothing"
        said = (
            f"The pipeline {name!r} is no model: it is given {given}, and gives no answer of a "
            f"chat; POST /v1/pipelines/{name}/runs asks it."
        )
    return told(reply(404, said, BAD_REQUEST, code="model_not_found", param="model"))


async def json_body() -> bytes | OpenAiProblem:
    """The body of the current request, which has to be JSON."""
    given = present().headers.get("Content-Type", "")
    if given.partition(";")[0].strip().lower() != sse.JSON:
        return as_openai(problems.bad_media_type(given, forms=False))
    return await whole_body()


async def streamed(run: Run, events: ChunkEvents, facts: Facts) -> Response:
    """A run as a stream; as a problem, where it fails before anything is said."""
    when_over(events.leave)
    failed = await events.open()
    if failed is not None:
        await ended(run)
        return answer(failure(run, failed))
    return EventStream(events, facts.headers())


async def keep(
    stored: StoredCompletions, run: Run, served: ServedChat, record: Json, asked: list[Json]
) -> None:
    """Keep an answer that is whole; where the state is away, it was answered all the same.

    `asked` is what it answers, as it is told to whoever reads that later.
    """
    id_ = record["id"]
    kept = Kept(
        organisation=run.caller.organisation,
        user=run.caller.user,
        model=served.model,
        completion=record,
        messages=asked,
        metadata=dict(served.metadata),
    )
    try:
        with trio.fail_after(KEEP_S):
            if not await stored.keep(id_, kept):
                log.warning("%s is too large to be kept", id_)
    except (StateError, trio.TooSlowError) as error:
        log.warning("%s is not kept: %r", id_, error)


def job_of(offer: Offer, served: ServedChat) -> Job:
    """What is to be run for an answer.

    Raises:
        InvalidRequestError: this cannot be answered so.
    """
    if isinstance(offer, Spoken):
        if served.choices > 1:
            raise refused("n", "this model is a pipeline, which answers once; send 1")
        shape = offer.shape
        return Job(shape.pipeline, shape.inputs(served.request), shape.gives)
    if not offer.speaks:
        raise refused("model", f"{offer.name!r} makes vectors only; ask POST /v1/embeddings")
    inputs = {"request": served.request, "model": served.model, "choices": served.choices}
    return Job(relay if served.stream else relay_whole, inputs, RELAYED)


async def ended(run: Run) -> object:
    """The last event of a run, waiting for it."""
    await run.wait_ended()
    return run.journal.last


def facts_of(run: Run, model: str) -> Facts:
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


def refusing(handler: Handler) -> Handler:
    """The handler; what it raises of a request or a state is told to the client."""

    @wraps(handler)
    async def answered(*args: Any, **values: Any) -> Any:
        try:
            return await handler(*args, **values)
        except (InvalidRequestError, StateError) as error:
            return answer(told(error_reply(error)))

    return answered


def refusal(error: Exception) -> OpenAiProblem:
    """Why there is no run."""
    if isinstance(error, LimitExceededError):
        return as_openai(problems.too_busy(str(error)))
    return told(error_reply(error))


def failure(run: Run, error: BaseException | None) -> OpenAiProblem:
    """Why a run gave no answer."""
    said: ServedError = error_reply(error if error is not None else RuntimeError("no result"))
    return told(said, (RUN_ID, run.id))
