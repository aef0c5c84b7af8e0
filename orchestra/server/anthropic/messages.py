"""Anthropic's Messages API: answers of models and pipelines, and token counts."""

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
from orchestra.policies.requests.tokens import of_chat
from orchestra.server.models.catalog import Catalog
from orchestra.server.models.responding import (
    AnswerFormat,
    Answers,
    answering,
    body_as,
    refusing,
    respond,
)
from orchestra.server.responses.whole_answers import as_json
from orchestra.server.runs.pipelines import Runs

if TYPE_CHECKING:
    from orchestra.engine.run import Run
    from orchestra.values import Json


@attrs.frozen
class MessagesApi:
    """The handlers of the routes under `/v1/messages`."""

    runs: Runs
    catalog: Catalog

    @refusing
    async def create(self) -> Response:
        """Answer a chat, whole or streamed."""
        served = await self._asked()
        offer = answering(self.catalog, served.model)
        return await respond(self.runs, offer, served, partial(_format, served))

    @refusing
    async def count(self) -> Response:
        """Count a request's input tokens, with the estimate used for limits: rather too high."""
        served = await self._asked()
        answering(self.catalog, served.model)
        return as_json({"input_tokens": of_chat(served.request).input})

    async def _asked(self) -> ServedChat:
        return await body_as(partial(served_messages, allowed=self.runs.settings.allowed))


def _format(served: ServedChat, run: Run) -> AnswerFormat:
    message_id = f"msg_{run.id}"

    def record(answers: Answers, usage: Json) -> Json:
        (one,) = answers()
        return message_record(one, message_id, served.model, usage)

    return AnswerFormat(
        writer=MessageWriter(message_id, served.model, run.request_id),
        record=record,
        usage=message_usage,
        heartbeat=PING,  # an event, like Anthropic's own
    )
