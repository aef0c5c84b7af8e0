"""Who is let in with a key, and what is told to whom."""

from __future__ import annotations

from hashlib import sha256

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.access import keys
from orchestra.access.keys import (
    REPLACED_MAX,
    KeyRecord,
    Refusal,
    SecretHash,
    admit,
    decoded,
    encoded,
)
from orchestra.access.principal import Principal, Scopes
from orchestra.access.token import ENTROPY_BYTES, Token, minted, why_malformed
from orchestra.accounts import Caller, KeyAllowance
from orchestra.errors import StateError

TOKEN = minted(bytes(range(ENTROPY_BYTES)))
OTHER = Token(TOKEN.id, "0" * len(TOKEN.secret))
ALLOWANCE = KeyAllowance(requests_per_minute=60, month_nanodollars=10**9)
RECORD = KeyRecord(
    id=TOKEN.id,
    secret=SecretHash.of(TOKEN.secret, b"salt"),
    name="laptop",
    created_s=1.0,
    organisation="acme",
    user="ada",
    pipelines=("answer",),
    models=("*",),
    allowance=ALLOWANCE,
)


def replaced(**fields: object) -> KeyRecord:
    return msgspec.structs.replace(RECORD, **fields)


def reason(record: KeyRecord | None, token: Token, now_s: float) -> str:
    found = admit(record, token, now_s)
    return found.reason if isinstance(found, Refusal) else "in"


def test_who_has_the_secret_is_whoever_the_key_says() -> None:
    assert admit(RECORD, TOKEN, 2.0) == Principal(
        Caller("acme", "ada", TOKEN.id, ALLOWANCE),
        Scopes(frozenset({"answer"}), frozenset({"*"})),
    )


def test_a_key_is_good_until_the_moment_that_it_expires() -> None:
    record = replaced(expires_s=10.0)
    assert reason(record, TOKEN, 9.999) == "in"
    assert reason(record, TOKEN, 10.0) == "expired"


TIMES = st.none() | st.integers(0, 6).map(float)


@given(TIMES, TIMES, TIMES, st.integers(0, 6).map(float))
def test_only_who_has_the_secret_learns_what_became_of_a_key(
    expires_s: float | None, revoked_s: float | None, until_s: float | None, now_s: float
) -> None:
    """To all others it is as unknown as a key that never was."""
    old = SecretHash.of(OTHER.secret, b"pepper")
    older = (SecretHash(old.salt, old.digest, until_s),) if until_s is not None else ()
    record = replaced(expires_s=expires_s, revoked_s=revoked_s, replaced=older)
    stranger = Token(TOKEN.id, "z" * len(TOKEN.secret))
    assert reason(record, stranger, now_s) == reason(None, stranger, now_s) == "unknown"
    expired = expires_s is not None and expires_s <= now_s
    right = "revoked" if revoked_s is not None else "expired" if expired else "in"
    assert reason(record, TOKEN, now_s) == right
    over = until_s is not None and until_s <= now_s
    old_one = "unknown" if until_s is None else "expired" if right == "in" and over else right
    assert reason(record, OTHER, now_s) == old_one


def test_as_many_secrets_are_compared_for_every_wrong_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So how long a refusal takes tells nothing: not even whether there is such a key.

    Who has the secret waits for one comparison only.
    """
    compared: list[bytes] = []

    def equal(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return one == other

    monkeypatch.setattr(keys, "compare_digest", equal)
    old = SecretHash(b"salt", bytes(32), 1.0)
    for record in (None, RECORD, replaced(replaced=(old,)), replaced(replaced=(old,) * 3)):
        compared.clear()
        admit(record, OTHER, 0.0)
        assert len(compared) == 1 + REPLACED_MAX
        compared.clear()
        admit(record, TOKEN, 0.0)
        assert len(compared) == (1 + REPLACED_MAX if record is None else 1)


def test_what_is_kept_is_salted_and_is_not_the_secret() -> None:
    kept = encoded(RECORD)
    assert TOKEN.secret.encode() not in kept
    assert RECORD.secret.digest == sha256(b"salt" + TOKEN.secret.encode()).digest()
    assert decoded(TOKEN.id, kept) == RECORD


@pytest.mark.parametrize("data", [b"", b"{}", b'{"id": 3}', b"\xff"])
def test_a_record_that_cannot_be_read_lets_nobody_in(data: bytes) -> None:
    with pytest.raises(StateError, match="the record of key abc cannot be read"):
        decoded("abc", data)


def test_a_log_says_what_a_client_must_not_know() -> None:
    refusal = admit(replaced(revoked_s=2.0), OTHER, 3.0)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "unknown"
    assert refusal.detail == f"the secret is not that of key {TOKEN.id}, which is revoked"
    assert why_malformed("sk-secret") == "it does not begin with ork_"
