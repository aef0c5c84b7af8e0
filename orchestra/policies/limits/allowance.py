"""The limits of keys, users, organisations and models, and the state of each. Pure.

For each owner of limits, one value is kept in a `State`: a meter of requests, a meter of tokens,
and the leases of running calls. A call takes from all of its owners or from none, in one change. A
lease lasts as long as the longest call, and is not renewed, so no task has to run beside the calls
for that. What a dead process held is free again when its leases expire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from types import MappingProxyType
from typing import Literal, Protocol
from urllib.parse import quote

import attrs
import msgspec

from orchestra.accounts import Caller, KeyAllowance
from orchestra.eventclass import event
from orchestra.policies.limits.gcra import BURST_SHARE, SECOND_NS, MeterState, Rate
from orchestra.protocols import WhenStateFails
from orchestra.records import Encoding, Revision, readable

LEASE_S = 3600.0
"""The longest lease; a call that takes longer no longer counts as concurrent."""
_NAME_CHARS = 200
_LONGER_S = 1.0
"""How much longer than needed a value is kept, because clocks differ a little."""

Kind = Literal["key", "user", "organisation", "model"]


@attrs.frozen(kw_only=True)
class OwnerLimits:
    """The limits of one key, user or organisation, in all processes together; None is no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Input and output tokens: estimated before a call, and corrected after it."""
    burst_share: float = BURST_SHARE
    """The share of a limit per minute that may come at once; the rest comes at a steady rate."""
    concurrency: int | None = None
    """Concurrent calls; a streamed answer counts until it is left."""
    runs: int | None = None
    """Concurrent runs in one server process; further ones are refused."""
    wait_max_s: float = 30.0
    """How long a call may wait, unless its deadline is earlier; 0 means that it never waits."""
    waiting_max: int = 100
    """Waiting calls of one caller in one process; further ones are refused at once."""
    when_state_fails: WhenStateFails = "open"
    """Whether calls are unlimited ("open") or refused ("closed") while the state is unreachable."""

    @property
    def limited(self) -> bool:
        """Whether there is any limit on calls."""
        limits = (self.requests_per_minute, self.tokens_per_minute, self.concurrency)
        return any(each is not None for each in limits)


@attrs.frozen
class Owner:
    """An owner of limits that apply to a call. `key` is its key in the state."""

    kind: Kind
    name: str
    limits: OwnerLimits
    key: str
    requests: Rate | None
    tokens: Rate | None
    """`requests` and `tokens` are the limits per minute, as rates for meters."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"

    def held(self, tokens: int) -> int:
        """The tokens to take for an estimate of `tokens`."""
        return tokens if self.tokens is None else self.tokens.held(tokens)


NO_LIMITS = OwnerLimits()
NO_OWNERS: Mapping[str, OwnerLimits] = MappingProxyType({})


class Rules(Protocol):
    """Determines the owners of limits for each call."""

    def owners(self, caller: Caller, scope: str) -> tuple[Owner, ...]:
        """The owners for a call of this caller, the narrowest first; () if there are none."""

    @property
    def of_keys_only(self) -> bool:
        """Whether the only limits are those that come with a caller's key."""


@attrs.frozen(kw_only=True)
class CallerRules(Rules):
    """The limits of all callers: of users and organisations in general, and of some by name.

    Users with the same name in two organisations are two owners with the same limits. The limits
    of a key come with the caller; their `burst_share` is that of its user.
    """

    user: OwnerLimits = NO_LIMITS
    organisation: OwnerLimits = NO_LIMITS
    users: Mapping[str, OwnerLimits] = NO_OWNERS
    organisations: Mapping[str, OwnerLimits] = NO_OWNERS
    requests_only: bool = False
    """Whether only the request limits count, and calls never wait for them."""

    @property
    def of_keys_only(self) -> bool:
        """Whether the only limits are those that come with a caller's key."""
        named = (*self.users.values(), *self.organisations.values())
        everybodys = (self.user, self.organisation, *named)
        return not any(self._counted(each).limited for each in everybodys)

    def of_requests(self) -> CallerRules:
        """The same rules for HTTP requests: only their number counts, and none of them waits."""
        return attrs.evolve(self, requests_only=True)

    def owners(self, caller: Caller, scope: str) -> tuple[Owner, ...]:
        """The owners for a call of this caller, the narrowest first; () if it has no limits."""
        found: list[Owner] = []
        if caller.key:
            share = self.users.get(caller.user, self.user).burst_share
            limits = self._counted(_of_key(caller.allowance, share))
            found.append(owner_of("key", caller.key, limits, scope))
        if caller.user:
            limits = self._counted(self.users.get(caller.user, self.user))
            found.append(owner_of("user", caller.full_user, limits, scope))
        if caller.organisation:
            own = self.organisations.get(caller.organisation, self.organisation)
            limits = self._counted(own)
            found.append(owner_of("organisation", caller.organisation, limits, scope))
        return tuple(owner for owner in found if owner.limits.limited)

    def _counted(self, limits: OwnerLimits) -> OwnerLimits:
        """The part of these limits that counts here."""
        if not self.requests_only:
            return limits
        return attrs.evolve(limits, tokens_per_minute=None, concurrency=None, wait_max_s=0.0)


