"""Start a run with its client's preferences: once per idempotency key, or in the background.

Rules of the file: nothing is awaited between a new claim and the adoption of its run. If the state
is unreachable, nothing is started. If possible, the start of a run is recorded before its client is
answered: then its key never starts another run, even if this process dies.

A run with a key goes on even if its start cannot be recorded: its claim names the run, so a client
that sends the key again finds it.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import attrs
from quart_trio.wrappers import TrioResponse as Response

from orchestra.computed import computed
from orchestra.errors import RunLostError, StateError
from orchestra.events import RunFinished
from orchestra.runs.idempotency import ConflictingClaim, ExistingClaim, NewClaim
from orchestra.runs.keys import digest_of
from orchestra.runs.local import CONTINUE
from orchestra.runs.record import EventLine, Record
from orchestra.server import sse
from orchestra.server.front.departure import arrived, when_over
from orchestra.server.inputs.requests import Asked, Request, sent
from orchestra.server.responses import problems
from orchestra.server.responses.caller_problems import NOT_STARTED, not_started
from orchestra.server.responses.problems import HttpProblem
from orchestra.server.responses.whole_answers import answer, as_json
from orchestra.server.runs import views as run_views
from orchestra.server.runs.event_streams import Events, EventStream, minimal
from orchestra.server.runs.pipelines import Runs, finished
from orchestra.server.runs.preferences import APPLIED, BACKGROUND, Preferences
from orchestra.server.runs.problems import problem_again
from orchestra.server.runs.resources import RunResources

if TYPE_CHECKING:
    from orchestra.engine.run import Run
    from orchestra.runs.idempotency import Claimed

log = logging.getLogger("orchestra.server")

REPLAYED = "Idempotent-Replayed"
"""The header of responses for a run that an earlier request with the same key started."""


@attrs.frozen
class DurableStart:
    """One request for a run, with its client's preferences."""

    runs: Runs
    parts: Request
    asked: Asked
    preferences: Preferences

    async def start(self) -> Response:
        """The response of a new run, or of the run that the key stands for."""
        try:
            return await self._start()
        except StateError as error:
            log.warning("a run was refused, since its start cannot be recorded: %s", error)
            return answer(problems.state_unreachable())

    async def _start(self) -> Response:
        claimed = None if self.preferences.key is None else await self._claim(self.preferences.key)
        match claimed:
            case ConflictingClaim(run_id):
                return answer(run_views.other_request(run_id))
            case ExistingClaim(run_id):
                response = await self._known(run_id)
                response.headers[REPLAYED] = "true"
                return response
            case NewClaim() if refusal := arrived().unless_begun:
                await self.runs.registry.unclaim(claimed)
                return answer(refusal)
            case NewClaim() if given := self.preferences.last_event_id:  # there is none to resume
                await self.runs.registry.unclaim(claimed)
                return answer(run_views.nothing_to_resume(given))
            case _:
                return await self._new(claimed)

    async def _claim(self, key: str) -> Claimed:
        arrival, pipeline = arrived(), self.asked.pipeline.name
        inputs = await computed(partial(sent, self.parts), large=self.parts.large)
        return await self.runs.registry.claim(
            key,
            digest_of(pipeline.encode(), *inputs),
            pipeline=pipeline,
            caller=arrival.known().caller,
            request_id=arrival.request_id,
        )

    async def _new(self, mine: NewClaim | None) -> Response:
        """Start a run and return its response; if it cannot be started, its key is given back."""
        run_id = None if mine is None else mine.run_id
        try:
            run = self.runs.launch(self.asked.pipeline, self.asked.inputs, run_id)
        except Exception as error:
            if mine is not None:
                await self.runs.registry.unclaim(mine)  # noqa: ASYNC120 - if cancelled, nobody reads the error
            if isinstance(error, NOT_STARTED):
                return answer(not_started(error))
            raise
        if self.preferences.background:
            record = await self._recorded(run, CONTINUE, readers=0)
            return await self._known(run.id) if record is None else _accepted(record)
        when_over(partial(self.runs.left, run))
        stream = None
        if self.asked.streams:  # attached now, so that it misses no event during the next await
            brief = minimal(self.asked.pipeline)
            stream = EventStream(Events(run, self.runs.settings, minimal=brief))
        await self._recorded(run, self.runs.settings.linger_of(run.pipeline), readers=1)
        return stream or await self.runs.result(run)

    async def _recorded(self, run: Run, linger_s: float, readers: int) -> Record | None:
        """Register a new run and write its record; None if the record will be written later.

        Without a key, a run whose record cannot be written is cancelled, since no client could find
        it.
        """
        known = self.preferences.key is not None
        registry = self.runs.registry
        try:
            record = await registry.adopt_durably(run, linger_s=linger_s, readers=readers)
            known = True
        except StateError as error:
            if not known:
                raise
            log.warning("a run goes on, and is recorded later: %s", error)
            return None
        finally:
            if not known:
                run.cancel("its start cannot be recorded, so no client could find it")
        return record

    async def _known(self, run_id: str) -> Response:
        """The response of an existing run; if streamed, after the last event that was received."""
        given = self.preferences.last_event_id or "0"
        found = sse.event_id(given)
        if found is None or found[0] not in ("", run_id):
            return answer(run_views.nothing_to_resume(given))
        registry = self.runs.registry
        record = await registry.get(run_id)
        if record is None:
            return answer(_gone(run_id))
        if self.preferences.background:
            return _accepted(record)
        if self.asked.streams:
            resources = RunResources(registry, self.runs.settings, self.runs.pipelines)
            return await resources.stream(record, found[1], sse.resuming_at(run_id))
        following = await registry.follow(run_id)
        if following is None:
            return answer(_gone(run_id))
        with following:
            try:
                last = await following.last()
                return answer(_gone(run_id)) if last is None else _answer_of(run_id, last)
            except RunLostError as error:
                return answer(run_views.not_kept(run_id, str(error)))


def _accepted(record: Record) -> Response:
    """The response that a run goes on in the background; `Location` is its URL."""
    response = as_json(run_views.shown(record), 202)
    response.headers["Location"] = run_views.address(record.id)
    response.headers[APPLIED] = BACKGROUND
    return response


def _answer_of(run_id: str, last: EventLine) -> Response:
    """The response of an ended run, the same as if the client had waited for it."""
    if last.type != RunFinished.type:
        return answer(problem_again(run_id, run_views.failure_of(last)))
    found = run_views.result_of(last)
    return finished(run_id, found.result, found)


def _gone(run_id: str) -> HttpProblem:
    return run_views.not_kept(
        run_id, "the run of this `Idempotency-Key` is no longer kept; send a new key to start one"
    )
