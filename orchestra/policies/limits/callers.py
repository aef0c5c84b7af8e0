"""Limits of callers, shared by all processes with the same state, and the queues for them.

Each caller has a line (a queue) in this process: first come, first served. A call at the head of
its line stands in the organisation's line only while nothing but the organisation's limits block
it. So each caller of an organisation gets a turn, however many calls another one has sent. In the
same way, a key with limits has a line in front of its user's line. A line is a lock, which Trio
gives to the task that has waited longest; it is dropped when it is empty.

Rules of the file: if a call does not begin, what it may have taken is given back, even if it is
unknown whether the state took it: see `outbox`.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import count as numbers
from math import inf
from weakref import WeakValueDictionary

import msgspec
import trio

from orchestra.accounts import NO_ALLOWANCE, Caller
from orchestra.errors import LimitReachedError, LimitUnknownError, StateError
from orchestra.policies.account import left_s
from orchestra.policies.clock import Clock
from orchestra.policies.limits.allowance import (
    ENCODING,
    LEASE_S,
    Ask,
    Blocked,
    Count,
    Kind,
    Owner,
    Rules,
    admit,
    count,
    settle,
)
from orchestra.policies.limits.owners import UNLIMITED, Owners
from orchestra.policies.outbox import Outbox
from orchestra.protocols import State

POLL_S = 0.25
"""The interval at which releases by other processes are noticed."""
AGAIN_S = 3600.0
"""The shortest time between two log lines that calls wait for one limit of a caller."""
_CALLERS_KEPT = 4096
_LOST = "what they may have taken stays taken, and they count as under way until their leases end"


class Lease(msgspec.Struct, frozen=True, eq=False):
    """What a running call holds of its limits. Release it with `leave`, once."""

    owners: Owners
    ask: Ask


NOTHING = Lease(UNLIMITED, Ask("", 0, 0.0))
NOT_COUNTED = Count((), None)
_ONE = Ask("", 0, 0.0)

log = logging.getLogger("orchestra.policies")


class _End(msgspec.Struct, frozen=True, eq=False):
    """The end of a call: the tokens that it really took, and whether it was sent."""

    lease: Lease
    tokens: int
    sent: bool

    def again(self) -> _End:
        """The end without tokens over the estimate: only these would count twice if sent twice."""
        return _End(self.lease, min(self.tokens, self.lease.ask.tokens), self.sent)


class _Waiting(msgspec.Struct, eq=False):
    """A call that wants to begin, and what blocked its last attempt."""

    lease: Lease
    blocked: Sequence[Blocked] = ()
    bells: Sequence[trio.Event] = ()
    """For each owner's key, an event that the next release of that owner's limits sets."""


class CallerLimits:
    """The limits of callers. Used in one `trio.run` at a time.

    `scope` separates the kinds of things that are limited: objects with the same scope and state
    share the limits. `process` is the prefix of the ids of this object's calls, and has to be
    unique; by default, it is random.
    """

    def __init__(
        self, rules: Rules, state: State, *, scope: str = "models", process: str = ""
    ) -> None:
        self.rules = rules
        self._keys_only = rules.of_keys_only
        self._state = state
        self.outbox: Outbox[_End] = Outbox(state, self._ended, _LOST)
        self._process = process or secrets.token_hex(6)
        self._numbers = numbers()
        self._owners: Callable[[Caller], Owners] = lru_cache(_CALLERS_KEPT)(
            partial(Owners.of, rules, scope)
        )
        self.waiting = 0
        """The number of waiting calls in this process."""
        self._lines: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()
        self._bells: WeakValueDictionary[str, trio.Event] = WeakValueDictionary()
        self._clock = Clock()
        self._log_next_s: dict[tuple[str, str], float] = {}

    def limited(self, caller: Caller) -> bool:
        """Whether the caller has any limit; without one, the state is never used."""
        return self.owners(caller) is not UNLIMITED

    def owners(self, caller: Caller) -> Owners:
        """The owners of limits for calls of this caller; `UNLIMITED` if there are none."""
        if self._keys_only and caller.allowance is NO_ALLOWANCE:
            return UNLIMITED
        return self._owners(caller)

    async def enter(
        self,
        caller: Caller,
        *,
        tokens: int = 0,
        lease_s: float = LEASE_S,
        queued: Callable[[], None] | None = None,
    ) -> Lease:
        """Wait until a call with so many tokens may begin; on return, it has begun.

        It takes from all limits of its key, user and organisation, or from none. After `lease_s`,
        the call no longer counts as concurrent, and gets no refund. `queued` is called if the call
        has to wait. If cancelled or refused, nothing is held.

        Raises:
            LimitReachedError: a limit is reached, and the call may not wait, or not long enough.
            LimitUnknownError: the state failed, and a limit then refuses calls.
        """
        owners = self._owners(caller)
        if owners is UNLIMITED:
            return NOTHING
        ask = Ask(f"{self._process}.{next(self._numbers)}", tokens, min(lease_s, LEASE_S))
        lease = Lease(owners, ask)
        blocked: Sequence[Blocked] = ()
        if self.waiting and any(self._stood_in(name) for name, _ in owners.lines):
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            blocked = await self._blocked(lease)
            if not blocked:
                return lease
            await _refuse_too_long_wait(_Waiting(lease, blocked))
        await self._wait(_Waiting(lease, blocked), queued)
        return lease

    async def count(self, caller: Caller, shown: CallerLimits | None = None) -> Count:
        """Take one request of the caller, without a refund; none if the caller is blocked.

        This never waits for limits. The result covers what is left of these limits and of those of
        `shown`, which must use the same state; nothing if the state failed.

        Raises:
            LimitUnknownError: the state failed, and a limit then refuses calls.
        """
        owners = self.owners(caller)
        others = UNLIMITED if shown is None else shown.owners(caller)
        keys = owners.keys + others.keys
        if not keys:
            return NOT_COUNTED
        try:
            counted = partial(count, owners.all, _ONE, others.all)
            return await self._state.revise(keys, counted, ENCODING)
        except StateError as error:
            if (closed := _closed(owners)) is not None:
                raise _away(closed, error) from error
        return NOT_COUNTED

    def refusal(self, count: Count) -> LimitReachedError | None:
        """The error for a blocked request; None if it was not blocked."""
        if not count.blocked:
            return None
        return _refused(_Waiting(NOTHING, count.blocked), "and a request over HTTP does not wait")

    async def leave(self, lease: Lease, *, tokens: int, sent: bool = True) -> None:
        """End a call: it really took these tokens and, if it was `sent`, its request.

        Never raises, and takes at most `GIVE_BACK_S`, even if the caller is cancelled. If the
        state does not answer, the end is sent later: see `Outbox`.
        """
        if lease.owners is UNLIMITED:
            return
        await self.outbox.send(_End(lease, tokens, sent))

    async def _wait(self, waiting: _Waiting, queued: Callable[[], None] | None) -> None:
        owners = waiting.lease.owners
        if owners.wait_max_s <= 0:
            raise _refused(waiting, "and its wait_max_s is 0")
        lines = [(self._line(name), kind) for name, kind in owners.lines]
        line, _ = lines[0]
        there, whose = line.statistics().tasks_waiting + line.locked(), " of this caller"
        if lines[-1][1] == "model":
            there, whose = self.waiting, ""
        if there >= owners.waiting_max:
            raise _refused(waiting, f"and {there} calls{whose} are waiting already", "waiting_max")
        if queued is not None:
            queued()
        self.waiting += 1
        try:
            with trio.move_on_after(owners.wait_max_s) as patience:
                await self._began_in_turn(waiting, lines, ())
        finally:
            self.waiting -= 1
        if patience.cancelled_caught:
            raise _refused(waiting, f"and it has waited {owners.wait_max_s:g} s")

    async def _began_in_turn(
        self, waiting: _Waiting, lines: Sequence[tuple[trio.Lock, Kind]], before: tuple[Kind, ...]
    ) -> bool:
        """Stand in these lines, each inside the one before; return whether the call has begun.

        The call leaves a line while the owner of one of the lines `before` it blocks the call. So
        in each line, a call waits only for that line's owner.
        """
        if not lines:
            # Set before asking, so that a release during the answer is noticed.
            waiting.bells = [self._bell(key) for key in waiting.lease.owners.keys]
            waiting.blocked = await self._blocked(waiting.lease)
            await _refuse_too_long_wait(waiting)
            return not waiting.blocked
        (line, kind), *wider = lines
        async with line:
            while not await self._began_in_turn(waiting, wider, (*before, kind)):
                if any(each.owner.kind in before for each in waiting.blocked):
                    return False
                await self._sleep(waiting)
        return True

    async def _blocked(self, lease: Lease) -> Sequence[Blocked]:
        """What blocks the call; if nothing does, it has begun. If cancelled, it has not begun."""
        admitted, keys = partial(admit, lease.owners.all, lease.ask), lease.owners.keys
        try:
            blocked = await self._state.revise(keys, admitted, ENCODING)
            if self.outbox.undelivered and await self.outbox.resend() and blocked:
                blocked = await self._state.revise(keys, admitted, ENCODING)
        except StateError as error:
            return await self._without(lease, error)
        except BaseException:
            await self.leave(lease, tokens=0, sent=False)  # noqa: ASYNC102 - it is shielded, and bounded
            raise
        return blocked

    async def _without(self, lease: Lease, error: StateError) -> Sequence[Blocked]:
        """As `_blocked`, while the state cannot be reached."""
        closed = _closed(lease.owners)
        if closed is None:
            return ()
        await self.leave(lease, tokens=0, sent=False)
        raise _away(closed, error) from error

    async def _ended(self, end: _End) -> None:
        """Send the end of a call to the state."""
        owners = end.lease.owners
        ended = partial(settle, owners.all, end.lease.ask, tokens=end.tokens, sent=end.sent)
        await self._state.revise(owners.keys, ended, ENCODING)
        if self.waiting:
            self._ring(owners.keys)

    async def _sleep(self, waiting: _Waiting) -> None:
        """Wait until another attempt may succeed."""
        worst = _worst(waiting.blocked)
        self._log(worst)
        bell = waiting.bells[waiting.lease.owners.keys.index(worst.owner.key)]
        with trio.move_on_after(POLL_S if worst.wait_s is None else worst.wait_s):
            await bell.wait()

    def _bell(self, key: str) -> trio.Event:
        bell = self._bells.get(key)
        if bell is None:
            bell = self._bells[key] = trio.Event()
        return bell

    def _ring(self, keys: tuple[str, ...]) -> None:
        """Wake the calls that wait for these keys."""
        for key in keys:
            if (bell := self._bells.pop(key, None)) is not None:
                bell.set()

    def _stood_in(self, key: str) -> bool:
        line = self._lines.get(key)
        return line is not None and line.locked()

    def _line(self, key: str) -> trio.Lock:
        return self._lines.setdefault(key, trio.Lock())

    def _log(self, blocked: Blocked) -> None:
        """Log that calls wait for this limit of a caller; else nothing tells why runs are slow."""
        owner, now_s, which = blocked.owner, self._clock.now_s(), (blocked.owner.key, blocked.limit)
        if owner.kind == "model" or now_s < self._log_next_s.get(which, -inf):
            return
        if len(self._log_next_s) >= _CALLERS_KEPT:
            self._log_next_s.clear()
        self._log_next_s[which] = now_s + AGAIN_S
        log.warning(
            "calls wait for limit %s of %s, which is logged once an hour: %s; waiting calls of all "
            "callers: %d",
            *(blocked.limit, owner, _taken(blocked), self.waiting),
        )


def _closed(owners: Owners) -> Owner | None:
    """An owner whose limits refuse calls while the state cannot be reached; None without one."""
    return next((each for each in owners.all if each.limits.when_state_fails == "closed"), None)


def _away(closed: Owner, error: StateError) -> LimitReachedError:
    return _error(
        closed,
        "when_state_fails",
        f"refused by the limits of {closed}: their state cannot be reached, and they have "
        f'when_state_fails = "closed"; repair the state, or write "open" ({error})',
        kind=LimitUnknownError,
    )


def _worst(blocked: Sequence[Blocked]) -> Blocked:
    """The limit with the longest known wait."""
    return max(blocked, key=lambda each: each.wait_s or 0.0)


async def _refuse_too_long_wait(waiting: _Waiting) -> None:
    """Refuse a call that would certainly have to wait longer than it may."""
    if not waiting.blocked or waiting.lease.owners.wait_max_s <= 0:
        return
    await trio.lowlevel.checkpoint_if_cancelled()
    wait_s = _worst(waiting.blocked).wait_s or 0.0
    allowed_s = min(left_s(), waiting.lease.owners.wait_max_s)
    if wait_s > allowed_s:
        raise _refused(waiting, f"and it may wait only {allowed_s:.3g} s")


def _refused(waiting: _Waiting, why: str, line: str = "wait_max_s") -> LimitReachedError:
    """The error for a refused call; `line` names the bound, if no limit has blocked it yet."""
    if not waiting.blocked:
        owner, limit, wait_s = waiting.lease.owners.all[-1], line, None
        what = "other calls are waiting for it already"
    else:
        worst = _worst(waiting.blocked)
        owner, limit, wait_s = worst.owner, worst.limit, worst.wait_s
        what = _taken(worst)
    wait = f", there is room in {wait_s:.3g} s" if wait_s is not None else ""
    return _error(
        owner,
        limit,
        f"refused by limit {limit} of {owner}: {what}{wait}, {why}; ask for less at once, "
        "or have the limit raised",
        wait_s,
    )


def _taken(blocked: Blocked) -> str:
    """How much of a limit is taken: all of it."""
    owner, most = blocked.owner, getattr(blocked.owner.limits, blocked.limit)
    rates = {"requests_per_minute": owner.requests, "tokens_per_minute": owner.tokens}
    rate = rates.get(blocked.limit)
    return f"{most if rate is None else f'{rate.burst} at once, of {most} a minute,'} are taken"


def _error(
    owner: Owner,
    limit: str,
    message: str,
    wait_s: float | None = None,
    kind: type[LimitReachedError] = LimitReachedError,
) -> LimitReachedError:
    """The error of a limit; for a model's limit, it has the form of `Limiter`'s errors."""
    if owner.kind == "model":
        return kind(message, code=limit, retry_after_s=wait_s, model=owner.name)
    return kind(message, code=f"{owner.kind}.{limit}", retry_after_s=wait_s)
