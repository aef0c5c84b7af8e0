"""Anthropic's Messages API, for clients that know nothing else."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import attrs
from quart_trio.wrappers import TrioResponse as Response

from orchestra.codecs.anthropic_serving.answers import (
    PING,
    MessageWriter,
    message_record,
    message_usage,
)
from orchestra.codecs.anthropic_serving.request import served_messages
from orchestra.codecs.serving.requests import ServedChat
from orchestra.errors import TruncatedStreamError
from orchestra.policies.requests.tokens import of_chat
from orchestra.server.models.asked import (
    Job,
    answering,
    body_as,
    facts_of,
    failure,
    finished,
    job_of,
    refuse,
    refusing,
    streamed,
)
from orchestra.server.models.catalog import Catalog
from orchestra.server.models.stream import ChunkEvents, Chunks, Facts
from orchestra.server.runs.pipelines import Runs, as_json

if TYPE_CHECKING:
    from orchestra.engine.run import Run


@attrs.frozen
class MessagesApi:
    """The handlers of these routes."""

    runs: Runs
    catalog: Catalog

    @refusing
    async def create(self) -> Response:
        """What a model says, whole or as it says it."""
        served = await self._asked()
        job = job_of(answering(self.catalog, served.model), served)
        run = self.runs.begin(job.pipeline, job.inputs)
        if served.stream:
            return await self._stream(run, job, served)
        return await _whole(run, job, served)

    @refusing
    async def count(self) -> Response:
        """How many tokens a question has, as they are estimated for limits: rather too many."""
        served = await self._asked()
        answering(self.catalog, served.model)
        return as_json({"input_tokens": of_chat(served.request).input})

    async def _asked(self) -> ServedChat:
        return await body_as(partial(served_messages, allowed=self.runs.settings.allowed))

    async def _stream(self, run: Run, job: Job, served: ServedChat) -> Response:
        writer = MessageWriter(_message_id(run), served.model, run.request_id)
        facts = Facts(run.id, served.model, message_usage)
        chunks = Chunks(run, job.gives, writer, facts)
        events = _Events(run, self.runs.settings, chunks)
        return await streamed(run, events, facts)


class _Events(ChunkEvents):
    """As of others, but that a silence has an event in it."""

    heartbeat = PING


async def _whole(run: Run, job: Job, served: ServedChat) -> Response:
    event = await finished(run)
    facts = facts_of(run, served.model, message_usage)
    usage = facts.usage(event.usage)
    try:
        (said,) = job.gives.whole(event)
    except TruncatedStreamError as error:
        return refuse(failure(run, error))
    record = message_record(said, _message_id(run), served.model, usage)
    return as_json(record, headers=facts.headers(usage["orchestra"]["cost_nanodollars"]))


def _message_id(run: Run) -> str:
    return f"msg_{run.id}"