def _of_key(allowed: KeyAllowance, burst_share: float) -> OwnerLimits:
    return OwnerLimits(
        requests_per_minute=allowed.requests_per_minute,
        tokens_per_minute=allowed.tokens_per_minute,
        burst_share=burst_share,
        concurrency=allowed.concurrency,
    )


def owner_of(kind: Kind, name: str, limits: OwnerLimits, scope: str) -> Owner:
    """An owner of limits; `scope` separates the kinds of things that are limited."""
    key = quote(name, safe="", errors="surrogatepass")
    if len(key) > _NAME_CHARS:
        key = f"={sha256(key.encode()).hexdigest()}"  # a quoted name has no =
    requests, tokens = (
        None if each is None else Rate.of(each, limits.burst_share)
        for each in (limits.requests_per_minute, limits.tokens_per_minute)
    )
    return Owner(kind, name, limits, f"limits:{scope}:{kind}:{key}", requests, tokens)


class Ask(msgspec.Struct, frozen=True):
    """The tokens and the lease that a call takes besides its one request, under a unique id."""

    id: str
    tokens: int
    lease_s: float


@attrs.frozen
class Blocked:
    """A limit that blocks a call; `wait_s` is None if the wait depends on other calls."""

    owner: Owner
    limit: str
    wait_s: float | None


@event
class Remaining:
    """What is left of a limit, as in the `RateLimit-*` headers.

    `remaining` may be taken now: at most about a burst while calls come steadily. In
    `reset_s` seconds, the whole limit may be taken.
    """

    owner: Owner
    name: str
    limit: int
    remaining: int
    reset_s: float


@event
class Count:
    """What blocks a request (it is counted if nothing does), and what is left afterwards.

    `nearest` is the limit per minute that is reached first, as far as one can say: of requests and
    of tokens, that with the fewest left, and of these two, the one with the smaller share.
    """

    blocked: Sequence[Blocked]
    nearest: Remaining | None


class _Lease(msgspec.Struct, array_like=True):
    id: str
    until_s: float


class OwnerState(msgspec.Struct, array_like=True):
    """The state of one owner's limits; None for a limit that does not exist."""

    requests: MeterState | None = None
    tokens: MeterState | None = None
    leases: list[_Lease] = []

    def advance(self, owner: Owner, now_s: float) -> bool:
        """Move to this time, and to the owner's present limits; return whether time went back."""
        now_ns, back = int(now_s * SECOND_NS), False
        if owner.requests is None:
            self.requests = None
        elif self.requests is None:
            self.requests = owner.requests.unused(now_ns)
        else:
            back = self.requests.advance(owner.requests, now_ns)
        if owner.tokens is None:
            self.tokens = None
        elif self.tokens is None:
            self.tokens = owner.tokens.unused(now_ns)
        else:
            back = self.tokens.advance(owner.tokens, now_ns) or back
        if self.leases:
            self.leases = [lease for lease in self.leases if lease.until_s > now_s]
        return back

    def blocked(self, owner: Owner, ask: Ask) -> Blocked | None:
        """The limit with the longest wait for the call; None if it may begin."""
        longest_s, limit = 0.0, ""
        if owner.requests is not None and self.requests is not None:
            longest_s = owner.requests.wait_s(self.requests.debt, 1)
            limit = "requests_per_minute"
        if owner.tokens is not None and self.tokens is not None:
            wait_s = owner.tokens.wait_s(self.tokens.debt, ask.tokens)
            if wait_s > longest_s:
                longest_s, limit = wait_s, "tokens_per_minute"
        if longest_s > 0:
            return Blocked(owner, limit, longest_s)
        most = owner.limits.concurrency
        if most is not None and len(self.leases) >= most:
            return Blocked(owner, "concurrency", None)
        return None

    def take(self, owner: Owner, ask: Ask, now_s: float) -> None:
        """Take what the call asks for, from all limits."""
        until_s = now_s + ask.lease_s
        until_ns = int(until_s * SECOND_NS)
        if self.requests is not None:
            self.requests.take(1, id=ask.id, until_ns=until_ns)
        if self.tokens is not None:
            self.tokens.take(owner.held(ask.tokens), id=ask.id, until_ns=until_ns)
        if owner.limits.concurrency is not None:
            self.leases.append(_Lease(ask.id, until_s))

    def spend(self) -> None:
        """Take a request without a refund."""
        if self.requests is not None:
            self.requests.spend(1)

    def settle(self, owner: Owner, ask: Ask, tokens: int, now_s: float, *, sent: bool) -> None:
        """End the call: it really took these tokens and, if it was `sent`, its request."""
        held = owner.held(ask.tokens)
        if tokens > held:  # taking more depends on the time; a refund does not
            self.advance(owner, now_s)
        if self.requests is not None:
            self.requests.settle_id(ask.id, 1, int(sent))
        if self.tokens is not None:
            self.tokens.settle_id(ask.id, held, tokens)
        if self.leases:
            self.leases = [lease for lease in self.leases if lease.id != ask.id]

    def kept(self, owner: Owner, now_s: float) -> tuple[OwnerState, float]:
        """The state to keep, and for how many seconds it matters."""
        ends_s = 0.0
        if self.requests is not None and owner.requests is not None:
            ends_s = self.requests.closed(owner.requests)
        if self.tokens is not None and owner.tokens is not None:
            tokens_s = self.tokens.closed(owner.tokens)
            ends_s = max(ends_s, tokens_s)
        for lease in self.leases:
            ends_s = max(ends_s, lease.until_s - now_s)
        return self, ends_s + _LONGER_S

    def used(self, owner: Owner) -> list[tuple[str, Rate, MeterState]]:
        """The limits per minute: the name, rate and meter of each."""
        found = []
        if owner.requests is not None and self.requests is not None:
            found.append(("requests_per_minute", owner.requests, self.requests))
        if owner.tokens is not None and self.tokens is not None:
            found.append(("tokens_per_minute", owner.tokens, self.tokens))
        return found


