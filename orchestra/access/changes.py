"""Reads and changes of the documents that store keys. Pure.

Each key has a document. An index lists the ids in the order of creation, in pages of `PAGE_KEYS`:
so even with a hundred thousand keys, a new key rewrites only a page of two kilobytes, and keys can
be listed page by page. The head document has the number of keys. Keys are never deleted, so that
the history of each can be looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import attrs
import msgspec

from orchestra.access.keys import DECODE, REPLACED_MAX, KeyRecord, SecretHash, decoded, encoded
from orchestra.access.token import Token
from orchestra.access.wanted import KeyChanges, NewKey, check_rights
from orchestra.accounts import NO_ALLOWANCE, KeyAllowance
from orchestra.errors import StoreError
from orchestra.protocols import Change, Entry
from orchestra.records import certain, readable

PAGE_KEYS = 128
HEAD = "keys:head"
"""The document with the number of keys; there is none before the first key."""

Kept = Sequence[bytes | None]


@attrs.frozen
class FreshSecret:
    """A newly generated token, and the random salt for the hash of its secret."""

    token: Token
    salt: bytes

    @property
    def kept(self) -> SecretHash:
        """The stored hash of its secret."""
        return SecretHash.of(self.token.secret, self.salt)


@attrs.frozen
class Made:
    """A key that was created or given a new secret; its text is not stored."""

    text: str = attrs.field(repr=False)
    record: KeyRecord


@attrs.frozen
class Changed:
    """A key that was changed; `now_s` is the time by the clock of the state."""

    record: KeyRecord
    now_s: float


@attrs.frozen
class OtherPage:
    """Nothing was changed: the next key belongs on another page of the index, `page`."""

    page: int


@attrs.frozen
class Index:
    """A page of ids, the number of pages, and the time by the clock of the state."""

    ids: tuple[str, ...]
    pages: int
    now_s: float


class _Head(msgspec.Struct, frozen=True):
    made: int


def record_key(id: str) -> str:  # noqa: A002 - what it is
    """The key of the document of an API key in the state."""
    return f"keys:key:{id}"


def page_key(number: int) -> str:
    """The key of the document of an index page in the state."""
    return f"keys:page:{number}"


def use_key(id: str) -> str:  # noqa: A002 - what it is
    """The key of the document with the time of an API key's last use."""
    return f"keys:use:{id}"


