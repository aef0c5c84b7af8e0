"""API keys: their stored records, and the check of a token against them. Pure.

Of a secret its salted SHA-256 is kept. A slow hash protects passwords, which people choose and
others guess; 256 random bits are not guessed at any speed, and a slow hash would only let
whoever sends wrong keys keep our processor busy.

What a client is told depends on whether it holds the right secret. Who does may know that the key
has expired or was revoked; to all others each key is as unknown as one that never was, and it
takes as long to say so: a key that is not there is compared with one that nobody holds.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from hmac import compare_digest
from typing import Literal

import attrs
import msgspec

from orchestra.access.principal import Principal, Scopes
from orchestra.access.token import Token, why_malformed
from orchestra.accounts import NO_ALLOWANCE, Caller, KeyAllowance
from orchestra.records import certain

REPLACED_MAX = 3
"""Secrets of a key that were replaced, and are kept: to be good for a while, or to be told."""

PRINCIPALS_MAX = 1024
"""The most principals whose open requests share one object."""

Reason = Literal["malformed", "unknown", "expired", "revoked"]
KeyState = Literal["active", "expired", "revoked"]


@attrs.frozen
class Refusal:
    """The reason why a token is refused.

    `reason` is what the client is told: `malformed`, `unknown`, `expired` or `revoked`. `detail` is
    for the log: it may say more, but never a secret.
    """

    reason: Reason
    detail: str


class SecretHash(msgspec.Struct, frozen=True, omit_defaults=True):
    """The stored hash of a secret. A replaced secret is valid until `until_s`."""

    salt: bytes
    digest: bytes
    until_s: float | None = None

    @classmethod
    def of(cls, secret: str, salt: bytes) -> SecretHash:
        """The hash of a secret, with a random salt of its own."""
        return cls(salt, sha256(salt + secret.encode()).digest())

    def fits(self, secret: bytes) -> bool:
        """Whether it is of this secret; how long that takes tells nothing of either."""
        return compare_digest(self.digest, sha256(self.salt + secret).digest())


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The stored record of a key. Times are in seconds since 1970, by the clock of its state.

    A key that is rotated stays the same key, with its id, what it may do, and what it has spent.
    """

    id: str
    secret: SecretHash
    name: str
    created_s: float
    organisation: str = ""
    user: str = ""
    pipelines: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    metrics: bool = False
    end_users: bool = False
    allowance: KeyAllowance = NO_ALLOWANCE
    expires_s: float | None = None
    revoked_s: float | None = None
    rotated_s: float | None = None
    replaced: tuple[SecretHash, ...] = ()
    """The last secrets before this one, the newest first."""

    def state(self, now_s: float) -> KeyState:
        """Whether it lets anybody in at this time; a key that was revoked never does again."""
        if self.revoked_s is not None:
            return "revoked"
        return "expired" if _over(self.expires_s, now_s) else "active"

    @property
    def principal(self) -> Principal:
        """The principal of a request with this key."""
        return _principal(self)


@lru_cache(maxsize=PRINCIPALS_MAX)
def _principal(record: KeyRecord) -> Principal:
    caller = Caller(record.organisation, record.user, record.id, record.allowance)
    pipelines, models = frozenset(record.pipelines), frozenset(record.models)
    return Principal(caller, Scopes(pipelines, models, record.metrics, record.end_users))


def malformed(text: str) -> Refusal:
    """The reason why a text that is not a key is refused."""
    return Refusal("malformed", why_malformed(text))


def admit(record: KeyRecord | None, token: Token, now_s: float) -> Principal | Refusal:
    """The principal of a token, by the record of the key with its id; or a refusal."""
    found = _matching(DUMMY_RECORD if record is None else record, token.secret)
    if record is None:
        return Refusal("unknown", f"there is no key {token.id}")
    state = record.state(now_s)
    if found is None:
        return Refusal("unknown", f"this is not the secret of key {token.id}, which is {state}")
    if state == "revoked":
        return Refusal("revoked", f"key {token.id} was revoked")
    if state == "expired":
        return Refusal("expired", f"key {token.id} has expired")
    if _over(found.until_s, now_s):
        return Refusal("expired", f"this secret of key {token.id} was replaced by another")
    return record.principal


def encoded(record: KeyRecord) -> bytes:
    """The bytes that are kept of a key."""
    return _encoder.encode(record)


def decoded(key: str, data: bytes) -> KeyRecord:
    """The record of a key.

    Raises:
        StateError: it cannot be read, and so lets nobody in.
    """
    return certain(DECODE, data, f"the record of key {key}", "restore it, or make another key")


def _matching(record: KeyRecord, secret: str) -> SecretHash | None:
    """Which of its secrets that is. As many are compared for every key, and all of them."""
    kept = (record.secret, *record.replaced, *_DUMMY_SECRETS)[: 1 + REPLACED_MAX]
    given = secret.encode()
    fitting = [each for each in kept if each.fits(given)]
    return fitting[0] if fitting else None


def _over(until_s: float | None, now_s: float) -> bool:
    return until_s is not None and until_s <= now_s


_encoder = msgspec.json.Encoder()
DECODE = msgspec.json.Decoder(KeyRecord).decode
_DUMMY_SECRETS = (SecretHash(bytes(16), bytes(32), 0.0),) * (1 + REPLACED_MAX)
"""An expired secret hash whose secret cannot be found."""
DUMMY_RECORD = KeyRecord(id="", secret=_DUMMY_SECRETS[0], name="", created_s=0.0, revoked_s=0.0)
"""The record that a token is compared with if its key does not exist."""
