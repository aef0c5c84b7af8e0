"""A run that is started as its client wishes: once for its idempotency key, or in the background.

Rules of the file: between a claim that is ours and the run's adoption nothing is awaited; where
the state is away, nothing is started; and before anybody is answered it is written down, if it can
be, that the run has begun: should the process die then, its key starts no other.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import attrs
import msgspec
from quart import request
from quart_trio.wrappers import TrioResponse as Response

from orchestra.errors import RunLostError, StateError
from orchestra.event_lines import jsonable
from orchestra.events import RunFinished
from orchestra.runs.disconnect import CONTINUE
from orchestra.runs.idempotency import ConflictingClaim, NewClaim, digest_of
from orchestra.runs.record import EventLine
from orchestra.server import sse
from orchestra.server.front.arrival import Arrival
from orchestra.server.front.problems import HttpProblem
from orchestra.server.runs import views as run_views
from orchestra.server.runs.pipelines import (
    Events,
    EventStream,
    Runs,
    answer,
    as_json,
    finished,
    when_over,
)
from orchestra.server.runs.problems import failed_run
from orchestra.server.runs.resources import RunResources
from orchestra.server.runs.starting import NOT_STARTED, not_started
from orchestra.server.runs.wishes import BACKGROUND, RunWishes

if TYPE_CHECKING:
    from orchestra.engine.run import Run
    from orchestra.runs.idempotency import Claimed
    from orchestra.server.runs.requests import Asked

log = logging.getLogger("orchestra.server")

REPLAYED = "Idempotent-Replayed"
"""The header of an answer that is that of a run which the key had started before."""


@attrs.frozen
class Wished:
    """One request for a run with wishes."""

    runs: Runs
    asked: Asked
    wishes: RunWishes

    async def start(self) -> Response:
        """The answer: that of a new run, or of the one that the key stands for."""
        try:
            return await self._start()
        except StateError as error:
            log.warning("a run was not started, since its start cannot be recorded: %s", error)
            return answer(run_views.state_unreachable())

    async def _start(self) -> Response:
        claimed = None if self.wishes.key is None else await self._claim(self.wishes.key)
        seq = self._seq_of(claimed)
        if isinstance(seq, HttpProblem):
            return answer(seq)
        match claimed:
            case None | NewClaim():
                return await self._new(claimed)
            case ConflictingClaim(run_id):
                return answer(run_views.other_request(run_id))
            case _:
                response = await self._known(claimed.run_id, seq)
                response.headers[REPLAYED] = "true"
                return response

    def _seq_of(self, claimed: Claimed | None) -> int | HttpProblem:
        """The number of the last event that the client has of its key's run; 0 where it has none.

        Where the key stands for no such run, it is given back: who comes back starts no other.
        """
        given = self.wishes.last_event_id
        if given is None or claimed is None or isinstance(claimed, ConflictingClaim):
            return 0
        if isinstance(claimed, NewClaim):
            self.runs.registry.unclaim(claimed)
            return run_views.nothing_to_resume(given)
        found = sse.event_id(given)
        if found is None or found[0] not in ("", claimed.run_id):
            return run_views.nothing_to_resume(given)
        return found[1]

    async def _claim(self, key: str) -> Claimed:
        arrival, asked = Arrival.of(request.scope), self.asked
        inputs = msgspec.json.encode(asked.inputs, enc_hook=jsonable, order="deterministic")
        return await self.runs.registry.claim(
            key,
            digest_of(asked.pipeline.name.encode(), inputs),
            pipeline=asked.pipeline.name,
            caller=arrival.known().caller,
            request_id=arrival.request_id,
        )

    async def _new(self, mine: NewClaim | None) -> Response:
        try:
            run = self._launched(mine)
        except NOT_STARTED as error:
            return answer(not_started(error))
        if self.wishes.background:
            return await self._in_background(run)
        when_over(partial(self.runs.left, run))
        stream = None
        if self.asked.streams:  # it reads from the beginning, whatever is awaited first
            stream = EventStream(Events(run, self.runs.settings))
        await self._adopted(run)
        return stream or await self.runs.result(run)

    def _launched(self, mine: NewClaim | None) -> Run:
        """The run; where there is none, for whatever reason, its key is given back.

        Raises:
            InputError: an input does not fit.
            LimitExceededError: there are too many runs.
            LimitReachedError: the caller has as many as they may.
        """
        run_id = mine.run_id if mine else None
        try:
            return self.runs.launch(self.asked.pipeline, self.asked.inputs, run_id)
        except BaseException:
            if mine is not None:
                self.runs.registry.unclaim(mine)
            raise

    async def _adopted(self, run: Run) -> None:
        """Have the run known; with others over the state, to them too before its client is."""
        registry = self.runs.registry
        if not registry.shared:
            self.runs.adopt(run)
            return
        on_leave = self.runs.settings.leaving(run.pipeline)
        try:
            await registry.adopt_durably(run, on_leave=on_leave)
        except StateError as error:
            log.warning("a run goes on, and is recorded later: %s", error)

    async def _in_background(self, run: Run) -> Response:
        """202, once it is written down that there is this run."""
        try:
            await self.runs.registry.adopt_durably(run, on_leave=CONTINUE, readers=0)
        except BaseException:
            run.cancel("nobody can be told of it")
            raise
        return await self._accepted(run.id)

    async def _known(self, run_id: str, seq: int) -> Response:
        """The answer of a run that was started before, wherever; its events from behind one."""
        if self.wishes.background:
            return await self._accepted(run_id)
        registry = self.runs.registry
        record = await registry.get(run_id)
        if record is None:
            return answer(_gone(run_id))
        if self.asked.streams:
            resources = RunResources(registry, self.runs.settings)
            return await resources.stream(record, seq, sse.resuming_at(run_id))
        try:
            last = await self._last(run_id)
            return _answer_of(run_id, last) if last is not None else answer(_gone(run_id))
        except RunLostError as error:
            return answer(run_views.not_kept(run_id, str(error)))

    async def _last(self, run_id: str) -> EventLine | None:
        """The last event of a run, waiting for it."""
        following = await self.runs.registry.follow(run_id)
        if following is None:
            return None
        when_over(following.close)
        last: EventLine | None = None
        with following:
            while batch := await following.after(last.seq if last else 0):
                last = batch[-1]
        return last

    async def _accepted(self, run_id: str) -> Response:
        record = await self.runs.registry.get(run_id)
        if record is None:
            return answer(_gone(run_id))
        response = as_json(run_views.shown(record), 202)
        response.headers["Location"] = run_views.address(run_id)
        response.headers["Preference-Applied"] = BACKGROUND
        return response


def _answer_of(run_id: str, last: EventLine) -> Response:
    """The answer of a run, as if its client had waited for it from the start."""
    if last.type != RunFinished.type:
        return answer(failed_run(run_id, run_views.failure_of(last)))
    found = run_views.result_of(last)
    return finished(run_id, found.result, found.timings_s, found.usage)


def _gone(run_id: str) -> HttpProblem:
    return run_views.not_kept(
        run_id, "the run of this `Idempotency-Key` is kept no longer; send a new key"
    )