def made(
    fresh: FreshSecret, wanted: NewKey, page: int, kept: Kept, now_s: float
) -> Change[Made | OtherPage]:
    """Create a key. `kept` is the head, the index page `page`, and the document of the token's id.

    If the id is taken, which is very unlikely, `OtherPage` makes the caller retry with a new token.
    """
    head, ids, existing = kept
    token, count = fresh.token, _count(head)
    if count // PAGE_KEYS != page or existing is not None:
        return Change(OtherPage(count // PAGE_KEYS))
    record = KeyRecord(
        id=token.id,
        secret=fresh.kept,
        name=wanted.name,
        created_s=now_s,
        organisation=wanted.organisation,
        user=wanted.user,
        pipelines=wanted.pipelines,
        models=wanted.models,
        metrics=wanted.metrics,
        end_users=wanted.end_users,
        allowance=_plain(wanted.allowance),
        expires_s=None if wanted.lasts_s is None else now_s + wanted.lasts_s,
    )
    entries = {
        HEAD: Entry(_encode(_Head(count + 1))),
        page_key(page): Entry(_encode([*_ids(ids), token.id])),
        record_key(token.id): Entry(encoded(record)),
    }
    return Change(Made(token.text, record), entries)


def index(kept: Kept, now_s: float) -> Index:
    """A page of the index. `kept` is the head and the page."""
    head, ids = kept
    return Index(tuple(_ids(ids)), -(-_count(head) // PAGE_KEYS), now_s)


def listed(ids: Sequence[str], kept: Kept, now_s: float) -> tuple[KeyRecord, ...]:
    """The stored keys with these ids, without those that cannot be read."""
    del now_s
    pairs = zip(ids, kept, strict=True)
    read = (readable(DECODE, data, f"the record of key {key}") for key, data in pairs)
    return tuple(each for each in read if each is not None)


def found(id: str, kept: Kept, now_s: float) -> KeyRecord:  # noqa: A002 - what it is
    """The stored key.

    Raises:
        StoreError: there is no such key.
        StateError: its record cannot be read.
    """
    del now_s
    return _there(id, kept)


def rotated(
    fresh: FreshSecret, grace_s: float, lasts_s: float | None, kept: Kept, now_s: float
) -> Change[Made]:
    """Give a key a new secret; older secrets stay valid for at most `grace_s` from now.

    No older secret is ever valid for longer than before, even if the key's expiry moves.

    Raises:
        StoreError: there is no such key; it was revoked; it has expired and `lasts_s` is None; or
            too many of its older secrets are still valid.
        StateError: its record cannot be read.
    """
    token = fresh.token
    record = _there(token.id, kept)
    state = record.state(now_s)
    if state == "revoked" or (state == "expired" and lasts_s is None):
        raise StoreError(
            f"key {token.id} {'was revoked' if state == 'revoked' else 'has expired'}, and a new "
            "secret would not make it valid again: create another key"
        )
    ends_s = min(now_s + grace_s, _or_never(record.expires_s))
    older = [
        SecretHash(each.salt, each.digest, min(ends_s, _or_never(each.until_s)))
        for each in (record.secret, *record.replaced)
    ]
    if any(_or_never(each.until_s) > now_s for each in older[REPLACED_MAX:]):
        raise StoreError(
            f"key {token.id} has {len(older)} secrets that are still valid: rotate it without a "
            "grace period, which invalidates them, or wait until one has expired"
        )
    after = msgspec.structs.replace(
        record,
        secret=fresh.kept,
        replaced=tuple(older[:REPLACED_MAX]),
        rotated_s=now_s,
        expires_s=_end(record.expires_s, lasts_s, now_s),
    )
    return Change(Made(token.text, after), {record_key(token.id): Entry(encoded(after))})


def changed(
    id: str,  # noqa: A002 - what it is
    wanted: KeyChanges,
    kept: Kept,
    now_s: float,
) -> Change[Changed]:
    """Change a key. What it has spent is stored elsewhere and does not change.

    Its secrets do not change either; replaced secrets are not valid for longer than before.

    Raises:
        StoreError: there is no such key, it was revoked, or it would have no rights.
        StateError: its record cannot be read.
    """
    record = _there(id, kept)
    if record.revoked_s is not None:
        raise StoreError(f"key {id} was revoked, which cannot be undone: create another key")
    after = msgspec.structs.replace(
        record,
        **{each: new for each in _CHANGED if (new := getattr(wanted, each)) is not None},
        allowance=_plain(attrs.evolve(record.allowance, **wanted.limits)),
        expires_s=_end(record.expires_s, wanted.lasts_s, now_s),
    )
    check_rights(after)
    return Change(Changed(after, now_s), {record_key(id): Entry(encoded(after))})


def revoked(id: str, kept: Kept, now_s: float) -> Change[KeyRecord]:  # noqa: A002 - what it is
    """Revoke a key permanently; a second call changes nothing.

    Raises:
        StoreError: there is no such key.
        StateError: its record cannot be read.
    """
    record = _there(id, kept)
    if record.revoked_s is not None:
        return Change(record)
    after = msgspec.structs.replace(record, revoked_s=now_s)
    return Change(after, {record_key(id): Entry(encoded(after))})


def used(id: str, kept: Kept, now_s: float) -> Change[None]:  # noqa: A002 - what it is
    """Note that a key is used now, apart from its record, which a change may be writing."""
    del kept
    return Change(None, {use_key(id): Entry(_encode(now_s))})


def last_used(ids: Sequence[str], kept: Kept, now_s: float) -> dict[str, float]:
    """The noted uses of those of these keys that have one, as seconds since 1970."""
    del now_s
    pairs = zip(ids, kept, strict=True)
    read = ((key, readable(_TIME.decode, data, f"the use of key {key}")) for key, data in pairs)
    return {key: at_s for key, at_s in read if at_s is not None}


def _there(id: str, kept: Kept) -> KeyRecord:  # noqa: A002 - what it is
    (data,) = kept
    if data is None:
        raise StoreError(f"there is no key {id}; `orchestra keys list` shows all keys")
    return decoded(id, data)


def _plain(allowance: KeyAllowance) -> KeyAllowance:
    """The allowance; if it has no limits, the shared object `NO_ALLOWANCE`."""
    return NO_ALLOWANCE if allowance == NO_ALLOWANCE else allowance


def _end(until_s: float | None, lasts_s: float | None, now_s: float) -> float | None:
    """When a key expires: `lasts_s` from now, or as before if that is None."""
    if lasts_s is None:
        return until_s
    return None if lasts_s == inf else now_s + lasts_s


def _or_never(until_s: float | None) -> float:
    return inf if until_s is None else until_s


def _count(head: bytes | None) -> int:
    return 0 if head is None else certain(_HEAD.decode, head, HEAD, "restore the state").made


def _ids(data: bytes | None) -> list[str]:
    if data is None:
        return []
    return certain(_IDS.decode, data, "a page of keys", "restore the state")


_CHANGED = ("name", "pipelines", "models", "metrics", "end_users")
"""The properties that a change replaces as a whole, unless they are None."""
_encode = msgspec.json.Encoder().encode
_HEAD = msgspec.json.Decoder(_Head)
_IDS = msgspec.json.Decoder(list[str])
_TIME = msgspec.json.Decoder(float)
