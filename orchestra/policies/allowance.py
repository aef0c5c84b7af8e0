"""What users and organisations may take: their limits, and what is kept of each of them. Pure.

Of each owner of limits one value is kept in a `State`: a meter of requests, one of tokens, and the
leases of the calls that are under way. A call takes of all its owners, or of none, in one change.

A lease is as long as the longest call, and not renewed: nothing has to run beside the calls to
keep them alive. What a process held that has died is free again when its leases are over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from types import MappingProxyType
from typing import Literal
from urllib.parse import quote

import attrs
import msgspec

from orchestra.accounts import Caller
from orchestra.policies.gcra import Meter, MeterState
from orchestra.protocols import Change, Entry

LEASE_S = 3600.0
"""The longest lease: a call that lasts for longer counts no more as one of those at once."""
_NAME_CHARS = 200
_LONGER_S = 1.0
"""How much longer a value is kept than it says something: clocks differ a little."""

Kind = Literal["user", "organisation"]


@attrs.frozen(kw_only=True)
class OwnerLimits:
    """What one user or one organisation may take; None is no limit. All processes share it.

    No 60 seconds see more requests or tokens than a minute's, and a tenth of it goes at once.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Of questions and answers: estimated before a call, and settled after it."""
    concurrency: int | None = None
    """Calls at once; a streamed answer is one until it is left."""
    wait_max_s: float = 30.0
    """How long a call may wait, if its deadline is not before; 0 is not at all."""
    waiting_max: int = 100
    """Calls of one caller that may wait in one process; one more is refused at once."""
    when_state_fails: Literal["open", "closed"] = "open"
    """Whether calls go on unlimited, or are refused, while the state cannot be reached."""

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        limits = (self.requests_per_minute, self.tokens_per_minute, self.concurrency)
        return any(each is not None for each in limits)


@attrs.frozen
class Owner:
    """One whose limits a call has to keep. `key` is where they are kept."""

    kind: Kind
    name: str
    limits: OwnerLimits
    key: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"


NO_LIMITS = OwnerLimits()
NOBODY: Mapping[str, OwnerLimits] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class CallerRules:
    """The limits of all callers: of each user and organisation, and of some by their names.

    A user is the same one in each organisation.
    """

    user: OwnerLimits = NO_LIMITS
    organisation: OwnerLimits = NO_LIMITS
    users: Mapping[str, OwnerLimits] = NOBODY
    organisations: Mapping[str, OwnerLimits] = NOBODY

    def owners(self, caller: Caller, scope: str) -> tuple[Owner, ...]:
        """Whose limits a call of theirs has to keep: the user's first; of "" there are none."""
        found: list[Owner] = []
        if caller.user:
            limits = self.users.get(caller.user, self.user)
            found.append(_owner("user", caller.user, limits, scope))
        if caller.organisation:
            limits = self.organisations.get(caller.organisation, self.organisation)
            found.append(_owner("organisation", caller.organisation, limits, scope))
        return tuple(owner for owner in found if owner.limits.limited)


def _owner(kind: Kind, name: str, limits: OwnerLimits, scope: str) -> Owner:
    key = quote(name, safe="", errors="surrogatepass")
    if len(key) > _NAME_CHARS:
        key = sha256(key.encode()).hexdigest()
    return Owner(kind, name, limits, f"limits:{scope}:{kind}:{key}")


@attrs.frozen
class Ask:
    """What a call wants to take, under an id that no other call has."""

    id: str
    requests: int
    tokens: int
    lease_s: float


@attrs.frozen
class Blocked:
    """A limit that does not let a call begin, and for how long; None where it hangs on others."""

    owner: Owner
    limit: str
    wait_s: float | None


@attrs.frozen
class Remaining:
    """What is left of a limit, as `RateLimit-*` headers tell it.

    `remaining` may be taken now, which is a tenth of the limit while calls are steady; all of it
    may be taken in `reset_s`.
    """

    owner: Owner
    name: str
    limit: int
    remaining: int
    reset_s: float


class _Lease(msgspec.Struct, array_like=True):
    id: str
    until_s: float


class _Kept(msgspec.Struct, array_like=True):
    requests: MeterState | None = None
    tokens: MeterState | None = None
    leases: list[_Lease] = []


_decoder = msgspec.json.Decoder(_Kept)
_encoder = msgspec.json.Encoder()


