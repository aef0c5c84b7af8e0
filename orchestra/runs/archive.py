"""The runs stored in a state, for all processes that share it.

A run in progress has a live record, under `run:live:`, for at most `LIVE_TTL_S`. When the run has
ended, its events and its record are stored with `State.remember`, so that the state's own limit
bounds them all, and only then is the live record removed. So a reader that looks for the live
record first, and for the remembered one second, finds at least one of them.

A change whose caller gave up may still be applied, even after later changes. So the end of a run
replaces its live record by a `TOMBSTONE`, which a late start does not overwrite.

Rules of the file: whether a run is lost is decided in one change that also reads the heartbeat of
its process, so that it becomes lost once, at one time, for all processes. A lost run stays lost. A
process whose own heartbeat has expired does not declare runs lost: see `heartbeat`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from orchestra.groups import in_order
from orchestra.protocols import Change, Entry, State
from orchestra.records import readable
from orchestra.runs import inbox, index
from orchestra.runs.heartbeat import OwnHeartbeat
from orchestra.runs.keeping import Final, packed, unpacked
from orchestra.runs.keys import head_key
from orchestra.runs.record import EventLine, Record, lost
from orchestra.runs.retrying import ask_with_retries
from orchestra.runs.settings import RunsSettings

T = TypeVar("T")
U = TypeVar("U")

log = logging.getLogger("orchestra.runs")

LIVE_TTL_S = 7 * 24 * 3600.0
"""How long a live record is kept; also how much longer the index is kept than ended runs."""

TOMBSTONE = Entry(b"", 60.0)
"""Replaces a live record: the run has ended or will never start, so a late start must not be
written. It lasts a minute; no command takes that long to reach a state."""


def live_key(run_id: str) -> str:
    """The key of the live record: of a run in progress, of a lost run, or a `TOMBSTONE`."""
    return f"run:live:{run_id}"


def record_key(run_id: str) -> str:
    """The key of the record of an ended run."""
    return f"run:record:{run_id}"


def events_key(run_id: str) -> str:
    """The key of the events of an ended run."""
    return f"run:events:{run_id}"


def entry(record: Record, ttl_s: float = LIVE_TTL_S) -> Entry:
    """A live record as it is stored."""
    return Entry(_ENCODER.encode(record), ttl_s)


def record_of(data: bytes | None) -> Record | None:
    """The stored record; None if there is none, it is a `TOMBSTONE`, or it cannot be read."""
    return readable(_RECORD.decode, data or None, "the record of a run")


class Archive:
    """The runs stored in a state. Its methods raise StateError if the state is unreachable.

    `shared` is whether other registries use the state: only then does it have live records.
    """

    def __init__(self, state: State, settings: RunsSettings, *, shared: bool) -> None:
        self.state = state
        self.settings = settings
        self.shared = shared
        self.own_heartbeat = OwnHeartbeat(settings.dead_after_s)

    async def ask(
        self,
        keys: Sequence[str],
        decide: Callable[[Sequence[bytes | None], float], Change[T]],
    ) -> T:
        """Like `State.change`, with retries in case the state is unreachable for a moment.

        Raises:
            StateError: the state is unreachable.
        """
        return await ask_with_retries(partial(self.state.change, keys, decide))

    async def read(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """The data stored under these keys.

        Raises:
            StateError: the state is unreachable.
        """
        return await self.ask(keys, lambda stored, _: Change(list(stored)))

    async def send(self, process: str, request: inbox.PeerRequest) -> None:
        """Put a request into the inbox of a process, unless the inbox is full.

        Raises:
            StateError: the state is unreachable.
        """
        at = inbox.inbox_key(process)
        await self.ask([at], partial(inbox.put, at, request))

    async def records(self, run_ids: Sequence[str]) -> dict[str, Record]:
        """The records of the known runs among these; runs of dead processes become lost now.

        Raises:
            StateError: the state is unreachable.
        """
        live = map(record_of, await self.read([*map(live_key, run_ids)]))
        found = {run_id: each for run_id, each in zip(run_ids, live, strict=True) if each}
        running = {each.id: each.process for each in found.values() if not each.ended}
        if running:
            found.update(await self._settled(running))
        missing = [run_id for run_id in run_ids if run_id not in found]
        kept = await self.together(self._recall, missing)
        return found | {run_id: each for run_id, each in zip(missing, kept, strict=True) if each}

    async def record(self, run_id: str) -> Record | None:
        """The record of one run.

        Raises:
            StateError: the state is unreachable.
        """
        return (await self.records([run_id])).get(run_id)

    async def events(self, run_id: str) -> tuple[EventLine, ...]:
        """The kept events of an ended run; empty if they are no longer kept.

        Raises:
            StateError: the state is unreachable.
        """
        return unpacked(await ask_with_retries(partial(self.state.recall, events_key(run_id))))

    async def keep(self, final: Final) -> None:
        """Store an ended run: its events first, then its record.

        Raises:
            StateError: the state is unreachable; the call may be repeated.
        """
        run_id, ttl_s = final.record.id, self.settings.kept_s
        await self.state.remember(events_key(run_id), packed(final.events), ttl_s=ttl_s)
        await self.state.remember(record_key(run_id), final.record_data, ttl_s=ttl_s)

    async def note(
        self, started: Sequence[Record], running: Sequence[Record], ended: Sequence[str]
    ) -> None:
        """Add `started` runs to the index; in a shared state, also write and end live records.

        All `running` runs must belong to one live process, whose heartbeat is written with them.
        Runs that have a live record already are in the index already.

        Raises:
            StateError: the state is unreachable; the call may be repeated.
        """
        if not self.shared:
            running, ended = (), ()
        if not (started or running or ended):
            return
        by_head: dict[str, list[str]] = {}
        for record in started:
            by_head.setdefault(head_key(record.starter), []).append(record.id)
        touched = [*(each.id for each in running), *ended]
        goes_on = {record.id: entry(record) for record in running}

        def noted(stored: Sequence[bytes | None], _: float) -> Change[None]:
            """The entries for starts and ends; a run that has ended or is lost stays so."""
            was = dict(zip(touched, stored[len(by_head) :], strict=True))
            entries: dict[str, Entry | None] = {}
            for (head, ids), data in zip(by_head.items(), stored, strict=False):
                new = [run_id for run_id in ids if not _was_told(was.get(run_id))]
                entries.update(index.append(head, data, new, self.settings.kept_s + LIVE_TTL_S))
            if running:
                entries.update(inbox.heartbeat(running[0].process, self.settings.dead_after_s))
            for run_id, data in was.items():
                before = record_of(data)
                if data != TOMBSTONE.data and not (before is not None and before.ended):
                    entries[live_key(run_id)] = goes_on.get(run_id, TOMBSTONE)
            return Change(None, entries)

        await self.state.change([*by_head, *map(live_key, touched)], noted)

    async def lose(self, run_id: str, process: str) -> Record | None:
        """Mark a run of `process` as lost, unless it has ended; its live record, if it has one.

        Raises:
            StateError: the state is unreachable.
        """
        lose = partial(self._lose, [run_id], {process})
        return (await self.state.change([live_key(run_id)], lose)).found.get(run_id)

    async def _settled(self, running: Mapping[str, str]) -> Mapping[str, Record]:
        """The records of running runs, after marking those of dead processes as lost."""
        processes = sorted(set(running.values()))

        def settle(stored: Sequence[bytes | None], now_s: float) -> Change[_Settled]:
            heartbeats = zip(processes, stored[len(running) :], strict=True)
            silent = {process for process, heartbeat in heartbeats if heartbeat is None}
            dead = silent if self.own_heartbeat.may_judge(now_s) else set[str]()
            return self._lose([*running], dead, stored, now_s)

        keys = [*map(live_key, running), *map(inbox.process_key, processes)]
        settled = await self.ask(keys, settle)
        for each in settled.lost:
            log.warning(
                "run %s of pipeline %r is lost, since its process has died (request %s)",
                *(each.id, each.pipeline, each.request_id or "without an id"),
            )
        return settled.found

    def _lose(
        self,
        run_ids: Sequence[str],
        dead: set[str],
        stored: Sequence[bytes | None],
        now_s: float,
    ) -> Change[_Settled]:
        """Mark runs in progress in a `dead` process as lost; the result has all live records."""
        found: dict[str, Record] = {}
        entries: dict[str, Entry | None] = {}
        for run_id, data in zip(run_ids, stored, strict=False):
            record = record_of(data)
            if record is None:
                continue
            if not record.ended and record.process in dead:
                record = lost(record, now_s)
                entries[live_key(run_id)] = entry(record, self.settings.kept_s)
            found[run_id] = record
        newly = [each for run_id, each in found.items() if live_key(run_id) in entries]
        return Change(_Settled(found, newly), entries)

    async def together(self, act: Callable[[U], Awaitable[T]], items: Sequence[U]) -> list[T]:
        """Call `act`, which asks the state, for all items, and return the results in order.

        If the state waits, the calls are made concurrently, so that it can batch them.

        Raises:
            StateError: the error of the first call that failed, not in an exception group.
        """
        if len(items) < 2 or self.state.at_once:  # noqa: PLR2004 - one call needs no nursery
            return [await act(each) for each in items]
        return await in_order(act, items, len(items))

    async def _recall(self, run_id: str) -> Record | None:
        """The record of an ended run."""
        recall = partial(self.state.recall, record_key(run_id))
        return record_of(await ask_with_retries(recall))


class _Settled(msgspec.Struct, frozen=True):
    """Records by run id, and which of them just became lost."""

    found: Mapping[str, Record]
    lost: Sequence[Record]


def _was_told(live: bytes | None) -> bool:
    """Whether a live entry says that the run was started; the entry of a mere claim does not."""
    before = record_of(live)
    return live == TOMBSTONE.data or (before is not None and before.begun)


_ENCODER = msgspec.msgpack.Encoder()
_RECORD = msgspec.msgpack.Decoder(Record)
