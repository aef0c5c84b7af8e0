"""The API keys of a deployment, stored in a `State`.

Rules of the file: nothing about keys is cached, so that every process refuses a revoked key at
once; while the state is unreachable, no key is accepted. The use of a key is noted once an hour: a
write for each request would cost more than its check.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import inf

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
    use_key,
)
from orchestra.access.keys import KeyRecord, Refusal, admit, decoded
from orchestra.access.principal import Principal
from orchestra.access.token import (
    ENTROPY_BYTES,
    PREFIX,
    Token,
    id_of,
    minted,
    parsed,
    why_malformed,
)
from orchestra.access.wanted import KeyChanges, NewKey, check, check_changes, check_lasting
from orchestra.errors import StateError, StoreError
from orchestra.protocols import State
from orchestra.records import AS_IT_IS

SALT_BYTES = 16
ATTEMPTS_MAX = 50
"""How often creating a key is attempted while other processes fill page after page."""

USE_EVERY_S = 3600.0
"""How often a process notes the use of a key."""
USES_MAX = 10_000
"""The most keys whose last notes a process remembers."""


@attrs.frozen
class Page:
    """One page of keys, oldest first; `now_s` is the time by the clock of the state.

    `next` is the number of the next page, None on the last page.
    """

    keys: tuple[KeyRecord, ...]
    now_s: float
    next: int | None


class Keyring:
    """All API keys in a state.

    Methods take the id of a key as `ID`, as `ork_ID`, or as the whole text of the key.
    `random_bytes` must return the given number of cryptographically random bytes.
    """

    def __init__(
        self, state: State, *, random_bytes: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._state = state
        self._random_bytes = random_bytes
        self._noted_s: dict[str, float] = {}

    async def authenticate(self, token: str) -> Principal | Refusal:
        """The principal of a token, or the reason for its refusal; the token may be any text.

        Raises:
            StateError: the state is unreachable or too slow; the request must be refused.
        """
        found = parsed(token)
        if found is None:
            return Refusal("malformed", why_malformed(token))
        see = partial(_admitted, found)
        result, now_s = await self._state.look((record_key(found.id),), see, AS_IT_IS)
        due_s = self._noted_s.get(found.id, -inf) + USE_EVERY_S
        if isinstance(result, Principal) and now_s >= due_s:
            await self._note_use(found.id, now_s)
        return result

    async def last_used(self, ids: Sequence[str]) -> dict[str, float]:
        """When these keys were last used, up to an hour before; keys without a use are left out.

        In seconds since 1970, by the clock of the state.

        Raises:
            StateError: as for `any_made`.
        """
        found: dict[str, float] = {}
        for at in range(0, len(ids), changes.PAGE_KEYS):
            some = ids[at : at + changes.PAGE_KEYS]
            keys, read = tuple(map(use_key, some)), partial(changes.last_used, some)
            found |= await self._state.look(keys, read, AS_IT_IS)
        return found

    async def any_made(self) -> bool:
        """Whether any key was ever created, including keys that were revoked since.

        Raises:
            StateError: the state is unreachable or too slow.
        """
        return await self._state.look((HEAD,), _is_there, AS_IT_IS)

    async def create(self, wanted: NewKey) -> Made:
        """Create a key. Its text is not stored, so it cannot be shown again.

        Raises:
            StoreError: the wanted properties are invalid.
            StateError: as for `any_made`, or other processes created keys all the time. The key
                may have been created, but nobody has its text.
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
            f"other processes created keys at the same time, {ATTEMPTS_MAX} times in a row; no "
            "key was created: try again"
        )

    async def list(self, page: int = 0) -> Page:
        """The keys of a page, in the order of their creation; empty beyond the last page.

        Keys whose records cannot be read are left out.

        Raises:
            StateError: as for `any_made`.
        """
        index = await self._state.look((HEAD, page_key(page)), changes.index, AS_IT_IS)
        more = page + 1 < index.pages
        keys, listed = tuple(map(record_key, index.ids)), partial(changes.listed, index.ids)
        records = await self._state.look(keys, listed, AS_IT_IS) if keys else ()
        return Page(records, index.now_s, page + 1 if more else None)

    async def list_all(self) -> tuple[Sequence[KeyRecord], float]:
        """All keys that were ever created, as `list` has them, and the time of the state.

        Raises:
            StateError: as for `any_made`.
        """
        found: list[KeyRecord] = []
        number: int | None = 0
        now_s = 0.0
        while number is not None:
            page = await self.list(number)
            found += page.keys
            number, now_s = page.next, page.now_s
        return found, now_s

    async def find(self, id: str) -> KeyRecord:  # noqa: A002 - what it is
        """The record of one key.

        Raises:
            StoreError: there is no such key.
            StateError: as for `any_made`, or the record cannot be read.
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
        """Give a key a new secret; older secrets stay valid for at most `grace_s` from now.

        `lasts_s` is how long the key is valid from now; with None, its expiry does not change.

        Raises:
            StoreError: there is no such key; it was revoked; it has expired and `lasts_s` is None;
                too many of its older secrets are still valid; or a time is out of bounds.
            StateError: as for `find`; the secret may have been replaced.
        """
        check_lasting("grace_s", grace_s)
        check_lasting("lasts_s", lasts_s, least_s=1.0)
        key, fresh = _named(id), self._fresh()
        fresh = FreshSecret(Token(key, fresh.token.secret), fresh.salt)
        decide = partial(changes.rotated, fresh, grace_s, lasts_s)
        return await self._state.change((record_key(key),), decide)

    async def change(self, id: str, wanted: KeyChanges) -> Changed:  # noqa: A002 - what it is
        """Change the properties of a key, from the next request on.

        What the key has spent is not reset, and requests in progress are not affected.

        Raises:
            StoreError: there is no such key, it was revoked, or the changes are invalid.
            StateError: as for `find`; the key may have been changed.
        """
        check_changes(wanted)
        key = _named(id)
        return await self._state.change((record_key(key),), partial(changes.changed, key, wanted))

    async def revoke(self, id: str) -> KeyRecord:  # noqa: A002 - what it is
        """Revoke a key, from the next request on; a second call changes nothing.

        Raises:
            StoreError: there is no such key.
            StateError: as for `find`; the key may have been revoked.
        """
        key = _named(id)
        return await self._state.change((record_key(key),), partial(changes.revoked, key))

    async def _note_use(self, key: str, now_s: float) -> None:
        """Write that a key is used. If that fails, as in a file that is read-only, it is lost."""
        if len(self._noted_s) >= USES_MAX:
            self._noted_s.clear()
        self._noted_s[key] = now_s  # before the write, for which other requests do not wait
        with suppress(StateError):
            await self._state.change((), partial(changes.used, key))

    def _fresh(self) -> FreshSecret:
        token = minted(self._random_bytes(ENTROPY_BYTES))
        return FreshSecret(token, self._random_bytes(SALT_BYTES))


def _named(text: str) -> str:
    found = id_of(text)
    if found is None:
        raise StoreError(
            f"{text[:16]!a} is not the id of a key; write ID or {PREFIX}ID, as "
            "`orchestra keys list` shows them"
        )
    return found


def _admitted(
    token: Token, kept: Sequence[bytes | None], now_s: float
) -> tuple[Principal | Refusal, float]:
    (data,) = kept
    record = None if data is None else decoded(token.id, data)
    return admit(record, token, now_s), now_s


def _is_there(kept: Sequence[bytes | None], now_s: float) -> bool:
    del now_s
    return kept[0] is not None
