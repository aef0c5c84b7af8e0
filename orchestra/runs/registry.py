"""The registry: every run that this deployment knows of, wherever it runs or ran.

Where a run is looked up, in this order:

    Claims       its idempotency key was claimed here, and it is about to start: wait for it
    LocalRuns    it goes on here
    Recorder     it has ended here, and its end is not written yet
    Archive      it goes on elsewhere, or its end is kept, or it is lost: nobody knows its end

A state of this process's own only keeps runs that have ended, and nothing is published for others.

Rules of the file: adopting a run, following one of this process and leaving it never wait. While
the state is unreachable, runs go on; what needs the state raises StateError.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

from orchestra.accounts import Caller
from orchestra.errors import StateError
from orchestra.groups import groupless_nursery, lasting
from orchestra.protocols import State
from orchestra.runs import inbox, index
from orchestra.runs.archive import Archive
from orchestra.runs.disconnect import CANCEL, OnLeave
from orchestra.runs.idempotency import Claimed, Claims, NewClaim
from orchestra.runs.keeping import Final, Fit
from orchestra.runs.keys import claim_key, head_key
from orchestra.runs.local import LocalRun, LocalRuns
from orchestra.runs.record import Record
from orchestra.runs.recorder import Recorder, unchanged
from orchestra.runs.settings import RunsSettings
from orchestra.stores.state_memory import MemoryState

if TYPE_CHECKING:
    from orchestra.engine.run import Run
    from orchestra.runs.following import Follower
    from orchestra.runs.publisher import Publisher

log = logging.getLogger("orchestra.runs")

CANCEL_WAIT_S = 1.0
"""How long `cancel` waits for the end of a run."""
WRITTEN_WITHIN_S = 0.05
"""How long writing a batch of records takes, nearly always."""
SCANNED_MAX = 1_024
"""Runs that are looked at for one page, at most."""


class RunPage(msgspec.Struct, frozen=True):
    """Some runs, newest first; `cursor` gives the next page, None on the last."""

    records: tuple[Record, ...]
    cursor: int | None


class Registry:
    """The runs of a deployment, as one of its processes sees them. Opened by `open_registry`."""

    def __init__(
        self,
        state: State,
        settings: RunsSettings,
        nursery: trio.Nursery,
        *,
        shared: bool,
        fit: Fit = unchanged,
        tell_end: Callable[[Run], None] | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.process = secrets.token_hex(8)
        """The id of this process."""
        self._nursery = nursery
        self._fit = fit
        self._now_s = now_s
        self._archive = Archive(state, settings, shared=shared)
        self._local = LocalRuns(nursery)
        self._recorder = Recorder(self._archive, fit, now_s)
        self._publisher: Publisher | None = None
        self._claims = Claims(self._archive, look=self.get, undo=self._recorder.undo)
        self._on_end = self._ended  # one for all runs
        self._tell_end = tell_end

    # ------------------------------------------------------------- runs of this process

    def adopt(self, run: Run, *, on_leave: OnLeave = CANCEL, readers: int = 1) -> None:
        """Register a run; its record is written soon.

        `readers` is how many follow it already; each of them calls `leave` once.
        """
        self._recorder.started(self._adopted(run, on_leave, readers))

    async def adopt_durably(
        self, run: Run, *, on_leave: OnLeave = CANCEL, readers: int = 1
    ) -> Record:
        """As `adopt`, but the record has been written when this returns; the record.

        Raises:
            StateError: the state is unreachable; the run is registered all the same.
        """
        record = self._adopted(run, on_leave, readers)
        await self._recorder.write_now(record)
        return record

    def leave(self, run_id: str) -> None:
        """A follower has left a run of this process; with the last, its policy decides."""
        self._local.leave(run_id)

    # ------------------------------------------------------------- runs anywhere

    async def get(self, run_id: str) -> Record | None:
        """The record of a run; None if it is unknown.

        Raises:
            StateError: it is not of this process, and the state is away.
        """
        here = await self._here(run_id)
        return here.record if here is not None else await self._elsewhere(run_id)

    async def follow(self, run_id: str) -> Follower | None:
        """A follower of the run; None if it is unknown.

        Raises:
            StateError: it does not go on in this process, and the state is away.
        """
        from orchestra.runs import following

        here = await self._here(run_id)
        if isinstance(here, LocalRun):
            self._local.attach(run_id)
            return following.LocalFollower(here.run, self._fit, partial(self.leave, run_id))
        if here is not None:
            return following.ArchiveFollower(here.record, here.events)
        record = await self._elsewhere(run_id)
        if record is None:
            return None
        if record.ended:
            return await following.follow_kept(self._archive, record)
        return following.RemoteFollower(self._archive, record)

    async def cancel(self, run_id: str, reason: str) -> Record | None:
        """Cancel a run; its record afterwards, None if it is unknown.

        Waits up to `CANCEL_WAIT_S` for the end; if that takes longer, the record is still that
        of a running one.

        Raises:
            StateError: it is not of this process, and the state is away.
        """
        here = await self._here(run_id)
        if isinstance(here, LocalRun):
            here.run.cancel(reason)
            with trio.move_on_after(CANCEL_WAIT_S):
                await here.run.wait_ended()
            return await self.get(run_id)
        until_s = trio.current_time() + CANCEL_WAIT_S
        while True:  # noqa: ASYNC913 - the state is asked, and a sleep follows
            record = await self.get(run_id)
            if record is None or record.ended or trio.current_time() >= until_s:
                return record
            await self._archive.send(record.process, inbox.CancelRequest(run_id, reason))
            await trio.sleep(self._archive.settings.publish_s)

    async def page(
        self,
        caller: Caller,
        *,
        limit: int,
        cursor: int | None = None,
        where: Callable[[Record], bool] = lambda _: True,
    ) -> RunPage:
        """A page of the caller's runs that `where` selects, newest first, from `cursor` on.

        Runs that start meanwhile do not shift the following pages. A page may hold fewer than
        `limit` without being the last, since at most `SCANNED_MAX` runs are looked at.

        Raises:
            StateError: the state is away.
        """
        head = head_key(caller)
        found: list[Record] = []
        scanned = 0
        (data,) = await self._archive.read([head])
        while (page := index.read(data)) is not None:  # noqa: ASYNC913 - to the oldest that is kept
            places = index.before(page, cursor)
            records = await self._records([run_id for _, run_id in places])
            for place, run_id in places:
                cursor, scanned = place, scanned + 1
                record = records.get(run_id)
                if record is not None and record.starter.tenant == caller.tenant and where(record):
                    found.append(record)
                if len(found) == limit or scanned == SCANNED_MAX:
                    return RunPage(tuple(found), cursor or None)
            number = min(page.number - 1, ((cursor or 0) - 1) // index.PAGE)
            if number < 0:
                break
            (data,) = await self._archive.read([index.page_key(head, number)])
        return RunPage(tuple(found), None)

    # ------------------------------------------------------------- idempotency keys

    async def claim(
        self, key: str, digest: str, *, pipeline: str, caller: Caller, request_id: str = ""
    ) -> Claimed:
        """The run that an idempotency key stands for, possibly a new one, to be started now.

        With `NewClaim`, start the run under that id and `adopt` it before anything is awaited, or
        call `unclaim`.

        Raises:
            StateError: the state is away; nothing is to be started.
        """
        at = claim_key(caller, pipeline, key)
        return await self._claims.claim(
            at, digest, lambda: self._record(secrets.token_hex(16), pipeline, caller, request_id)
        )

    async def unclaim(self, mine: NewClaim) -> None:
        """Give the key back, since its run is not started; soon, if the state is away."""
        await self._claims.unclaim(mine)

    # ------------------------------------------------------------- for `open_registry`

    def begin(self) -> None:
        """Start the background tasks, which also make this process known to others."""
        self._keep_up("the recorder of runs", self._recorder.serve)
        if self._archive.shared:
            self._open_publisher()

    def share(self) -> None:
        """Publish for other processes over this state from now on; may be called again."""
        if not self._archive.shared:
            self._archive.shared = True
            self._recorder.publish(local.record for local in self._local.runs.values())
            self._open_publisher()

    async def end(self) -> None:
        """Write everything and sign this process off, within `flush_s`."""
        with trio.move_on_after(self._archive.settings.flush_s, shield=True):
            await self._recorder.flush()
            if self._publisher is not None and not self._local.runs:
                with suppress(StateError):  # its heartbeat ends by itself
                    await self._publisher.leave()

    # -------------------------------------------------------------

    def _open_publisher(self) -> None:
        from orchestra.runs.publisher import Publisher  # nobody else is there before

        self._publisher = Publisher(self._archive, self.process, self._local, self._fit)
        self._keep_up("the publisher of runs", self._publisher.serve)

    def _keep_up(self, name: str, task: Callable[[], Awaitable[object]]) -> None:
        """Start a task that goes on as long as there are runs, whatever their values raise."""
        what = f"{name} failed, and is started again"
        self._nursery.start_soon(lasting, task, log, what, name=name)

    def _adopted(self, run: Run, on_leave: OnLeave, readers: int) -> Record:
        record = self._record(run.id, run.pipeline, run.caller, run.request_id)
        self._local.runs[run.id] = LocalRun(run, record, on_leave, readers)
        self._claims.begun(run.id)
        before = run.on_end
        run.on_end = self._on_end if before is None else partial(_both, before, self._on_end)
        if run.ended:
            self._ended(run)
        return record

    def _ended(self, run: Run) -> None:
        local = self._local.runs.pop(run.id, None)
        if local is not None:
            self._recorder.ended(local)
            if self._tell_end is not None:
                try:
                    self._tell_end(run)
                except Exception:  # else the engine would end, and with it all other runs
                    log.exception("run %s has ended, and a callback for its end failed", run.id)

    async def _here(self, run_id: str) -> LocalRun | Final | None:
        """A run of this process that goes on, or whose end is not written yet."""
        await self._claims.settled(run_id)
        return self._local.runs.get(run_id) or self._recorder.final(run_id)

    async def _elsewhere(self, run_id: str) -> Record | None:
        """The record of any other run."""
        archive = self._archive
        record = await archive.record(run_id)
        if record is None and archive.shared:  # one that has just begun elsewhere is being written
            await trio.sleep(archive.settings.batch_s + WRITTEN_WITHIN_S)
            record = await archive.record(run_id)
        if record is None or record.ended or record.process != self.process:
            return record
        here = await self._here(run_id)  # it may have begun, or been written, meanwhile
        if here is not None:
            return here.record
        lost = await archive.lose(run_id, self.process)  # where its end could not be written
        return lost or await archive.record(run_id)

    async def _records(self, run_ids: Sequence[str]) -> dict[str, Record]:
        """The records of those that are known: first those that are here.

        A run of this process that ends meanwhile has left it only when the archive has its end.
        """
        here = {run_id: await self._here(run_id) for run_id in run_ids}
        kept = await self._archive.records([each for each in run_ids if here[each] is None])
        return {**kept, **{run_id: each.record for run_id, each in here.items() if each}}

    def _record(self, run_id: str, pipeline: str, caller: Caller, request_id: str) -> Record:
        """The record of a run of this process that starts now."""
        return Record(
            id=run_id,
            pipeline=pipeline,
            process=self.process,
            created_s=self._now_s(),
            request_id=request_id,
            organisation=caller.organisation,
            user=caller.user,
            key=caller.key,
            end_user=caller.end_user,
        )


def _both(first: Callable[[Run], None], second: Callable[[Run], None], run: Run) -> None:
    first(run)
    second(run)


@asynccontextmanager
async def open_registry(
    state: State | None = None,
    settings: RunsSettings | None = None,
    *,
    shared: bool | None = None,
    fit: Fit = unchanged,
    tell_end: Callable[[Run], None] | None = None,
    now_s: Callable[[], float] = time.time,
) -> AsyncIterator[Registry]:
    """A registry of runs, as long as the context lasts; leave it when the engine is closed.

    Without a state, runs are kept in memory, within `kept_total_bytes`. `shared` is whether there
    are other registries over the state; by default, unless it is in memory. `fit` is what is done
    to an event before anybody outside may see it. `tell_end` is called with each run of this
    process that has ended, once; it must not wait, and what it raises is only logged.
    """
    settings = settings or RunsSettings()
    if shared is None:
        shared = state is not None and not state.at_once
    if state is None:
        state = MemoryState(limit_bytes=settings.kept_total_bytes, now_s=now_s)
    async with groupless_nursery() as nursery:
        registry = Registry(
            state, settings, nursery, shared=shared, fit=fit, tell_end=tell_end, now_s=now_s
        )
        registry.begin()
        try:
            yield registry
        finally:
            await registry.end()  # noqa: ASYNC102 - it is shielded, and bounded
            nursery.cancel_scope.cancel()
