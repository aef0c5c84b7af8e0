"""Completions that clients asked to store (`store`), in the state of the deployment.

Each is kept for thirty days. Of an organisation (or of a user without one), the last thousand are
kept, or the last 16 MiB.

Rules of the file: a completion and its place in the list are written in one change. A completion
that the caller may not see is answered like one that does not exist.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import attrs
import msgspec
import trio

from orchestra.access.principal import Principal
from orchestra.accounts import Caller
from orchestra.codecs.serving.requests import ServedChat
from orchestra.computed import LARGE_BYTES, computed
from orchestra.errors import StateError
from orchestra.protocols import Change, Entry, State
from orchestra.records import readable
from orchestra.server.runs.relay import relay
from orchestra.server.runs.words import model_of
from orchestra.values import Json

if TYPE_CHECKING:
    from orchestra.engine.run import Run

log = logging.getLogger("orchestra.server")

T = TypeVar("T")

KEEP_S = 2.0
"""How long an answer may be delayed to store it."""
KEPT_S = 30 * 24 * 3600.0
"""How long a completion is kept: as long as OpenAI keeps it."""
COUNT_MAX = 1_000
"""The most completions of one organisation; the oldest are deleted."""
BYTES_MAX = 256 * 1024
"""The largest completion that is stored: a state is not made for larger values."""
TOGETHER_BYTES_MAX = 16 * 1024 * 1024
"""The most bytes of one organisation's completions, which the state's `limit_bytes` does not bound;
the oldest are deleted."""
PAGE_MAX = 100
_AT_ONCE = 8  # completions are read together: at most 2 MiB
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


_Changed: TypeAlias = "tuple[Kept, Mapping[str, Entry | None]]"


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A stored completion: in OpenAI's format, with the messages it answers and its metadata."""

    organisation: str
    user: str
    model: str
    completion: Json
    messages: list[Json]
    metadata: dict[str, str]
    end_user: bool = False
    pipeline: str = ""
    """The pipeline that answered; empty if a model did."""

    @property
    def owner(self) -> Caller:
        """The caller whose request created the completion."""
        return Caller(self.organisation, self.user, end_user=self.end_user)

    def record(self) -> Json:
        """The completion with its metadata."""
        return {**self.completion, "metadata": self.metadata}


@attrs.frozen(kw_only=True)
class Wanted:
    """Which completions a client wants to list, and after which id (`after`)."""

    after: str | None = None
    limit: int = 20
    newest_first: bool = False
    model: str | None = None
    metadata: Mapping[str, str] = attrs.field(factory=dict)

    def has(self, kept: Kept) -> bool:
        """Whether a completion has the wanted model and metadata."""
        if self.model is not None and kept.model != self.model:
            return False
        return all(kept.metadata.get(name) == value for name, value in self.metadata.items())


@attrs.frozen
class StoredPage:
    """A page of completions; `more` is whether others come after them."""

    kept: tuple[Kept, ...]
    more: bool


