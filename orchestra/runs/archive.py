"""Runs as a state keeps them, for every process that shares it.

A run that goes on has its record under `run:live:`, for `LIVE_TTL_S` at the most. When it has
ended, its events and its record are *remembered*, so that the state's own limit bounds them all,
and only then the live record goes: whoever looks for it there first and then among the remembered
finds one of them.

A change that was given up may still happen, after later ones. So the end of a run replaces its live
record by a `TOMBSTONE`, over which no start is written.

Rules of the file: whether a run is lost is decided in one change, together with the heartbeat of
its process, so that it is lost once, at one time, for all. A lost run stays lost. A process whose
own heartbeat has expired declares no run lost: see `heartbeat`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import msgspec
import trio

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

log = logging.getLogger("orchestra.runs")

LIVE_TTL_S = 7 * 24 * 3600.0
"""How long a run that goes on is known; and how long an index outlives the runs in it."""

TOMBSTONE = Entry(b"", 60.0)
"""In place of a live record: the run has ended, or will never begin, whatever arrives late. No
command takes as long as this minute to reach a state."""


def live_key(run_id: str) -> str:
    """The key of the record of a run that goes on or is lost, or of `TOMBSTONE`."""
    return f"run:live:{run_id}"


def record_key(run_id: str) -> str:
    """The key of the record of a run that has ended."""
    return f"run:record:{run_id}"


def events_key(run_id: str) -> str:
    """The key of its events."""
    return f"run:events:{run_id}"


def entry(record: Record, ttl_s: float = LIVE_TTL_S) -> Entry:
    """A record as it is stored."""
    return Entry(_ENCODER.encode(record), ttl_s)


def record_of(data: bytes | None) -> Record | None:
    """The stored record; None if there is none, it is `TOMBSTONE`, or it cannot be read."""
    return readable(_RECORD.decode, data or None, "the record of a run")


class Archive:
    """The runs in a state. Everything here raises StateError where the state is away.

    `shared` is whether other registries use the state: only then runs that go on are in it.
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
        """As `State.change`, tried again where the state is away for a moment.

        Raises:
            StateError: the state is away.
        """
        return await ask_with_retries(partial(self.state.change, keys, decide))

    async def read(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """What is stored under these keys.

        Raises:
            StateError: the state is away.
        """
        return await self.ask(keys, lambda there, _: Change(list(there)))

    async def send(self, process: str, request: inbox.PeerRequest) -> None:
        """Put a request into the inbox of a process, unless that is full.

        Raises:
            StateError: the state is away.
        """
        at = inbox.inbox_key(process)
        await self.ask([at], partial(inbox.put, at, request))

    async def records(self, run_ids: Sequence[str]) -> dict[str, Record]:
        """The records of the known ones; runs whose process has died become lost now.

        Raises:
            StateError: the state is away.
        """
        found = await self._read_live(run_ids)
        running = {each.id: each.process for each in found.values() if not each.ended}
        if running:
            found.update(await self._settled(running))
        missing = [run_id for run_id in run_ids if run_id not in found]
        for run_id, data in zip(missing, await self._recalled(missing), strict=True):
            record = record_of(data)
            if record is not None:
                found[run_id] = record
        return found

    async def record(self, run_id: str) -> Record | None:
        """The record of one run.

        Raises:
            StateError: the state is away.
        """
        return (await self.records([run_id])).get(run_id)

    async def events(self, run_id: str) -> tuple[EventLine, ...]:
        """The kept events of a run that has ended; empty if they are kept no longer.

        Raises:
            StateError: the state is away.
        """
        return unpacked(await ask_with_retries(partial(self.state.recall, events_key(run_id))))

    async def keep(self, final: Final) -> None:
        """Remember a run that has ended, its record last.

        Raises:
            StateError: the state is away; it may be done again.
        """
        run_id, ttl_s = final.record.id, self.settings.kept_s
        await self.state.remember(events_key(run_id), packed(final.events), ttl_s=ttl_s)
        await self.state.remember(record_key(run_id), final.record_data, ttl_s=ttl_s)

    async def note(
        self, started: Sequence[Record], running: Sequence[Record], ended: Sequence[str]
    ) -> None:
        """Index runs that started; in a shared state, publish those that go on, until they end.

        All that go on belong to one live process. A run that was published before is in the
        index already.

        Raises:
            StateError: the state is away; it may be done again.
        """
        if not self.shared:
            running, ended = (), ()
        if not (started or running or ended):
            return
        by_head: dict[str, list[str]] = {}
        for record in started:
            by_head.setdefault(head_key(record.starter), []).append(record.id)
        touched = [*(each.id for each in running), *ended]
        change = partial(_noted, self.settings, _Noted(by_head, running, ended))
        await self.state.change([*by_head, *map(live_key, touched)], change)

    async def lose(self, run_id: str, process: str) -> Record | None:
        """Mark a run of this process as lost, unless it has ended meanwhile; its record.

        Raises:
            StateError: the state is away.
        """
        lose = partial(self._lose, [run_id], {process})
        return (await self.state.change([live_key(run_id)], lose)).found.get(run_id)

    async def _read_live(self, run_ids: Sequence[str]) -> dict[str, Record]:
        records = map(record_of, await self.read([live_key(run_id) for run_id in run_ids]))
        return {run_id: each for run_id, each in zip(run_ids, records, strict=True) if each}

    async def _settled(self, running: Mapping[str, str]) -> Mapping[str, Record]:
        """The records of running ones, those without a live process now lost."""
        processes = sorted(set(running.values()))
        keys = [*map(live_key, running), *map(inbox.process_key, processes)]
        settle = partial(self._settle, [*running], processes)
        return _with_lost_logged(await self.ask(keys, settle))

    def _settle(
        self,
        run_ids: Sequence[str],
        processes: Sequence[str],
        there: Sequence[bytes | None],
        now_s: float,
    ) -> Change[_Settled]:
        """Those that are there, those of dead processes lost; `there`: runs, then heartbeats."""
        heartbeats = zip(processes, there[len(run_ids) :], strict=True)
        silent = {process for process, heartbeat in heartbeats if heartbeat is None}
        dead = silent if self.own_heartbeat.may_judge(now_s) else set[str]()
        return self._lose(run_ids, dead, there, now_s)

    def _lose(
        self,
        run_ids: Sequence[str],
        dead: set[str],
        there: Sequence[bytes | None],
        now_s: float,
    ) -> Change[_Settled]:
        """Those that are there; those that go on in a dead process are lost now."""
        found: dict[str, Record] = {}
        entries: dict[str, Entry | None] = {}
        for run_id, data in zip(run_ids, there, strict=False):
            record = record_of(data)
            if record is None:
                continue
            if not record.ended and record.process in dead:
                record = lost(record, now_s)
                entries[live_key(run_id)] = entry(record, self.settings.kept_s)
            found[run_id] = record
        newly = [each for run_id, each in found.items() if live_key(run_id) in entries]
        return Change(_Settled(found, newly), entries)

    async def together(self, calls: Sequence[Callable[[], Awaitable[object]]]) -> None:
        """Call the state several times, concurrently if it waits, so that it can batch them.

        Raises:
            StateError: that of the first call to fail, not in a group.
        """
        if len(calls) < 2 or self.state.at_once:  # noqa: PLR2004 - one needs no nursery
            for call in calls:
                await call()
            return
        error: Exception | None = None
        try:
            async with trio.open_nursery() as nursery:
                for call in calls:
                    nursery.start_soon(call)
        except* Exception as group:  # noqa: BLE001 - raised below, the first of them
            error = group.exceptions[0]
        if error is not None:
            raise error

    async def _recalled(self, run_ids: Sequence[str]) -> list[bytes | None]:
        found: list[bytes | None] = [None] * len(run_ids)

        async def recall(place: int, run_id: str) -> None:
            found[place] = await ask_with_retries(partial(self.state.recall, record_key(run_id)))

        await self.together([partial(recall, *pair) for pair in enumerate(run_ids)])
        return found


class _Settled(msgspec.Struct, frozen=True):
    """Records by run id, and those of them that just became lost."""

    found: Mapping[str, Record]
    lost: Sequence[Record]


def _with_lost_logged(settled: _Settled) -> Mapping[str, Record]:
    """The records, after logging those that just became lost."""
    for each in settled.lost:
        log.warning(
            "run %s of pipeline %r is lost, since the process that ran it has died (request %s)",
            *(each.id, each.pipeline, each.request_id or "without an id"),
        )
    return settled.found


class _Noted(msgspec.Struct, frozen=True):
    """Ids to index, by head key; records of runs that go on; ids of those that ended."""

    by_head: Mapping[str, Sequence[str]]
    running: Sequence[Record]
    ended: Sequence[str]


def _noted(
    settings: RunsSettings, noted: _Noted, there: Sequence[bytes | None], _: float
) -> Change[None]:
    """The entries for starts and ends; a run that is over or was marked lost stays so."""
    touched = [*(each.id for each in noted.running), *noted.ended]
    was = dict(zip(touched, there[len(noted.by_head) :], strict=True))
    entries: dict[str, Entry | None] = {}
    for (head, ids), data in zip(noted.by_head.items(), there, strict=False):
        new = [run_id for run_id in ids if not _was_told(was.get(run_id))]
        entries.update(index.append(head, data, new, settings.kept_s + LIVE_TTL_S))
    if noted.running:
        entries.update(inbox.heartbeat(noted.running[0].process, settings.dead_after_s))
    goes_on = {record.id: entry(record) for record in noted.running}
    for run_id, data in was.items():
        before = record_of(data)
        if data != TOMBSTONE.data and not (before is not None and before.ended):
            entries[live_key(run_id)] = goes_on.get(run_id, TOMBSTONE)
    return Change(None, entries)


def _was_told(live: bytes | None) -> bool:
    """Whether the live entry says that the run has begun; that of a mere claim does not."""
    before = record_of(live)
    return live == TOMBSTONE.data or (before is not None and before.begun)


_ENCODER = msgspec.msgpack.Encoder()
_RECORD = msgspec.msgpack.Decoder(Record)