class _Account:
    """What is kept of one owner, as it is at a time."""

    def __init__(self, owner: Owner, data: bytes | None, now_s: float) -> None:
        kept, limits = _read(data), owner.limits
        self.owner = owner
        self.now_s = now_s
        self.requests = _meter(limits.requests_per_minute, kept.requests, now_s)
        self.tokens = _meter(limits.tokens_per_minute, kept.tokens, now_s)
        self.leases = [lease for lease in kept.leases if lease.until_s > now_s]

    def blocked(self, ask: Ask) -> Blocked | None:
        """The limit that the call would wait for longest, None if it may begin."""
        found = (0.0, "")
        if self.requests is not None:
            wait_s = self.requests.wait_s(self.now_s, ask.requests)
            found = (wait_s, "requests_per_minute")
        if self.tokens is not None:
            wait_s = self.tokens.wait_s(self.now_s, ask.tokens)
            found = max(found, (wait_s, "tokens_per_minute"))
        if found[0] > 0:
            return Blocked(self.owner, found[1], found[0])
        most = self.owner.limits.concurrency
        if most is not None and len(self.leases) >= most:
            return Blocked(self.owner, "concurrency", None)
        return None

    def take(self, ask: Ask) -> None:
        """Let the call begin."""
        until_s = self.now_s + ask.lease_s
        if self.requests is not None:
            self.requests.take(self.now_s, ask.requests, id=ask.id, until_s=until_s)
        if self.tokens is not None:
            self.tokens.take(self.now_s, ask.tokens, id=ask.id, until_s=until_s)
        if self.owner.limits.concurrency is not None:
            self.leases.append(_Lease(ask.id, until_s))

    def settle(self, ask: Ask, requests: int, tokens: int) -> None:
        """Let the call end, which has really taken this."""
        if self.requests is not None:
            self.requests.settle_id(ask.id, self.now_s, ask.requests, requests)
        if self.tokens is not None:
            self.tokens.settle_id(ask.id, self.now_s, ask.tokens, tokens)
        self.leases = [lease for lease in self.leases if lease.id != ask.id]

    def entry(self) -> Entry:
        """What is to be kept, for as long as it makes a difference."""
        kept, ends_s = _Kept(leases=self.leases), 0.0
        if self.requests is not None:
            kept.requests = self.requests.state(self.now_s)
            ends_s = self.requests.full_s(self.now_s)
        if self.tokens is not None:
            kept.tokens = self.tokens.state(self.now_s)
            ends_s = max(ends_s, self.tokens.full_s(self.now_s))
        ends_s = max(ends_s, *(lease.until_s - self.now_s for lease in self.leases), 0.0)
        return Entry(_encoder.encode(kept), ends_s + _LONGER_S)

    def remaining(self) -> list[Remaining]:
        meters = {"requests_per_minute": self.requests, "tokens_per_minute": self.tokens}
        return [
            Remaining(
                self.owner,
                name,
                meter.per_minute,
                meter.room(self.now_s),
                meter.wait_s(self.now_s, meter.per_minute),
            )
            for name, meter in meters.items()
            if meter is not None
        ]


Kept = Sequence[bytes | None]


def admit(
    owners: Sequence[Owner], ask: Ask, kept: Kept, now_s: float
) -> Change[tuple[Blocked, ...]]:
    """Let a call begin: of all owners it is taken, or of none, and then by whom it is blocked."""
    accounts = [_Account(*each, now_s) for each in zip(owners, kept, strict=True)]
    blocked = tuple(found for each in accounts if (found := each.blocked(ask)) is not None)
    if blocked:
        return Change(blocked)
    for each in accounts:
        each.take(ask)
    return Change((), {each.owner.key: each.entry() for each in accounts})


def settle(
    owners: Sequence[Owner], ask: Ask, *, requests: int, tokens: int, kept: Kept, now_s: float
) -> Change[None]:
    """Let a call end, which has really taken this. One that never began, or twice, is no harm."""
    entries = {}
    for owner, data in zip(owners, kept, strict=True):
        account = _Account(owner, data, now_s)
        account.settle(ask, requests, tokens)
        entries[owner.key] = account.entry()
    return Change(None, entries)


def remaining(owners: Sequence[Owner], kept: Kept, now_s: float) -> tuple[Remaining, ...]:
    """What is left of each owner's requests and tokens."""
    found = [_Account(*each, now_s).remaining() for each in zip(owners, kept, strict=True)]
    return tuple(left for each in found for left in each)


def _read(data: bytes | None) -> _Kept:
    """What is kept; nothing, where it is what another version has written."""
    if data is None:
        return _Kept()
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:
        return _Kept()


def _meter(per_minute: int | None, state: MeterState | None, now_s: float) -> Meter | None:
    if per_minute is None:
        return None
    return Meter(per_minute) if state is None else Meter.resumed(per_minute, state, now_s)
