"""The registry: all runs that this deployment knows of, in whichever process they run or ran.

A run is looked up in this order:

    Claims       its idempotency key was claimed in this process, and it is about to start: wait
    LocalRuns    it is in progress in this process
    Recorder     it has ended in this process, and its end is not written yet
    Archive      it is in progress in another process, its end is kept, or it is lost (its real end
                 is unknown)

A state that is not shared has only ended runs, and nothing is published for other processes.

Rules of the file: adopting a run, following a run of this process, and leaving a run never wait.
While the state is unreachable, runs go on; methods that need the state raise StateError.
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
from orchestra.runs.idempotency import Claimed, Claims, NewClaim
from orchestra.runs.keeping import Final
from orchestra.runs.keys import claim_key, head_key
from orchestra.runs.local import CANCEL, LocalRun, LocalRuns
from orchestra.runs.record import Fit, Record, unchanged
from orchestra.runs.recorder import REST_S, Recorder
from orchestra.runs.settings import RunsSettings
from orchestra.tags import NO_TAGS, Tags

if TYPE_CHECKING:
    from orchestra.engine.run import Run
    from orchestra.runs.following import Follower
    from orchestra.runs.publisher import Publisher

log = logging.getLogger("orchestra.runs")

CANCEL_WAIT_S = 1.0
"""How long `cancel` waits for the end of a run."""
WRITTEN_WITHIN_S = 0.05
"""How long writing a batch of records takes in nearly all cases."""
SCANNED_MAX = 1_024
"""The most runs that are looked at for one page."""


class RunPage(msgspec.Struct, frozen=True):
    """A page of runs, newest first; `cursor` is for the next page, None on the last page."""

    records: tuple[Record, ...]
    cursor: int | None


class Registry:
    """The runs of a deployment, as seen from this process. Use `open_registry` to open one."""

    def __init__(
        self,
        state: State,
        settings: RunsSettings,
        nursery: trio.Nursery,
        *,
        shared: bool,
        fit: Fit,
        tell_end: Callable[[Run], None] | None,
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
        self._on_end = self._ended  # one bound method for all runs
        self._tell_end = tell_end

    # ------------------------------------------------------------- runs of this process

    def adopt(
        self, run: Run, *, linger_s: float = CANCEL, readers: int = 1, model: str | None = None
    ) -> None:
        """Register a run of this process; its record is written in the background.

        `readers` is how many followers it has already; each of them must call `leave` once. After
        the last one, it goes on for `linger_s`. `model` is the model that a client called directly.
        """
        self._recorder.started(self._adopted(run, linger_s, readers, model))

    async def adopt_durably(
        self, run: Run, *, linger_s: float = CANCEL, readers: int = 1
    ) -> Record:
        """Like `adopt`, but write the record before returning it.

        Raises:
            StateError: the state is unreachable; the run is registered, and its record is written
                later if possible.
        """
        record = self._adopted(run, linger_s, readers)
        await self._recorder.write_now(record)
        return record

    def leave(self, run_id: str) -> None:
        """Tell that a follower left a run of this process: see `adopt`."""
        self._local.leave(run_id)

    # ------------------------------------------------------------- runs anywhere

    async def get(self, run_id: str) -> Record | None:
        """The record of a run; None if the run is unknown.

        Raises:
            StateError: the run is not in this process, and the state is unreachable.
        """
        here = await self._here(run_id)
        return here.record if here is not None else await self._elsewhere(run_id)

    async def follow(self, run_id: str) -> Follower | None:
        """A follower of the run; None if the run is unknown. Close it when it is not needed.

        Raises:
            StateError: the run is not in this process, and the state is unreachable.
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
            return await following.follow_kept(self._archive, record, self._fit)
        return following.RemoteFollower(self._archive, record, self._fit)

    async def cancel(self, run_id: str, reason: str) -> Record | None:
        """Cancel a run and return its record; None if the run is unknown.

        Waits up to `CANCEL_WAIT_S` for the run to end; if it takes longer, the record is that of a
        run in progress.

        Raises:
            StateError: the run is not in this process, and the state is unreachable.
        """
        here = await self._here(run_id)
        if isinstance(here, LocalRun):
            here.run.cancel(reason)
            with trio.move_on_after(CANCEL_WAIT_S):
                await here.run.wait_ended()
            return await self.get(run_id)
        until_s = trio.current_time() + CANCEL_WAIT_S
        while True:  # noqa: ASYNC913 - each round reads the state, and sleeps
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
        """A page of the caller's runs that `where` selects, newest first, starting at `cursor`.

        Runs that start in the meantime do not shift later pages. A page may have fewer than `limit`
        runs without being the last, since at most `SCANNED_MAX` runs are looked at for one page.

        Raises:
            StateError: the state is unreachable.
        """
        head = head_key(caller)
        found: list[Record] = []
        scanned = 0
        (data,) = await self._archive.read([head])
        while (page := index.read(data)) is not None:  # noqa: ASYNC913 - ends at the oldest page
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
        """Claim an idempotency key; says which run it stands for, and whether to start that run.

        After a `NewClaim`, start the run under its id and `adopt` it before awaiting anything, or
        call `unclaim`.

        Raises:
            StateError: the claim failed, usually because the state is unreachable; start nothing.
        """
        at = claim_key(caller, pipeline, key)
        return await self._claims.claim(
            at, digest, lambda: self._record(secrets.token_hex(16), pipeline, caller, request_id)
        )

    async def unclaim(self, mine: NewClaim) -> None:
        """Give the key back, since its run is not started; later, if the state is unreachable."""
        await self._claims.unclaim(mine)

    # ------------------------------------------------------------- for `open_registry`

    def begin(self) -> None:
        """Start the background tasks; with a shared state, they announce this process to others."""
        self._keep_up("the recorder of runs", self._recorder.serve)
        if self._archive.shared:
            self._open_publisher()

    def share(self) -> None:
        """Treat the state as shared with other processes from now on; may be called again."""
        if not self._archive.shared:
            self._archive.shared = True
            self._recorder.publish(local.record for local in self._local.runs.values())
            self._open_publisher()

    async def wait_written(self) -> None:
        """Wait until everything is written, for as long as the state is unreachable."""
        while not await self._recorder.flush():  # noqa: ASYNC110 - a state tells nobody when it is back
            await trio.sleep(REST_S)

    async def end(self) -> None:
        """Write all records and remove this process's heartbeat, within `flush_s`.

        The log says how many records could not be written.
        """
        with trio.move_on_after(self._archive.settings.flush_s, shield=True):
            await self._recorder.flush()
            if self._publisher is not None and not self._local.runs:
                with suppress(StateError):  # the heartbeat then expires by itself
                    await self._publisher.leave()
        self._recorder.report_left()

    # -------------------------------------------------------------

    def _open_publisher(self) -> None:
        from orchestra.runs.publisher import Publisher  # only a shared state needs it

        self._publisher = Publisher(self._archive, self.process, self._local, self._fit)
        self._keep_up("the publisher of runs", self._publisher.serve)

    def _keep_up(self, name: str, task: Callable[[], Awaitable[object]]) -> None:
        """Start a background task, and restart it if it fails: values may raise anything."""
        what = f"{name} failed, and is started again"
        self._nursery.start_soon(lasting, task, log, what, name=name)

    def _adopted(self, run: Run, linger_s: float, readers: int, model: str | None = None) -> Record:
        record = self._record(
            run.id, run.pipeline, run.caller, run.request_id, tags=run.tags, model=model
        )
        self._local.runs[run.id] = LocalRun(run, record, linger_s, readers)
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
                except Exception:  # it would end the engine, and with it all other runs
                    log.exception("run %s has ended, and a callback for its end failed", run.id)

    async def _here(self, run_id: str) -> LocalRun | Final | None:
        """A run of this process that is in progress, or whose end is not written yet."""
        await self._claims.settled(run_id)
        return self._local.runs.get(run_id) or self._recorder.final(run_id)

    async def _elsewhere(self, run_id: str) -> Record | None:
        """The record of a run that is not in this process."""
        archive = self._archive
        record = await archive.record(run_id)
        if record is None and archive.shared:  # a new run of another process may not be written yet
            await trio.sleep(archive.settings.batch_s + WRITTEN_WITHIN_S)
            record = await archive.record(run_id)
        if record is None or record.ended or record.process != self.process:
            return record
        here = await self._here(run_id)  # it may have started here in the meantime
        if here is not None:
            return here.record
        lost = await archive.lose(run_id, self.process)  # this process could not write its end
        return lost or await archive.record(run_id)

    async def _records(self, run_ids: Sequence[str]) -> dict[str, Record]:
        """The records of the known runs among these. Looks in this process first.

        In that order no run is missed: a run leaves this process only when the archive has its end.
        """
        here = {run_id: await self._here(run_id) for run_id in run_ids}
        kept = await self._archive.records([each for each in run_ids if here[each] is None])
        return {**kept, **{run_id: each.record for run_id, each in here.items() if each}}

    def _record(
        self,
        run_id: str,
        pipeline: str,
        caller: Caller,
        request_id: str,
        *,
        tags: Tags = NO_TAGS,
        model: str | None = None,
    ) -> Record:
        """The record of a run that starts in this process now."""
        return Record(
            id=run_id,
            pipeline=pipeline,
            model=model,
            process=self.process,
            created_s=self._now_s(),
            request_id=request_id,
            tags=dict(tags),
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
    state: State,
    settings: RunsSettings | None = None,
    *,
    shared: bool,
    fit: Fit = unchanged,
    tell_end: Callable[[Run], None] | None = None,
    now_s: Callable[[], float] = time.time,
) -> AsyncIterator[Registry]:
    """Open a registry of runs until the context is left; leave it after the engine is closed.

    `shared` is whether other registries use the state. `fit` is applied to each event before
    clients see it. `tell_end` is called once with each run of this process that has ended; it must
    not block, and an exception that it raises is only logged.
    """
    settings = settings or RunsSettings()
    async with groupless_nursery() as nursery:
        registry = Registry(
            state, settings, nursery, shared=shared, fit=fit, tell_end=tell_end, now_s=now_s
        )
        registry.begin()
        try:
            yield registry
        finally:
            await registry.end()  # noqa: ASYNC102 - shielded, and bounded by `flush_s`
            nursery.cancel_scope.cancel()
