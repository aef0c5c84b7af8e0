"""Runs as resources: show one, follow its events, cancel it, and list all.

For all but whoever started it and their organisation, a run does not exist.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

import attrs
from quart import request
from quart_trio.wrappers import TrioResponse as Response
from werkzeug.exceptions import MethodNotAllowed

from orchestra.errors import RunLostError, StateError
from orchestra.runs.following import ArchiveFollower, Follower
from orchestra.runs.record import LOST_SEQ, EventLine, Record
from orchestra.server import sse
from orchestra.server.front.departure import principal, when_over
from orchestra.server.front.routes import Handler
from orchestra.server.responses import problems
from orchestra.server.responses.whole_answers import answer, as_json
from orchestra.server.runs import views as run_views
from orchestra.server.runs.pipelines import CANCELLED, Events, EventStream, accepted
from orchestra.server.runs.views import shown

if TYPE_CHECKING:
    from orchestra.access.principal import Principal
    from orchestra.engine.journal import Reader
    from orchestra.runs.registry import Registry
    from orchestra.server.connections.bodies import Body
    from orchestra.server.settings import Settings

log = logging.getLogger("orchestra.server")


def reachable(handler: Handler) -> Handler:
    """The handler; where the state is unreachable, it answers 503."""

    async def reached(*args: Any, **values: Any) -> Any:
        try:
            return await handler(*args, **values)
        except StateError as error:
            log.warning("runs cannot be looked up: %s", error)
            return answer(problems.state_unreachable())

    return reached


@attrs.frozen
class RunResources:
    """The handlers of the routes under `/v1/runs`."""

    registry: Registry
    settings: Settings

    @reachable
    async def list(self) -> Response:
        """A page of the caller's runs."""
        asked = run_views.listing_of(request.args.to_dict())
        if isinstance(asked, problems.HttpProblem):
            return answer(asked)
        who = principal()

        def where(record: Record) -> bool:
            return (
                sees(who, record)
                and asked.pipeline in (None, record.pipeline)
                and asked.status in (None, record.status)
            )

        page = await self.registry.page(
            who.caller, limit=asked.limit, cursor=asked.cursor, where=where
        )
        cursor = None if page.cursor is None else str(page.cursor)
        return as_json({"runs": [shown(each) for each in page.records], "next_cursor": cursor})

    @reachable
    async def show(self, run_id: str) -> Response:
        """One run."""
        record = await self._seen(run_id)
        if record is None:
            return answer(run_views.unknown_run(run_id))
        return as_json(shown(record, await self._last(record)))

    @reachable
    async def cancel(self, run_id: str) -> Response:
        """Cancel one run: 200 once it has ended, 202 if it has not yet."""
        record = await self._seen(run_id)
        if record is not None and not record.ended:
            record = await self.registry.cancel(run_id, CANCELLED)
        if record is None:
            return answer(run_views.unknown_run(run_id))
        return as_json(shown(record), 200 if record.ended else 202)

    @reachable
    async def follow(self, run_id: str) -> Response:
        """The events of one run that the client does not have yet."""
        if request.method == "HEAD":  # which Quart takes for a GET
            raise MethodNotAllowed(["GET"])
        accept = accepted()
        if sse.choose(accept, (sse.STREAM,)) is None:
            return answer(problems.not_acceptable(accept or "", (sse.STREAM,)))
        given = request.headers.get("Last-Event-ID") or request.args.get("after") or "0"
        found = sse.event_id(given)
        if found is None or found[0] not in ("", run_id):
            return answer(run_views.bad_event_id(given))
        record = await self._seen(run_id)
        if record is None:
            return answer(run_views.unknown_run(run_id))
        return await self.stream(record, found[1])

    @reachable
    async def resume(self, pipeline: str, run_id: str, seq: int) -> Response:
        """The rest of a run, for a client that followed it from the pipeline's own route."""
        record = await self._seen(run_id)
        if record is None or record.pipeline != pipeline:
            return answer(run_views.unknown_run(run_id))
        return await self.stream(record, seq, sse.resuming_at(run_id))

    async def stream(self, record: Record, seq: int, prefix: bytes = b"") -> Response:
        """The events of a run after the number `seq`.

        After the last event, a GET is answered with 204, so that an `EventSource` stops, and a
        POST with an empty stream, since clients of `fetch` retry after a 204.

        Raises:
            StateError: the state is away.
        """
        following: Follower | None
        if seq >= LOST_SEQ:  # it was told that the run is lost, and hears nothing else of it here
            following = ArchiveFollower(record, ())
        else:
            following = await self.registry.follow(record.id)
        if following is None:
            return answer(run_views.unknown_run(record.id))
        when_over(following.close)
        if isinstance(following, ArchiveFollower):
            try:
                if not await following.after(seq) and request.method == "GET":
                    return Response(status=204)
            except RunLostError as error:
                return answer(run_views.not_kept(record.id, str(error)))
        return EventStream(FollowedEvents(following, self.settings, seq, prefix))

    async def _seen(self, run_id: str) -> Record | None:
        """The record of a run that the caller may see."""
        if not sse.is_run_id(run_id):
            return None
        record = await self.registry.get(run_id)
        return record if record is not None and sees(principal(), record) else None

    async def _last(self, record: Record) -> EventLine | None:
        """The last event of a run that has ended, if it is kept."""
        if not record.ended:
            return None
        following = await self.registry.follow(record.id)
        if following is None:
            return None
        with following:
            try:
                return await following.last(record.last_seq - 1)
            except RunLostError:
                return None


def sees(principal: Principal, record: Record) -> bool:
    """Whether the caller may see, follow, cancel and list a run.

    They must see the runs of its starter, and either may run its pipeline or have the key that
    started it: models are asked without a pipeline.
    """
    if not principal.may_see(record.starter):
        return False
    return record.key == principal.caller.key != "" or principal.scopes.may_run(record.pipeline)


class FollowedEvents(Events):
    """A run's events after a number, for one client, wherever the run is or was."""

    __slots__ = ()

    def __init__(
        self, following: Follower, settings: Settings, seq: int, prefix: bytes = b""
    ) -> None:
        self._reader = cast("Reader", following)  # which has the same contract
        self._heartbeat_s = settings.heartbeat_s
        self._prefix = prefix
        self._seq = seq

    async def write(self, body: Body) -> None:
        """As in `Events`; if the events become unreachable, it ends without a last event."""
        try:
            await super().write(body)
        except (StateError, RunLostError) as error:
            log.warning("a run cannot be followed any further: %s", error)

    def _frames(self, batch: tuple[Any, ...]) -> bytes:
        self._seq = batch[-1].seq
        return sse.line_frames(cast("tuple[EventLine, ...]", batch), self._prefix)
