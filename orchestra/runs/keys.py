"""Keys in the state for the data of a tenant: its index of runs, and its idempotency keys. Pure.

A key contains digests of names, since names may contain any character. The part of a key before
its last colon depends only on the organisation: a state in memory bounds the entries of each such
part.
"""

from __future__ import annotations

from hashlib import sha256

from orchestra.accounts import Caller


def head_key(caller: Caller) -> str:
    """The key of the head, the newest page, of a tenant's index of runs."""
    return _tenant_key("index", caller)


def claim_key(caller: Caller, pipeline: str, key: str) -> str:
    """The key of a claim: idempotency keys are per tenant and pipeline."""
    return _tenant_key("claim", caller, pipeline, key)


def digest_of(*parts: bytes) -> str:
    """A digest of `parts`, to compare requests: it is equal only if all parts are equal."""
    return sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()


def _tenant_key(kind: str, caller: Caller, *names: str) -> str:
    organisation, *tenant = (
        name.encode(errors="surrogatepass") for name in (caller.fairness_key, caller.tenant, *names)
    )
    return f"run:{kind}:{digest_of(organisation)[:16]}:{digest_of(*tenant)}"
