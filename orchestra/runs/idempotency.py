"""Idempotency keys: each stands for one run, whichever process receives it, and however often.

The claim of a key and the record of its run are written in one change, before the run is started.
So the same key always leads to the same run, and nothing is started without a claim.

Rules of the file: the claim of a run that is not started is undone, now or later, and a late write
cannot restore it. A claim whose process died before the run started is taken over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeAlias

import msgspec
import trio

from orchestra.errors import StateError
from orchestra.protocols import Change, Entry, State
from orchestra.records import certain, readable
from orchestra.runs import inbox
from orchestra.runs.archive import TOMBSTONE, Archive, entry, live_key, record_of
from orchestra.runs.record import Record

KEYS_MAX = 50_000
"""Keys of one organisation that a state in memory keeps, at 0.6 kB each; the oldest go first."""

TRIES_MAX = 8
"""How often to try to claim a key while other requests give it back at the same moment."""

BEGIN_WAIT_S = 10.0
"""How long a claim waits for the run of another process to start. Usually that takes a moment, or
that process gives the key back, or is found to be dead."""


class Claim(msgspec.Struct, frozen=True):
    """The stored record of a key: the digest of the request, and the id of its run."""

    digest: str
    run_id: str


class NewClaim(msgspec.Struct, frozen=True):
    """The key is new, and stands for this run from now on: start the run."""

    run_id: str
    key: str
    """The key of the claim in the state, for `undone`."""


class ExistingClaim(msgspec.Struct, frozen=True):
    """The key already stands for this run: follow the run."""

    run_id: str


class ConflictingClaim(msgspec.Struct, frozen=True):
    """The key was used with a different request: start nothing."""

    run_id: str


Claimed: TypeAlias = NewClaim | ExistingClaim | ConflictingClaim


class Claims(msgspec.Struct, eq=False):
    """The claims of this process, and the claimed runs that are about to start.

    `look` returns the record of a run; `undo` schedules a call that is retried until it succeeds.
    """

    archive: Archive
    look: Callable[[str], Awaitable[Record | None]]
    undo: Callable[[Callable[[], Awaitable[object]]], None]
    _about: dict[str, trio.Event] = msgspec.field(default_factory=dict)

    async def claim(self, at: str, digest: str, made: Callable[[], Record]) -> Claimed:
        """Claim the key stored at `at`, for a new run whose record `made` returns.

        After a `NewClaim`, call `begun` before awaiting anything, or call `unclaim`.

        Raises:
            StateError: the state is unreachable, the record of the key cannot be read, or the key
                was given back again and again; start nothing.
        """
        dead: str | None = None
        for _ in range(TRIES_MAX):
            claimed = await self._attempt(at, digest, made(), dead)
            if not isinstance(claimed, ExistingClaim):
                return claimed
            record = await self._begins(claimed.run_id)
            if record is None:
                if not await self._given_back(at, claimed):
                    return claimed
                dead = None
            elif never_began(record):
                dead = claimed.run_id
            else:
                return claimed
        raise StateError(
            f"other requests claimed this idempotency key and gave it back {TRIES_MAX} times in a "
            "row; send the request again"
        )

    async def unclaim(self, mine: NewClaim) -> None:
        """Give the key back, since its run was not started; later, if the state is unreachable."""
        try:
            await undone(self.archive.state, mine)
        except Exception:  # noqa: BLE001 - the recorder retries it, and logs it
            self._unclaim_soon(mine)
        except BaseException:
            self._unclaim_soon(mine)
            raise
        self.begun(mine.run_id)

    def _unclaim_soon(self, mine: NewClaim) -> None:
        self.begun(mine.run_id)
        self.undo(partial(undone, self.archive.state, mine))

    def begun(self, run_id: str) -> None:
        """Tell those who wait that the run was started, or will not be."""
        about = self._about.pop(run_id, None)
        if about is not None:
            about.set()

    async def settled(self, run_id: str) -> None:
        """Wait until a run that was claimed in this process is started, or will not be."""
        about = self._about.get(run_id)
        if about is not None:
            await about.wait()

    async def _begins(self, run_id: str) -> Record | None:
        """The record of a run once it has started or ended, or after `BEGIN_WAIT_S`."""
        until_s = trio.current_time() + BEGIN_WAIT_S
        while True:  # noqa: ASYNC913 - each round reads the state, and sleeps
            record = await self.look(run_id)
            if record is None or record.begun or record.ended or trio.current_time() >= until_s:
                return record
            await trio.sleep(self.archive.settings.publish_s)

    async def _attempt(self, at: str, digest: str, record: Record, dead: str | None) -> Claimed:
        """Try to write the claim; if it is unknown whether it was written, it is given back."""
        self._about[record.id] = trio.Event()
        mine = NewClaim(record.id, at)
        entries = self._entries(at, Claim(digest, record.id), record)

        def decide(stored: Sequence[bytes | None], _: float) -> Change[Claimed]:
            """Claim a key that stands for no run, or for a dead run that never started."""
            if stored[1] is not None:  # a late write of a claim that was given back already
                return Change(ExistingClaim(mine.run_id))
            before = _read(stored[0]) if stored[0] is not None else None
            if before is None:
                return Change(mine, entries)
            if before.digest != digest:
                return Change(ConflictingClaim(before.run_id))
            lost = record_of(stored[2]) if before.run_id == dead else None
            if lost is not None and never_began(lost):
                return Change(mine, {**entries, live_key(lost.id): None})
            return Change(ExistingClaim(before.run_id))

        keys = [at, live_key(record.id), *([] if dead is None else [live_key(dead)])]
        try:
            claimed = await self.archive.state.change(keys, decide)
        except BaseException:
            self._unclaim_soon(mine)
            raise
        if claimed != mine:
            self.begun(record.id)
        return claimed

    def _entries(self, at: str, claim: Claim, record: Record) -> dict[str, Entry | None]:
        settings = self.archive.settings
        entries: dict[str, Entry | None] = {
            at: Entry(msgspec.msgpack.encode(claim), settings.idempotency_s, KEYS_MAX)
        }
        if self.archive.shared:
            entries[live_key(record.id)] = entry(msgspec.structs.replace(record, begun=False))
            entries.update(inbox.heartbeat(record.process, settings.dead_after_s))
        return entries

    async def _given_back(self, at: str, existing: ExistingClaim) -> bool:
        """Whether the key no longer stands for that run."""
        (data,) = await self.archive.read([at])
        return data is None or _read(data).run_id != existing.run_id


async def undone(state: State, mine: NewClaim) -> None:
    """Give back the claim of a run that is not started.

    Raises:
        StateError: the state is unreachable; the call may be repeated.
    """

    def undo(stored: Sequence[bytes | None], _: float) -> Change[None]:
        entries: dict[str, Entry | None] = {live_key(mine.run_id): TOMBSTONE}
        claim = readable(_CLAIM.decode, stored[0], _WHAT)
        if claim is not None and claim.run_id == mine.run_id:
            entries[mine.key] = None
        return Change(None, entries)

    await state.change([mine.key], undo)


def never_began(record: Record) -> bool:
    """Whether the run's process died between the claim of its key and its start."""
    return record.lost and not record.begun


def _read(data: bytes) -> Claim:
    """Decode the claim of a key.

    Raises:
        StateError: it cannot be read, so that nobody knows which run the key stands for.
    """
    return certain(_CLAIM.decode, data, _WHAT, "send the request with another key")


_WHAT = "the record of an idempotency key"
_CLAIM = msgspec.msgpack.Decoder(Claim)
