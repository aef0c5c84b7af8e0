"""The stored records of API keys, and the check of a token against them. Pure.

Only the salted SHA-256 of a secret is stored. A slow hash is for passwords, which can be guessed;
256 random bits cannot be guessed at any speed, and a slow hash would only let clients that send
wrong keys use up our CPU.

What a client is told depends on whether it has the right secret. If it has, it may learn that the
key expired or was revoked. Otherwise every key is unknown to it, whether or not it exists, and the
check takes equally long: a token whose key does not exist is compared with `DUMMY_RECORD`.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from hmac import compare_digest
from typing import Literal

import attrs
import msgspec

from orchestra.access.principal import Principal, Scopes
from orchestra.access.token import Token
from orchestra.accounts import NO_ALLOWANCE, Caller, KeyAllowance
from orchestra.records import certain

REPLACED_MAX = 3
"""How many replaced secrets of a key are kept: to stay valid for a grace period, and to tell their
holders afterwards that they have expired."""

PRINCIPALS_MAX = 1024
"""The size of the cache that lets requests with the same key share one principal."""

Reason = Literal["malformed", "unknown", "expired", "revoked"]
KeyState = Literal["active", "expired", "revoked"]


@attrs.frozen
class Refusal:
    """The reason why a token is refused.

    `reason` is what the client is told: `malformed`, `unknown`, `expired` or `revoked`. `detail` is
    for the log: it may say more, but never contains a secret.
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
        """The hash of a secret with `salt`, which must be random and used only once."""
        return cls(salt, sha256(salt + secret.encode()).digest())

    def fits(self, secret: bytes) -> bool:
        """Whether this is the hash of `secret`, compared in constant time."""
        return compare_digest(self.digest, sha256(self.salt + secret).digest())


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The stored record of a key. Times are in seconds since 1970, by the clock of the state.

    Rotating a key replaces its secret only: its id, its rights and what it has spent stay.
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
    """The last replaced secrets, newest first."""

    def state(self, now_s: float) -> KeyState:
        """The state of the key at this time; a revoked key stays revoked."""
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


def admit(record: KeyRecord | None, token: Token, now_s: float) -> Principal | Refusal:
    """The principal of a token, or its refusal; `record` is that of the key with the token's id."""
    found = _matching(DUMMY_RECORD if record is None else record, token.secret)
    if record is None:
        return Refusal("unknown", f"there is no key {token.id}")
    state = record.state(now_s)
    if found is None:
        return Refusal("unknown", f"the secret is not that of key {token.id}, which is {state}")
    if state == "revoked":
        return Refusal("revoked", f"key {token.id} was revoked")
    if state == "expired":
        return Refusal("expired", f"key {token.id} has expired")
    if _over(found.until_s, now_s):
        return Refusal("expired", f"this secret of key {token.id} was replaced by a newer one")
    return record.principal


def encoded(record: KeyRecord) -> bytes:
    """The record of a key as it is stored."""
    return _encoder.encode(record)


def decoded(key: str, data: bytes) -> KeyRecord:
    """Decode the stored record of a key.

    Raises:
        StateError: the record cannot be read, so the key must not be accepted.
    """
    return certain(DECODE, data, f"the record of key {key}", "restore it, or create another key")


def _matching(record: KeyRecord, secret: str) -> SecretHash | None:
    """The matching hash of a key; None after the same number of comparisons for every key."""
    kept = (record.secret, *record.replaced, *_DUMMY_SECRETS)[: 1 + REPLACED_MAX]
    given = secret.encode()
    for each in kept:
        if each.fits(given):
            return each
    return None


def _over(until_s: float | None, now_s: float) -> bool:
    return until_s is not None and until_s <= now_s


_encoder = msgspec.json.Encoder()
DECODE = msgspec.json.Decoder(KeyRecord).decode
_DUMMY_SECRETS = (SecretHash(bytes(16), bytes(32), 0.0),) * (1 + REPLACED_MAX)
"""Expired hashes that no known secret matches."""
DUMMY_RECORD = KeyRecord(id="", secret=_DUMMY_SECRETS[0], name="", created_s=0.0, revoked_s=0.0)
"""The record that a token is compared with if its key does not exist: see the top of the file."""
