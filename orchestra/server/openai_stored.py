"""Completions that clients asked to be kept (`store`), in the state of the deployment.

Each is kept for thirty days, and of a tenant's the last thousand. Rules of the file: a completion
and its place in the list are written together; what somebody else has kept does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import TypeVar

import attrs
import msgspec

from orchestra.access.principal import Principal
from orchestra.accounts import Caller
from orchestra.protocols import Change, Entry, State
from orchestra.values import Json

T = TypeVar("T")

KEPT_S = 30 * 24 * 3600.0
"""As long as OpenAI keeps them."""
COUNT_MAX = 1_000
"""Of one tenant's, the last so many are listed."""
BYTES_MAX = 256 * 1024
"""One that is larger is not kept: the state is no place for it."""
PAGE_MAX = 100
_AT_ONCE = 32  # completions are read together
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One completion: as OpenAI would tell it, what was asked, and what its client calls it."""

    organisation: str
    user: str
    model: str
    completion: Json
    messages: list[Json]
    metadata: dict[str, str]

    def record(self) -> Json:
        """The completion with its metadata."""
        return {**self.completion, "metadata": self.metadata}


@attrs.frozen(kw_only=True)
class Wanted:
    """Which completions a client wants to see, and from where on."""

    after: str | None = None
    limit: int = 20
    newest_first: bool = False
    model: str | None = None
    metadata: Mapping[str, str] = attrs.field(factory=dict)

    def has(self, kept: Kept) -> bool:
        """Whether it is one of those."""
        if self.model is not None and kept.model != self.model:
            return False
        return all(kept.metadata.get(name) == value for name, value in self.metadata.items())


@attrs.frozen
class StoredPage:
    """Some completions; `more` is whether there are others behind them."""

    kept: tuple[Kept, ...]
    more: bool


class StoredCompletions:
    """The completions that are kept. `state` is asked for when one is."""

    def __init__(self, state: Callable[[], State]) -> None:
        self._state = state

    async def keep(self, id_: str, kept: Kept) -> bool:
        """Keep a completion, if it is not too large.

        Raises:
            StateError: the state is away.
        """
        data = _encode(kept)
        if len(data) > BYTES_MAX:
            return False
        key, place = _key(id_), _place(Caller(kept.organisation, kept.user))

        def placed(found: Sequence[bytes | None], now_s: float) -> Change[list[str]]:
            del now_s
            ids = [*(each for each in _ids(found[0]) if each != id_), id_]
            last = _encode(ids[-COUNT_MAX:])
            return Change(ids[:-COUNT_MAX], {key: Entry(data, KEPT_S), place: Entry(last, KEPT_S)})

        gone = await self._state().change([place], placed)
        if gone:  # they have no place any more
            await self._state().change(
                [], lambda _, __: Change(None, {_key(each): None for each in gone})
            )
        return True

    async def get(self, id_: str, who: Principal) -> Kept | None:
        """A completion that `who` may see; None where there is none.

        Raises:
            StateError: the state is away.
        """
        return await self._changed(id_, who, lambda kept: (kept, {}))

    async def rename(self, id_: str, who: Principal, metadata: dict[str, str]) -> Kept | None:
        """A completion with other metadata; None where there is none. Raises as `get`.

        One that would be too large with it stays as it was.
        """

        def renamed(kept: Kept) -> tuple[Kept, Mapping[str, Entry | None]]:
            new = msgspec.structs.replace(kept, metadata=metadata)
            data = _encode(new)
            return (new, {_key(id_): Entry(data, KEPT_S)}) if len(data) <= BYTES_MAX else (kept, {})

        return await self._changed(id_, who, renamed)

    async def delete(self, id_: str, who: Principal) -> bool:
        """Forget a completion, and tell whether there was one. Raises as `get`."""
        found = await self._changed(id_, who, lambda kept: (kept, {_key(id_): None}))
        return found is not None

    async def page(self, who: Principal, wanted: Wanted) -> StoredPage:
        """Completions of this tenant that are wanted, in order. Raises as `get`.

        A page of none has no more behind it: who goes on by its last id would go on for ever.
        """
        place = _place(who.caller)
        ids = await self._state().change([place], lambda found, _: Change(_ids(found[0])))
        if wanted.newest_first:
            ids.reverse()
        if wanted.after is not None:
            ids = ids[ids.index(wanted.after) + 1 :] if wanted.after in ids else []
        found: list[Kept] = []
        most = min(wanted.limit, PAGE_MAX)
        for at in range(0, len(ids), _AT_ONCE):
            for kept in await self._several(ids[at : at + _AT_ONCE]):
                if not _visible(kept, who) or not wanted.has(kept):
                    continue
                if len(found) == most:
                    return StoredPage(tuple(found), more=most > 0)
                found.append(kept)
        return StoredPage(tuple(found), more=False)

    async def _several(self, ids: Sequence[str]) -> list[Kept]:
        keys = [_key(each) for each in ids]
        found = await self._state().change(keys, lambda data, _: Change(list(data)))
        return [_KEPT.decode(each) for each in found if each is not None]

    async def _changed(
        self,
        id_: str,
        who: Principal,
        change: Callable[[Kept], tuple[Kept, Mapping[str, Entry | None]]],
    ) -> Kept | None:
        if not _ID.fullmatch(id_):
            return None

        def decide(found: Sequence[bytes | None], now_s: float) -> Change[Kept | None]:
            del now_s
            kept = _KEPT.decode(found[0]) if found[0] is not None else None
            if kept is None or not _visible(kept, who):
                return Change(None)
            return Change(*change(kept))

        return await self._state().change([_key(id_)], decide)


def messages_of(id_: str, messages: Sequence[Json]) -> list[Json]:
    """What was asked, each message with an id, and its text apart from parts that are none."""
    return [
        {
            **message,
            "id": f"{id_}-{at}",
            "refusal": message.get("refusal"),
            "content": None if isinstance(message.get("content"), list) else message.get("content"),
            "content_parts": message["content"]
            if isinstance(message.get("content"), list)
            else None,
        }
        for at, message in enumerate(messages)
    ]


def _visible(kept: Kept, who: Principal) -> bool:
    """As of runs: it is theirs or their organisation's, and of what they may ask."""
    may_ask = who.scopes.may_ask(kept.model) or who.scopes.may_run(kept.model)
    return may_ask and who.may_see(Caller(kept.organisation, kept.user))


def _ids(data: bytes | None) -> list[str]:
    return [] if data is None else _IDS.decode(data)


def _key(id_: str) -> str:
    return f"completion:{id_}"


def _place(caller: Caller) -> str:
    """Where the list of a tenant's completions is; an organisation has one, not its users."""
    return f"completions:{blake2b(caller.tenant.encode(), digest_size=16).hexdigest()}"


_encode = msgspec.json.Encoder().encode
_KEPT = msgspec.json.Decoder(Kept)
_IDS = msgspec.json.Decoder(list[str])