def _read(data: bytes) -> OwnerState:
    """Decode a state; return a new one if it cannot be read, as of another version."""
    return readable(_DECODER.decode, data, "what is taken of limits") or OwnerState()


_DECODER = msgspec.json.Decoder(OwnerState)
ENCODING: Encoding[OwnerState] = Encoding(_read, msgspec.json.Encoder().encode)
Kept = Sequence[OwnerState | None]
OwnerStates = Sequence[tuple[Owner, OwnerState]]


def admit(
    owners: Sequence[Owner], ask: Ask, kept: Kept, now_s: float
) -> Revision[Sequence[Blocked], OwnerState]:
    """Let a call begin: take from all owners, or take from none and return what blocks it."""
    states, back = _states(owners, kept, now_s)
    blocked = [found for owner, state in states if (found := state.blocked(owner, ask))]
    if blocked:
        # after the clock went back, the states have to be rewritten
        return Revision(blocked, _written(states, now_s) if back else {})
    for owner, state in states:
        state.take(owner, ask, now_s)
    return Revision((), _written(states, now_s))


def count(
    owners: Sequence[Owner], ask: Ask, others: Sequence[Owner], kept: Kept, now_s: float
) -> Revision[Count, OwnerState]:
    """As `admit`, but take only a request, without a refund.

    From `others`, whose states follow in `kept`, nothing is taken; only `Count.nearest` includes
    them.
    """
    counted, back = _states(owners, kept[: len(owners)], now_s)
    shown, _ = _states(others, kept[len(owners) :], now_s)
    blocked = [found for owner, state in counted if (found := state.blocked(owner, ask))]
    if not blocked:
        for _, state in counted:
            state.spend()
    records = _written(counted, now_s) if back or not blocked else {}
    return Revision(Count(blocked, _nearest([*counted, *shown])), records)


def settle(
    owners: Sequence[Owner], ask: Ask, kept: Kept, now_s: float, *, tokens: int, sent: bool
) -> Revision[None, OwnerState]:
    """End a call: it really took these tokens and, if it was `sent`, its request.

    For a call that never began, or has ended already, only tokens over its estimate are counted.
    """
    states = [(owner, kept[at] or OwnerState()) for at, owner in enumerate(owners)]
    for owner, state in states:
        state.settle(owner, ask, tokens, now_s, sent=sent)
    return Revision(None, _written(states, now_s))


def _nearest(states: OwnerStates) -> Remaining | None:
    """Of requests and of tokens, the limit with the fewest left; of these, the smaller share."""
    fewest: dict[str, tuple[int, Owner, Rate, MeterState]] = {}
    for owner, state in states:
        for name, rate, meter in state.used(owner):
            room = rate.room(meter.debt)
            if name not in fewest or room < fewest[name][0]:
                fewest[name] = room, owner, rate, meter
    if not fewest:
        return None
    name = min(fewest, key=lambda name: fewest[name][0] / fewest[name][2].per_minute)
    _, owner, rate, meter = fewest[name]
    return _left(owner, name, rate, meter)


def _left(owner: Owner, name: str, rate: Rate, meter: MeterState) -> Remaining:
    room, all_s = rate.room(meter.debt), rate.wait_s(meter.debt, rate.per_minute)
    return Remaining(owner, name, rate.per_minute, room, all_s)


def _states(
    owners: Sequence[Owner], kept: Kept, now_s: float
) -> tuple[list[tuple[Owner, OwnerState]], bool]:
    """The current state of each owner, and whether the clock went back since the last change."""
    states, back = [], False
    for at, owner in enumerate(owners):
        state = kept[at] or OwnerState()
        back = state.advance(owner, now_s) or back
        states.append((owner, state))
    return states, back


def _written(states: OwnerStates, now_s: float) -> dict[str, tuple[OwnerState, float] | None]:
    return {owner.key: state.kept(owner, now_s) for owner, state in states}
