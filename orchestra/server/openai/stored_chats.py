"""The routes of completions that clients asked to be kept: they list, read, rename, forget them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from typing import cast

import attrs
import msgspec
from quart import request
from quart_trio.wrappers import TrioResponse as Response

from orchestra.codecs.openai_serving.errors import BAD_REQUEST, error_reply, reply
from orchestra.codecs.openai_serving.request import asked_of, refused
from orchestra.errors import InvalidRequestError, StateError
from orchestra.server.front.arrival import Arrival
from orchestra.server.openai.errors import OpenAiProblem, told
from orchestra.server.openai.stored import StoredCompletions, Wanted
from orchestra.server.runs.pipelines import answer, as_json
from orchestra.values import Json

log = logging.getLogger("orchestra.server")

_METADATA = re.compile(r"metadata\[(.+)\]")


class _Change(msgspec.Struct):
    metadata: dict[str, str] | None


class _Query(msgspec.Struct):
    after: str | None = None
    limit: int = 20
    order: str = "asc"
    model: str | None = None


_CHANGES = msgspec.json.Decoder(_Change)


@attrs.frozen
class StoredApi:
    """The handlers of these routes."""

    stored: StoredCompletions

    async def list(self) -> Response:
        """A page of them."""
        who = Arrival.of(request.scope).known()
        try:
            page = await self.stored.page(who, wanted_of(request.args.items(multi=True)))
        except (InvalidRequestError, StateError) as error:
            return answer(told(error_reply(error)))
        return page_of([each.record() for each in page.kept], more=page.more)

    async def read(self, completion: str) -> Response:
        """One of them."""
        try:
            found = await self.stored.get(completion, Arrival.of(request.scope).known())
        except StateError as error:
            return answer(told(error_reply(error)))
        return answer(_unknown(completion)) if found is None else as_json(found.record())

    async def rename(self, completion: str) -> Response:
        """One of them, with other metadata."""
        who = Arrival.of(request.scope).known()
        try:
            asked, _ = asked_of(_CHANGES, cast("bytes", await request.get_data()))
            found = await self.stored.rename(completion, who, asked.metadata or {})
        except (InvalidRequestError, StateError) as error:
            return answer(told(error_reply(error)))
        return answer(_unknown(completion)) if found is None else as_json(found.record())

    async def delete(self, completion: str) -> Response:
        """That it is forgotten."""
        try:
            gone = await self.stored.delete(completion, Arrival.of(request.scope).known())
        except StateError as error:
            return answer(told(error_reply(error)))
        if not gone:
            return answer(_unknown(completion))
        return as_json({"id": completion, "object": "chat.completion.deleted", "deleted": True})

    async def messages(self, completion: str) -> Response:
        """What was asked for one of them."""
        try:
            wanted = wanted_of(request.args.items(multi=True))
            found = await self.stored.get(completion, Arrival.of(request.scope).known())
        except (InvalidRequestError, StateError) as error:
            return answer(told(error_reply(error)))
        if found is None:
            return answer(_unknown(completion))
        shown, more = paged(found.messages, wanted)
        return page_of(shown, more=more)


def paged(each: Sequence[Json], wanted: Wanted) -> tuple[Sequence[Json], bool]:
    """Those of these that are wanted, by their ids, and whether there are more behind them."""
    found = each[::-1] if wanted.newest_first else each
    if wanted.after is not None:
        ids = [one["id"] for one in found]
        found = found[ids.index(wanted.after) + 1 :] if wanted.after in ids else []
    return found[: wanted.limit], 0 < wanted.limit < len(found)


def wanted_of(query: Iterable[tuple[str, str]]) -> Wanted:
    """What the query asks for.

    Raises:
        InvalidRequestError: a limit is no number, or an order is none.
    """
    pairs = dict(query)
    try:
        asked = msgspec.convert(pairs, _Query, strict=False)
    except msgspec.ValidationError as error:
        raise refused("limit", f"{pairs.get('limit')!r:.100} is no number") from error
    if asked.limit < 0:
        raise refused("limit", f"{asked.limit} is too few; send 1 or more")
    if asked.order not in ("asc", "desc"):
        raise refused("order", f"{asked.order!r:.100} is none; send asc or desc")
    metadata = {m[1]: value for name, value in pairs.items() if (m := _METADATA.fullmatch(name))}
    return Wanted(
        after=asked.after,
        limit=asked.limit,
        newest_first=asked.order == "desc",
        model=asked.model,
        metadata=metadata,
    )


def _unknown(completion: str) -> OpenAiProblem:
    said = f"There is no completion {completion[:100]!r} that you asked to be kept."
    return told(reply(404, said, BAD_REQUEST, code="not_found", param="completion_id"))


def page_of(data: Sequence[Json], *, more: bool) -> Response:
    """A page of these."""
    ids = [each["id"] for each in data] or [None]
    return as_json(
        {"object": "list", "data": data, "first_id": ids[0], "last_id": ids[-1], "has_more": more}
    )
