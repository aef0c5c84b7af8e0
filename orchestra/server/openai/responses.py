"""OpenAI's responses API: an answer as a list of items, and conversations that go on from one.

What is kept of a response are its items and those of all that was said before it, in the same
place and for as long as completions. Rules of the file: what somebody else has kept does not exist.
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
from orchestra.codecs.serving.errors import ServedError
from orchestra.codecs.serving.requests import ServedChat
from orchestra.computed import LARGE_BYTES, computed
from orchestra.errors import InvalidRequestError, StateError
from orchestra.policies.requests.needs import LARGE_PARTS
from orchestra.server.front.departure import principal
from orchestra.server.models.asked import (
    AnswerFormat,
    Answers,
    answering,
    json_body,
    refuse,
    refusing,
    respond,
)
from orchestra.server.models.catalog import Catalog
from orchestra.server.openai.stored import Kept, StoredCompletions, keep
from orchestra.server.openai.stored_chats import page_of, paged, wanted_of
from orchestra.server.responses.whole_answers import as_json
from orchestra.server.runs.pipelines import Runs

if TYPE_CHECKING:
    from orchestra.engine.run import Run
    from orchestra.values import Json

LOOK_S = 5.0
"""How long a question waits for what it goes on from."""


@attrs.frozen
class ResponsesApi:
    """The handlers of these routes."""

    runs: Runs
    catalog: Catalog
    stored: StoredCompletions
    """The responses that are kept."""

    @refusing
    async def create(self) -> Response:
        """What a model says, whole or as it says it."""
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
        """One that was kept."""
        found = await self._kept(response)
        return refuse(_unknown(response)) if found is None else as_json(found.completion)

    @refusing
    async def delete(self, response: str) -> Response:
        """That it is forgotten."""
        if not await self.stored.delete(response, principal()):
            return refuse(_unknown(response))
        return as_json({"id": response, "object": "response", "deleted": True})

    @refusing
    async def items(self, response: str) -> Response:
        """What one of them answers, with all that was said before it."""
        found = await self._kept(response)
        if found is None:
            return refuse(_unknown(response))
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

        def record(said: Answers, usage: Json) -> Json:
            if writer.record is not None:  # it was streamed
                return writer.record
            (one,) = said()
            return response_record(one, head, usage)

        keep = partial(self._keep, run, served) if served.store else None
        return AnswerFormat(writer=writer, record=record, keep=keep)

    async def _keep(self, run: Run, served: ServedChat, record: Json) -> None:
        await keep(self.stored, run, served, record, list(served.messages))

    async def _items(self, asked: AskedResponse) -> list[Json]:
        """The whole conversation: what was kept of it, and what is new.

        Raises:
            InvalidRequestError: something of it is not kept.
            StateError: the state is away.
        """
        who, before = principal(), asked.body.previous_response_id
        found, wanted = dict[str, Kept](), [*asked.referred(), *([before] if before else [])]
        try:
            with trio.fail_after(LOOK_S if wanted else float("inf")):
                for id_ in wanted:
                    if (kept := await self.stored.get(id_, who)) is not None:
                        found[id_] = kept
        except trio.TooSlowError as error:
            raise StateError(f"what {wanted[0]!r} holds did not come in {LOOK_S:g} s") from error
        items = asked.resolved({id_: kept.completion["output"] for id_, kept in found.items()})
        if not before:
            return items
        if before not in found:
            raise InvalidRequestError(
                f"previous_response_id: no response {before[:100]!r} is kept; send the whole "
                "conversation as `input`",
                code="previous_response_not_found",
                status=400,
            )
        last = found[before]
        return [*last.messages, *cast("list[Json]", last.completion["output"]), *items]

    async def _kept(self, response: str) -> Kept | None:
        return await self.stored.get(response, principal())


def _unknown(response: str) -> ServedError:
    said = f"There is no response {response[:100]!r} that was kept."
    return ServedError(404, said, "not_found", "response_id")