class StoredCompletions:
    """The stored completions; `state` is called when the state is needed.

    `kind`, which is `completion` or `response`, keeps different ones in the same state apart.
    """

    def __init__(self, state: Callable[[], State], kind: str = "completion") -> None:
        self._state = state
        self.kind = kind

    def beside(self, kind: str) -> StoredCompletions:
        """The stored ones of another kind, in the same state."""
        return StoredCompletions(self._state, kind)

    async def keep(self, id_: str, kept: Kept) -> bool:
        """Store a completion; False if it is too large. May delete the organisation's oldest.

        Raises:
            StateError: the state is unreachable.
        """
        data = _encode(kept)
        if len(data) > BYTES_MAX:
            return False
        key, place = self._key(id_), self._place(kept.owner)

        def placed(found: Sequence[bytes | None], now_s: float) -> Change[list[str]]:
            del now_s
            sizes = _sizes(found[0])
            sizes.pop(id_, None)
            sizes[id_] = len(data)
            over = _over(sizes)
            return Change(over, {key: Entry(data, KEPT_S), place: Entry(_encode(sizes), KEPT_S)})

        gone = await self._state().change([place], placed)
        if gone:  # they are not in the list any more
            await self._state().change(
                [], lambda _, __: Change(None, {self._key(each): None for each in gone})
            )
        return True

    async def get(self, id_: str, who: Principal) -> Kept | None:
        """A completion; None if there is none, or `who` may not see it.

        Raises:
            StateError: the state is unreachable.
        """
        return (await self.several([id_], who)).get(id_)

    async def several(self, ids: Sequence[str], who: Principal) -> dict[str, Kept]:
        """Those of these completions that there are, and that `who` may see, by their ids.

        Raises:
            StateError: the state is unreachable.
        """
        ids = [each for each in dict.fromkeys(ids) if _ID.fullmatch(each)]
        if not ids:
            return {}
        keys = [self._key(each) for each in ids]
        found = await self._state().change(keys, lambda data, _: Change(data))
        large = sum(len(each) for each in found if each) > LARGE_BYTES  # they may have megabytes
        read = await computed(lambda: [*map(_read, found)], large=large)
        kept = zip(ids, read, strict=True)
        return {id_: each for id_, each in kept if each is not None and _visible(each, who)}

    async def rename(self, id_: str, who: Principal, metadata: dict[str, str]) -> Kept | None:
        """Replace the metadata of a completion; returns the completion, or None as in `get`.

        A completion that would become too large is returned unchanged.

        Raises:
            StateError: the state is unreachable.
        """

        def renamed(kept: Kept, sizes: dict[str, int]) -> _Changed:
            new = msgspec.structs.replace(kept, metadata=metadata)
            data = _encode(new)
            sizes[id_] = len(data)
            if len(data) > BYTES_MAX or sum(sizes.values()) > TOGETHER_BYTES_MAX:
                return kept, {}
            return new, {self._key(id_): Entry(data, KEPT_S), place: Entry(_encode(sizes), KEPT_S)}

        place = self._place(who.caller)

        return await self._changed(id_, who, renamed)

    async def delete(self, id_: str, who: Principal) -> bool:
        """Delete a completion; whether there was one that `who` may see.

        Raises:
            StateError: the state is unreachable.
        """
        place = self._place(who.caller)

        def without(kept: Kept, sizes: dict[str, int]) -> _Changed:
            sizes.pop(id_, None)
            return kept, {self._key(id_): None, place: Entry(_encode(sizes), KEPT_S)}

        return await self._changed(id_, who, without) is not None

    async def page(self, who: Principal, wanted: Wanted) -> StoredPage:
        """A page of the wanted completions that `who` may see, in order of their creation.

        An empty page never has `more`: a client would ask for the same page again, forever.

        Raises:
            StateError: the state is unreachable.
        """
        place = self._place(who.caller)
        ids = await self._state().change([place], lambda found, _: Change([*_sizes(found[0])]))
        if wanted.newest_first:
            ids.reverse()
        if wanted.after is not None:
            ids = ids[ids.index(wanted.after) + 1 :] if wanted.after in ids else []
        found: list[Kept] = []
        most = min(wanted.limit, PAGE_MAX)
        for at in range(0, len(ids), _AT_ONCE):
            for kept in (await self.several(ids[at : at + _AT_ONCE], who)).values():
                if not wanted.has(kept):
                    continue
                if len(found) == most:
                    return StoredPage(tuple(found), more=most > 0)
                found.append(kept)
        return StoredPage(tuple(found), more=False)

    def _key(self, id_: str) -> str:
        return f"{self.kind}:{id_}"

    def _place(self, caller: Caller) -> str:
        """The key of the list: one for each organisation, including its users and end users."""
        tenant = blake2b(caller.fairness_key.encode(), digest_size=16).hexdigest()
        return f"{self.kind}-sizes:{tenant}"

    async def _changed(
        self,
        id_: str,
        who: Principal,
        change: Callable[[Kept, dict[str, int]], _Changed],
    ) -> Kept | None:
        if not _ID.fullmatch(id_):
            return None

        def decide(found: Sequence[bytes | None], now_s: float) -> Change[Kept | None]:
            del now_s
            kept = _read(found[0])
            if kept is None or not _visible(kept, who):
                return Change(None)
            return Change(*change(kept, _sizes(found[1])))

        return await self._state().change([self._key(id_), self._place(who.caller)], decide)


def messages_of(id_: str, messages: Sequence[Json]) -> list[Json]:
    """The messages as OpenAI lists them: each with an id, and a list of parts apart from text."""
    listed = list[Json]()
    for at, message in enumerate(messages):
        content = message.get("content")
        text, parts = (None, content) if isinstance(content, list) else (content, None)
        beside = {"refusal": message.get("refusal"), "content": text, "content_parts": parts}
        listed.append({**message, "id": f"{id_}-{at}", **beside})
    return listed


async def keep(
    stored: StoredCompletions, run: Run, served: ServedChat, asked: list[Json], record: Json
) -> None:
    """Store a complete answer within `KEEP_S`; a failure is only logged.

    `asked` are the messages or items that it answers, in the format in which they are listed.
    """
    id_ = record["id"]
    kept = Kept(
        organisation=run.caller.organisation,
        user=run.caller.user,
        model=served.model,
        completion=record,
        messages=asked,
        metadata=dict(served.metadata),
        end_user=run.caller.end_user,
        pipeline="" if model_of(run) else run.pipeline,
    )
    try:
        with trio.fail_after(KEEP_S):
            if not await stored.keep(id_, kept):
                log.warning("%s is not stored: it is larger than %d bytes", id_, BYTES_MAX)
    except (StateError, trio.TooSlowError) as error:
        log.warning("%s is not stored: %r", id_, error)


def _visible(kept: Kept, who: Principal) -> bool:
    """Whether `who` may see a completion: as the run that made it."""
    model = None if kept.pipeline else kept.model
    return who.sees(kept.owner, kept.pipeline or relay.name, model)


def _read(data: bytes | None) -> Kept | None:
    """The stored completion; None if there is none, or it cannot be read."""
    return readable(_KEPT.decode, data, "a stored completion")


def _sizes(data: bytes | None) -> dict[str, int]:
    """The sizes in bytes of an organisation's completions by id, oldest first."""
    return readable(_SIZES.decode, data, "a list of completions") or {}


def _over(sizes: dict[str, int]) -> list[str]:
    """Remove the oldest completions beyond the limits from `sizes`; returns their ids."""
    total, over = sum(sizes.values()), []
    while len(sizes) > COUNT_MAX or total > TOGETHER_BYTES_MAX:
        id_ = next(iter(sizes))
        total -= sizes.pop(id_)
        over.append(id_)
    return over


_encode = msgspec.json.Encoder().encode
_KEPT = msgspec.json.Decoder(Kept)
_SIZES = msgspec.json.Decoder(dict[str, int])
