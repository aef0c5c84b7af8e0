"""OpenAI's responses API: answers as lists of items, and conversations that continue from one.

A response is stored with its items and all items of the conversation before it, in the same way and
for as long as completions. Rules of the file: a response that the caller may not see is answered
like one that does not exist.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, cast

import attrs
import trio
from quart import request
from quart_trio.wrappers import TrioResponse as Response

from orchestra.codecs.openai_serving.responses import ResponseWriter
from orchestra.codecs.openai_serving.responses_record import ResponseHead, response_record
from orchestra.codecs.openai_serving.responses_request import (
    AskedResponse,
    asked_response,
    served_response,
)
from orchestra.codecs.serving.requests import ServedChat
from orchestra.computed import LARGE_BYTES, computed
from orchestra.errors import InvalidRequestError, StateError
from orchestra.policies.requests.needs import LARGE_PARTS
from orchestra.server.front.departure import principal
from orchestra.server.models.catalog import Catalog
from orchestra.server.models.responding import (
    AnswerFormat,
    Answers,
    answering,
    json_body,
    refusing,
    respond,
)
from orchestra.server.openai.stored import StoredCompletions, keep
from orchestra.server.openai.stored_chats import found_in, not_stored, page_of, paged, wanted_of
from orchestra.server.responses.whole_answers import as_json
from orchestra.server.runs.pipelines import Runs

if TYPE_CHECKING:
    from orchestra.engine.run import Run
    from orchestra.values import Json

LOOK_S = 5.0
"""How long a request waits for the stored responses that it refers to."""


@attrs.frozen
class ResponsesApi:
    """The handlers of the routes under `/v1/responses`."""

    runs: Runs
    catalog: Catalog
    stored: StoredCompletions
    """The stored responses."""

    @refusing
    async def create(self) -> Response:
        """Answer a request, whole or streamed."""
        settings = self.runs.settings
        body = await json_body()
        large = len(body) > LARGE_BYTES
        asking = partial(asked_response, body, stores=settings.store_answers)
        asked = await computed(asking, large=large)
        offer = answering(self.catalog, asked.body.model)
        items = await self._items(asked)
        serving = partial(served_response, asked, items, settings.allowed)
        served = await computed(serving, large=large or len(items) > LARGE_PARTS)
        return await respond(self.runs, offer, served, partial(self._format, served, asked))

    @refusing
    async def read(self, response: str) -> Response:
        """Show a stored response."""
        return as_json((await found_in(self.stored, response)).completion)

    @refusing
    async def delete(self, response: str) -> Response:
        """Delete a stored response."""
        if not await self.stored.delete(response, principal()):
            raise not_stored(self.stored, response)
        return as_json({"id": response, "object": "response", "deleted": True})

    @refusing
    async def items(self, response: str) -> Response:
        """List the items that a stored response answers: its input, and all before it."""
        found = await found_in(self.stored, response)
        items = [
            {"type": "message", "id": f"in_{response}_{at}", **item}
            for at, item in enumerate(found.messages)
        ]
        shown, more = paged(items, wanted_of(request.args.items(multi=True)))
        return page_of(shown, more=more)

    def _format(self, served: ServedChat, asked: AskedResponse, run: Run) -> AnswerFormat:
        head = ResponseHead(
            run.id, served.model, int(time.time()), asked.echo(), dict(served.metadata)
        )
        writer = ResponseWriter(head)

        def record(answers: Answers, usage: Json) -> Json:
            if writer.record is not None:  # it was streamed
                return writer.record
            (one,) = answers()
            return response_record(one, head, usage)

        async def store(record: Json) -> None:
            await keep(self.stored, run, served, list(served.messages), record)

        return AnswerFormat(writer=writer, record=record, keep=store if served.store else None)

    async def _items(self, asked: AskedResponse) -> list[Json]:
        """The items of the whole conversation: the stored ones, and those of the request.

        Raises:
            InvalidRequestError: something that the request refers to is not stored.
            StateError: the state is unreachable.
        """
        who, before = principal(), asked.body.previous_response_id
        wanted = [*asked.referred(), *([before] if before else [])]
        try:
            with trio.fail_after(LOOK_S if wanted else float("inf")):
                found = await self.stored.several(wanted, who)
        except trio.TooSlowError as error:
            raise StateError(
                f"reading the stored response {wanted[0][:100]!r}, and others that the request "
                f"refers to, took longer than {LOOK_S:g} s"
            ) from error
        items = asked.resolved({id_: kept.completion["output"] for id_, kept in found.items()})
        if not before:
            return items
        if before not in found:
            raise InvalidRequestError(
                f"previous_response_id: no response {before[:100]!r} is stored; send the whole "
                "conversation as `input`",
                code="previous_response_not_found",
                status=400,
            )
        last = found[before]
        return [*last.messages, *cast("list[Json]", last.completion["output"]), *items]
