"""What becomes of the documents that keys are kept in: deciders for `State.change`. Pure.

Each key has a document of its own, and there is an index of ids in pages of `PAGE_KEYS`, in the
order in which the keys were made: so with a hundred thousand keys a new one rewrites a page of two
kilobytes, and a list is read page by page. How many keys were made stands in the first document;
no key is ever taken away, so that it can be told of each what became of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import attrs
import msgspec

from orchestra.access.keys import DECODE, REPLACED_MAX, KeyRecord, SecretHash, decoded, encoded
from orchestra.access.token import Token
from orchestra.access.wanted import NewKey, OtherKey, may_do_something
from orchestra.accounts import NO_ALLOWANCE, KeyAllowance
from orchestra.errors import StoreError
from orchestra.protocols import Change, Entry
from orchestra.records import certain, readable

PAGE_KEYS = 128
HEAD = "keys:head"
"""Where it is kept how many keys were made; there is nothing before the first."""

Kept = Sequence[bytes | None]


@attrs.frozen
class Fresh:
    """A key that nobody has yet, and the random salt that goes with its secret."""

    token: Token
    salt: bytes

    @property
    def kept(self) -> SecretHash:
        """What is kept of its secret."""
        return SecretHash.of(self.token.secret, self.salt)


@attrs.frozen
class Made:
    """A key that was made, or given a new secret: the only time that it can be shown."""

    text: str = attrs.field(repr=False)
    record: KeyRecord


@attrs.frozen
class Changed:
    """A key that was changed, and the time of the state."""

    record: KeyRecord
    now_s: float


@attrs.frozen
class Elsewhere:
    """Nothing was changed, since the page of the next key is another than was thought."""

    page: int


@attrs.frozen
class Index:
    """A page of ids, how many pages there are, and the time of the state."""

    ids: tuple[str, ...]
    pages: int
    now_s: float


class _Head(msgspec.Struct, frozen=True):
    made: int


def record_key(id: str) -> str:  # noqa: A002 - what it is
    """Where a key is kept."""
    return f"keys:key:{id}"


def page_key(number: int) -> str:
    """Where a page of the index is kept."""
    return f"keys:page:{number}"


def made(
    fresh: Fresh, wanted: NewKey, page: int, kept: Kept, now_s: float
) -> Change[Made | Elsewhere]:
    """Make a key. `kept` are the head, the page of this number, and what has the token's id.

    An id that is taken, which chance gives nobody to see, is answered as another page is: to be
    tried again with a new token.
    """
    head, ids, there = kept
    token, count = fresh.token, _count(head)
    if count // PAGE_KEYS != page or there is not None:
        return Change(Elsewhere(count // PAGE_KEYS))
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
        allowance=_plain(wanted.allowance),
        expires_s=None if wanted.lasts_s is None else now_s + wanted.lasts_s,
    )
    entries = {
        HEAD: Entry(_encode(_Head(count + 1))),
        page_key(page): Entry(_encode([*_ids(ids), token.id])),
        record_key(token.id): Entry(encoded(record)),
    }
    return Change(Made(token.text, record), entries)


def index(kept: Kept, now_s: float) -> Change[Index]:
    """A page of the index. `kept` are the head, and the page."""
    head, ids = kept
    return Change(Index(tuple(_ids(ids)), -(-_count(head) // PAGE_KEYS), now_s))


def listed(ids: Sequence[str], kept: Kept, now_s: float) -> Change[tuple[KeyRecord, ...]]:
    """The keys of these ids, as they are kept; one that cannot be read is left out."""
    del now_s
    pairs = zip(ids, kept, strict=True)
    read = (readable(DECODE, data, f"what is kept of key {key}") for key, data in pairs)
    return Change(tuple(each for each in read if each is not None))


def found(
    id: str,  # noqa: A002 - what it is
    kept: Kept,
    now_s: float,
) -> Change[KeyRecord]:
    """A key as it is kept, which has to be there."""
    del now_s
    return Change(_there(id, kept))


def rotated(
    fresh: Fresh, grace_s: float, lasts_s: float | None, kept: Kept, now_s: float
) -> Change[Made]:
    """Give a key a new secret; the older ones are good for `grace_s` at most, from now.

    Never for longer than they were: not beyond the time that the key had, whatever it is given.
    """
    token = fresh.token
    record = _there(token.id, kept)
    state = record.state(now_s)
    if state == "revoked" or (state == "expired" and lasts_s is None):
        raise StoreError(
            f"key {token.id} {'was revoked' if state == 'revoked' else 'has expired'}, and a new "
            "secret would change nothing: make another key"
        )
    ends_s = min(now_s + grace_s, _or_never(record.expires_s))
    older = [
        SecretHash(each.salt, each.digest, min(ends_s, _or_never(each.until_s)))
        for each in (record.secret, *record.replaced)
    ]
    if any(_or_never(each.until_s) > now_s for each in older[REPLACED_MAX:]):
        raise StoreError(
            f"key {token.id} has {len(older)} secrets that are still good: rotate it without a "
            "time of grace, which ends them, or later"
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
    wanted: OtherKey,
    kept: Kept,
    now_s: float,
) -> Change[Changed]:
    """Change what is wanted of a key; what it has spent is kept elsewhere, and stays.

    Its secrets stay, too: those that were replaced are good for no longer than they were.
    """
    record = _there(id, kept)
    if record.revoked_s is not None:
        raise StoreError(f"key {id} was revoked, for ever: make another key")
    after = msgspec.structs.replace(
        record,
        name=record.name if wanted.name is None else wanted.name,
        pipelines=record.pipelines if wanted.pipelines is None else wanted.pipelines,
        models=record.models if wanted.models is None else wanted.models,
        metrics=record.metrics if wanted.metrics is None else wanted.metrics,
        allowance=_plain(attrs.evolve(record.allowance, **wanted.limits)),
        expires_s=_end(record.expires_s, wanted.lasts_s, now_s),
    )
    may_do_something(after.pipelines, after.models, metrics=after.metrics)
    return Change(Changed(after, now_s), {record_key(id): Entry(encoded(after))})


def revoked(id: str, kept: Kept, now_s: float) -> Change[KeyRecord]:  # noqa: A002 - what it is
    """Let nobody in with a key any more; once, and for ever."""
    record = _there(id, kept)
    if record.revoked_s is not None:
        return Change(record)
    after = msgspec.structs.replace(record, revoked_s=now_s)
    return Change(after, {record_key(id): Entry(encoded(after))})


def _there(id: str, kept: Kept) -> KeyRecord:  # noqa: A002 - what it is
    (data,) = kept
    if data is None:
        raise StoreError(f"there is no key {id}; `orchestra keys list` shows those that there are")
    return decoded(id, data)


def _plain(allowance: KeyAllowance) -> KeyAllowance:
    """The same; one without limits is that which all know by sight."""
    return NO_ALLOWANCE if allowance == NO_ALLOWANCE else allowance


def _end(until_s: float | None, lasts_s: float | None, now_s: float) -> float | None:
    """When a key ends that is to last for so long from now, or as it would have."""
    if lasts_s is None:
        return until_s
    return None if lasts_s == inf else now_s + lasts_s


def _or_never(until_s: float | None) -> float:
    return float("inf") if until_s is None else until_s


def _count(head: bytes | None) -> int:
    return 0 if head is None else certain(_HEAD.decode, head, HEAD, "restore the state").made


def _ids(data: bytes | None) -> list[str]:
    if data is None:
        return []
    return certain(_IDS.decode, data, "a page of keys", "restore the state")


_encode = msgspec.json.Encoder().encode
_HEAD = msgspec.json.Decoder(_Head)
_IDS = msgspec.json.Decoder(list[str])
