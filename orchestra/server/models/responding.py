"""What the APIs of models share: turning a request into a run, and the run into a response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import attrs
from quart_trio.wrappers import TrioResponse as Response

from orchestra.codecs.openai.usage import usage_record
from orchestra.codecs.serving.errors import NO_RETRY, ServedError, error_reply
from orchestra.codecs.serving.requests import ServedChat, refused
from orchestra.computed import LARGE_BYTES, computed
from orchestra.errors import (
    InputError,
    LimitExceededError,
    ModelError,
    RunCancelledError,
    StateError,
)
from orchestra.events import Delta, RunFinished, StepRouted
from orchestra.server import sse
from orchestra.server.front.departure import arrived, principal, when_over, whole_body
from orchestra.server.front.routes import Handler
from orchestra.server.inputs.chat_shapes import RELAYED, GivesAnswers
from orchestra.server.models.catalog import Bare, Catalog, Offer, Spoken
from orchestra.server.models.paths import shaped
from orchestra.server.models.shapes import as_served
from orchestra.server.models.stream import RUN_ID, ChunkEvents, Chunks, Facts, Writer
from orchestra.server.responses import problems
from orchestra.server.responses.whole_answers import answer, as_json
from orchestra.server.runs.event_streams import EventStream
from orchestra.server.runs.pipelines import CANCELLED
from orchestra.server.runs.relay import relay, relay_whole
from orchestra.server.settings import media_type

if TYPE_CHECKING:
    from orchestra.accounts import Usage
    from orchestra.answers import Completion
    from orchestra.engine.run import Run
    from orchestra.graph.pipelines import Pipeline
    from orchestra.server.runs.pipelines import Runs
    from orchestra.server.settings import Settings
    from orchestra.values import Json


T = TypeVar("T")
Answers: TypeAlias = Callable[[], "list[Completion]"]
"""Returns the answers of a finished run. Raises TruncatedStreamError like `GivesAnswers.whole`."""


class RefusedError(Exception):
    """Raised to answer the current request with `error`; handled by `refusing`."""

    def __init__(self, error: ServedError) -> None:
        super().__init__(error.message)
        self.error = error


@attrs.frozen(kw_only=True)
class AnswerFormat:
    """The format of one run's response: a stream of chunks from `writer`, or a whole `record`.

    `record` makes the whole response from a function that returns the answers, and from a usage
    record made by `usage`. `keep` stores the response, if the client asked for that.
    """

    writer: Writer
    record: Callable[[Answers, Json], Json]
    usage: Callable[[Usage], Json] = usage_record
    keep: Callable[[Json], Awaitable[None]] | None = None
    heartbeat: bytes = sse.HEARTBEAT


def offered(catalog: Catalog, name: str) -> Offer:
    """The model, embedder or pipeline with this name.

    Raises:
        RefusedError: there is none, or the current caller may not use it.
    """
    scopes = principal().scopes
    found = catalog.find(name, scopes)
    if found is not None:
        return found
    message = (
        f"The model {name[:100]!r} does not exist, or you may not use it; GET /v1/models lists "
        "those that you may use."
    )
    if (other := catalog.unlike_a_chat(name, scopes)) is not None:
        given = ", ".join(other.inputs) or "nothing"
        message = (
            f"The pipeline {name!r} is not a model: it takes {given}, and does not answer a chat; "
            f"run it with POST /v1/pipelines/{name}/runs."
        )
    raise RefusedError(ServedError(404, message, "model_not_found", "model"))


def answering(catalog: Catalog, name: str) -> Offer:
    """The model or pipeline with this name, which can answer a chat.

    Raises:
        InvalidRequestError: the name is that of an embedder only.
        RefusedError: as for `offered`.
    """
    found = offered(catalog, name)
    if isinstance(found, Bare) and not found.speaks:
        raise refused("model", f"{name!r} is only an embedder; use POST /v1/embeddings")
    return found


async def json_body() -> bytes:
    """The body of the current request.

    Raises:
        RefusedError: its media type is not JSON.
    """
    given = arrived().header(b"content-type") or ""
    if media_type(given) != sse.JSON:
        raise RefusedError(as_served(problems.bad_media_type(given, forms=False)))
    return await whole_body()


async def body_as(read: Callable[[bytes], T]) -> T:
    """Decode the body of the current request with `read`, in a worker thread if it is large.

    Raises:
        InvalidRequestError: raised by `read`.
        RefusedError: as for `json_body`.
    """
    body = await json_body()
    return await computed(partial(read, body), large=len(body) > LARGE_BYTES)


async def respond(
    runs: Runs, offer: Offer, served: ServedChat, format_of: Callable[[Run], AnswerFormat]
) -> Response:
    """Answer a chat request with a new run, streamed or whole, in the format of the client.

    Raises:
        InvalidRequestError: the offered model or pipeline cannot handle the request.
        RefusedError: the run has no result.
    """
    pipeline, inputs, gives = _asked_of(offer, served)
    run = runs.begin(pipeline, inputs, served.metadata)
    how = format_of(run)
    if served.stream:
        return await _streamed(run, gives, served, how, runs.settings)
    event = await finished(run)
    facts = facts_of(run, served.model, how.usage)
    usage = facts.usage(event)
    try:
        record = how.record(partial(gives.whole, event), usage)
    except ModelError as error:
        return refuse(failure(run, error))
    if how.keep is not None:
        await how.keep(record)
    return as_json(record, headers=facts.headers(usage["orchestra"]["cost_nanodollars"]))


async def _streamed(
    run: Run, gives: GivesAnswers, served: ServedChat, how: AnswerFormat, settings: Settings
) -> Response:
    """The streamed response of a run; a problem if the run fails before its first content."""
    facts = Facts(run.id, served.model, how.usage)
    kept = None
    if (keep := how.keep) is not None:

        async def kept(event: RunFinished) -> None:
            await keep(how.record(partial(gives.whole, event), facts.usage(event)))

    chunks = Chunks(run, gives, how.writer, facts)
    events = ChunkEvents(run, settings, chunks, kept, how.heartbeat)
    when_over(events.leave)
    failed = await events.open()
    if failed is not None:
        await run.wait_ended()
        return refuse(failure(run, failed))
    return EventStream(events, facts.headers())


def _asked_of(
    offer: Offer, served: ServedChat
) -> tuple[Pipeline[..., Any], Mapping[str, object], GivesAnswers]:
    """The pipeline that answers a request, its inputs, and how to read its output.

    Raises:
        InvalidRequestError: the offered model or pipeline cannot handle the request.
    """
    if isinstance(offer, Spoken):
        if served.choices > 1:
            raise refused("n", "this model is a pipeline, which gives a single answer; send 1")
        shape = offer.shape
        return shape.pipeline, shape.inputs(served.request), shape.gives
    inputs = {"request": served.request, "model": served.model, "choices": served.choices}
    return relay if served.stream else relay_whole, inputs, RELAYED


async def finished(run: Run) -> RunFinished:
    """Wait for the end of a run and return its last event.

    Raises:
        RefusedError: the run has no result.
    """
    await run.wait_ended()
    last = run.journal.last
    if not isinstance(last, RunFinished):
        raise RefusedError(failure(run, run.error))
    return last


def facts_of(run: Run, model: str, record: Callable[[Usage], Json] = usage_record) -> Facts:
    """The facts about an ended run; `record` is as in `Facts`."""
    facts = Facts(run.id, model, record)
    for event in run.journal.kept:
        if isinstance(event, StepRouted):
            facts.model = event.model
        elif isinstance(event, Delta) and facts.first_s is None:
            facts.first_s = event.at_s
    if facts.first_s is None:
        facts.first_s = run.journal.last.at_s
    return facts


def refusing(handler: Handler) -> Handler:
    """A decorator of handlers: answer the client with errors of the request or of a state."""

    @wraps(handler)
    async def answered(*args: Any, **values: Any) -> Any:
        try:
            return await handler(*args, **values)
        except RefusedError as error:
            return refuse(error.error)
        except LimitExceededError:
            return refuse(as_served(problems.too_busy()))
        except (ModelError, InputError, StateError) as error:
            return refuse(error_reply(error))

    return answered


def failure(run: Run, error: BaseException | None) -> ServedError:
    """The error of a run without a result. Clients must not retry what a client has cancelled."""
    reply = error_reply(error if error is not None else RuntimeError("no result"))
    if isinstance(error, RunCancelledError) and error.reason == CANCELLED:
        reply = reply.beside(NO_RETRY)
    return reply.beside((RUN_ID, run.id))


def refuse(error: ServedError) -> Response:
    """The response that answers the current request with an error."""
    return answer(shaped(arrived(), error))
