"""The routes of stored completions (`store: true`): list, show, change and delete them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial

import attrs
import msgspec
from quart import request
from quart_trio.wrappers import TrioResponse as Response

from orchestra.codecs.serving.errors import ServedError
from orchestra.codecs.serving.requests import asked_of, refused, tags_in
from orchestra.server.front.departure import principal
from orchestra.server.models.responding import RefusedError, body_as, refusing
from orchestra.server.openai.stored import Kept, StoredCompletions, Wanted
from orchestra.server.responses.whole_answers import as_json
from orchestra.values import Json

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
    """The handlers of the routes under `/v1/chat/completions` for stored completions."""

    stored: StoredCompletions

    @refusing
    async def list(self) -> Response:
        """List a page of the stored completions that the caller may see."""
        page = await self.stored.page(principal(), wanted_of(request.args.items(multi=True)))
        return page_of([each.record() for each in page.kept], more=page.more)

    @refusing
    async def read(self, completion: str) -> Response:
        """Show one completion."""
        return as_json((await found_in(self.stored, completion)).record())

    @refusing
    async def rename(self, completion: str) -> Response:
        """Replace the metadata of one completion."""
        asked, _ = await body_as(partial(asked_of, _CHANGES))
        found = await self.stored.rename(completion, principal(), dict(tags_in(asked.metadata)))
        if found is None:
            raise not_stored(self.stored, completion)
        return as_json(found.record())

    @refusing
    async def delete(self, completion: str) -> Response:
        """Delete one completion."""
        if not await self.stored.delete(completion, principal()):
            raise not_stored(self.stored, completion)
        return as_json({"id": completion, "object": "chat.completion.deleted", "deleted": True})

    @refusing
    async def messages(self, completion: str) -> Response:
        """List the messages that one completion answers."""
        wanted = wanted_of(request.args.items(multi=True))
        found = await found_in(self.stored, completion)
        shown, more = paged(found.messages, wanted)
        return page_of(shown, more=more)


def paged(each: Sequence[Json], wanted: Wanted) -> tuple[Sequence[Json], bool]:
    """The wanted page of `each`, in order, and whether more come after it."""
    found = each[::-1] if wanted.newest_first else each
    if wanted.after is not None:
        ids = [one["id"] for one in found]
        found = found[ids.index(wanted.after) + 1 :] if wanted.after in ids else []
    return found[: wanted.limit], 0 < wanted.limit < len(found)


def wanted_of(query: Iterable[tuple[str, str]]) -> Wanted:
    """The page that a query asks for.

    Raises:
        InvalidRequestError: the limit is not a number, is negative, or the order is unknown.
    """
    pairs = dict(query)
    try:
        asked = msgspec.convert(pairs, _Query, strict=False)
    except msgspec.ValidationError as error:
        limit = pairs.get("limit")
        raise refused("limit", f"{limit!r:.100} is not a number; send 1 or more") from error
    if asked.limit < 0:
        raise refused("limit", f"{asked.limit} is negative; send 1 or more")
    if asked.order not in ("asc", "desc"):
        raise refused("order", f"{asked.order!r:.100} is not an order; send asc or desc")
    metadata = {m[1]: value for name, value in pairs.items() if (m := _METADATA.fullmatch(name))}
    return Wanted(
        after=asked.after,
        limit=asked.limit,
        newest_first=asked.order == "desc",
        model=asked.model,
        metadata=metadata,
    )


async def found_in(stored: StoredCompletions, id_: str) -> Kept:
    """What is stored under this id.

    Raises:
        RefusedError: there is nothing, or the current caller may not see it.
        StateError: the state is unreachable.
    """
    found = await stored.get(id_, principal())
    if found is None:
        raise not_stored(stored, id_)
    return found


def not_stored(stored: StoredCompletions, id_: str) -> RefusedError:
    """The refusal of a request for something that is not stored."""
    message = f"There is no stored {stored.kind} {id_[:100]!r}."
    return RefusedError(ServedError(404, message, "not_found", f"{stored.kind}_id"))


def page_of(data: Sequence[Json], *, more: bool) -> Response:
    """A page of a list in OpenAI's format."""
    ids = [each["id"] for each in data] or [None]
    return as_json(
        {"object": "list", "data": data, "first_id": ids[0], "last_id": ids[-1], "has_more": more}
    )
