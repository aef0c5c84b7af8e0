"""The keys of a deployment, kept in a `State`.

Rules of the file: nothing about keys is cached, so that every process refuses a revoked key at
once; and without the state, nobody is let in.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from functools import partial

import attrs

from orchestra.access import changes
from orchestra.access.changes import (
    HEAD,
    Changed,
    FreshSecret,
    Made,
    OtherPage,
    page_key,
    record_key,
)
from orchestra.access.keys import KeyRecord, Refusal, admit, decoded, malformed
from orchestra.access.principal import Principal
from orchestra.access.token import ENTROPY_BYTES, PREFIX, Token, id_of, minted, parsed
from orchestra.access.wanted import KeyChanges, NewKey, check, check_changes, check_lasting
from orchestra.errors import StateError, StoreError
from orchestra.protocols import State
from orchestra.records import AS_IT_IS

SALT_BYTES = 16
ATTEMPTS_MAX = 50
"""How often making a key is tried, if others fill page after page meanwhile."""


@attrs.frozen
class Page:
    """Some keys, the older first, and the time of the state that they are in.

    `next` is the number of the next page, None after the last.
    """

    keys: tuple[KeyRecord, ...]
    now_s: float
    next: int | None


class Keyring:
    """All API keys in a state.

    A key is named by its id, by `ork_ID`, or by its whole text. `random_bytes` returns as many
    unguessable bytes as it is asked for.
    """

    def __init__(
        self, state: State, *, random_bytes: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._state = state
        self._random_bytes = random_bytes

    async def authenticate(self, token: str) -> Principal | Refusal:
        """The principal of a token, which may be any text; or why it is refused.

        Raises:
            StateError: the state is gone, or too slow; nobody may be let in.
        """
        found = parsed(token)
        if found is None:
            return malformed(token)
        see = partial(_admitted, found)
        return await self._state.look((record_key(found.id),), see, AS_IT_IS)

    async def any_made(self) -> bool:
        """Whether any key was ever made, revoked ones included.

        Raises:
            StateError: the state is gone, or too slow.
        """
        return await self._state.look((HEAD,), _is_there, AS_IT_IS)

    async def create(self, wanted: NewKey) -> Made:
        """A new key. Its text can never be shown again.

        Raises:
            StoreError: its properties are wrong.
            StateError: as of `any_made`; the key may have been made, but nobody has it.
        """
        check(wanted)
        page = 0
        for _ in range(ATTEMPTS_MAX):
            fresh = self._fresh()
            keys = (HEAD, page_key(page), record_key(fresh.token.id))
            found: Made | OtherPage = await self._state.change(
                keys, partial(changes.made, fresh, wanted, page)
            )
            if isinstance(found, Made):
                return found
            page = found.page
        raise StateError(
            f"other processes changed the keys at the same moment, {ATTEMPTS_MAX} times in a row; "
            "no key was made: try again"
        )

    async def list(self, page: int = 0) -> Page:
        """The keys of a page, in the order in which they were made; none beyond the last.

        Raises:
            StateError: as of `any_made`.
        """
        index = await self._state.look((HEAD, page_key(page)), changes.index, AS_IT_IS)
        more = page + 1 < index.pages
        records = await self._records(index.ids) if index.ids else ()
        return Page(records, index.now_s, page + 1 if more else None)

    async def find(self, id: str) -> KeyRecord:  # noqa: A002 - what it is
        """One key.

        Raises:
            StoreError: there is no such key.
            StateError: as of `any_made`.
        """
        key = _named(id)
        return await self._state.look((record_key(key),), partial(changes.found, key), AS_IT_IS)

    async def rotate(
        self,
        id: str,  # noqa: A002 - what it is
        *,
        grace_s: float = 0.0,
        lasts_s: float | None = None,
    ) -> Made:
        """A new secret for a key; each older one is good for `grace_s` from now, and no longer.

        `lasts_s` is for how long the key is good from now on; None leaves its end as it is.

        Raises:
            StoreError: there is no such key, it is revoked or has expired, or too many of its
                older secrets are still good.
            StateError: as of `any_made`; it has happened, or has not.
        """
        check_lasting("grace_s", grace_s)
        check_lasting("lasts_s", lasts_s, least_s=1.0)
        key, fresh = _named(id), self._fresh()
        fresh = FreshSecret(Token(key, fresh.token.secret), fresh.salt)
        decide = partial(changes.rotated, fresh, grace_s, lasts_s)
        return await self._state.change((record_key(key),), decide)

    async def change(self, id: str, wanted: KeyChanges) -> Changed:  # noqa: A002 - what it is
        """Change what is wanted of a key, from the next request on.

        What it has spent stays spent. What it has begun goes on as it was.

        Raises:
            StoreError: there is no such key, it was revoked, or it may not be so.
            StateError: as of `any_made`; it has happened, or has not.
        """
        check_changes(wanted)
        key = _named(id)
        return await self._state.change((record_key(key),), partial(changes.changed, key, wanted))

    async def revoke(self, id: str) -> KeyRecord:  # noqa: A002 - what it is
        """Revoke a key, from now on; again changes nothing.

        Raises:
            StoreError: there is no such key.
            StateError: as of `any_made`; it has happened, or has not.
        """
        key = _named(id)
        return await self._state.change((record_key(key),), partial(changes.revoked, key))

    def _fresh(self) -> FreshSecret:
        token = minted(self._random_bytes(ENTROPY_BYTES))
        return FreshSecret(token, self._random_bytes(SALT_BYTES))

    async def _records(self, ids: Sequence[str]) -> tuple[KeyRecord, ...]:
        keys = tuple(map(record_key, ids))
        return await self._state.look(keys, partial(changes.listed, ids), AS_IT_IS)


def _named(text: str) -> str:
    found = id_of(text)
    if found is None:
        raise StoreError(
            f"{text[:16]!a} is not the id of a key; write ID or {PREFIX}ID, as "
            "`orchestra keys list` shows them"
        )
    return found


def _admitted(token: Token, kept: Sequence[bytes | None], now_s: float) -> Principal | Refusal:
    (data,) = kept
    record = None if data is None else decoded(token.id, data)
    return admit(record, token, now_s)


def _is_there(kept: Sequence[bytes | None], now_s: float) -> bool:
    del now_s
    return kept[0] is not None
