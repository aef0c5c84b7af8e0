"""Runs as resources: list them, show one, follow its events, and cancel it.

A run that the caller may not see is answered like one that does not exist.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import attrs
from quart import request
from quart_trio.wrappers import TrioResponse as Response

from orchestra.errors import RunLostError, StateError
from orchestra.runs.following import ArchiveFollower, Follower
from orchestra.runs.record import LOST_SEQ, EventLine, Record
from orchestra.server import sse
from orchestra.server.front.departure import principal, when_over
from orchestra.server.front.routes import Handler
from orchestra.server.responses import problems
from orchestra.server.responses.whole_answers import answer, as_json
from orchestra.server.runs import views as run_views
from orchestra.server.runs.event_streams import Events, EventStream, minimal
from orchestra.server.runs.pipelines import CANCELLED, accepted
from orchestra.server.runs.views import line_without_result, shown

if TYPE_CHECKING:
    from orchestra.access.principal import Principal
    from orchestra.engine.journal import Reader
    from orchestra.graph.pipelines import Pipeline
    from orchestra.runs.registry import Registry
    from orchestra.server.connections.bodies import Body
    from orchestra.server.settings import Settings

log = logging.getLogger("orchestra.server")


def reachable(handler: Handler) -> Handler:
    """A decorator of handlers: answer 503 if the state is unreachable."""

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
    pipelines: Mapping[str, Pipeline[..., Any]]

    @reachable
    async def list(self) -> Response:
        """List a page of the caller's runs."""
        asked = run_views.listing_of(request.args.to_dict(), request.args.getlist("tag"))
        if isinstance(asked, problems.HttpProblem):
            return answer(asked)
        who = principal()

        def where(record: Record) -> bool:
            return sees(who, record) and asked.has(record)

        page = await self.registry.page(
            who.caller, limit=asked.limit, cursor=asked.cursor, where=where
        )
        cursor = None if page.cursor is None else str(page.cursor)
        return as_json({"runs": [shown(each) for each in page.records], "next_cursor": cursor})

    @reachable
    async def show(self, run_id: str) -> Response:
        """Show one run."""
        record = await self._seen(run_id)
        if record is None:
            return answer(run_views.unknown_run(run_id))
        return as_json(shown(record, await self._last(record)))

    @reachable
    async def cancel(self, run_id: str) -> Response:
        """Cancel one run: answers 200 if it has ended, 202 if it has not ended yet."""
        record = await self._seen(run_id)
        if record is not None and not record.ended:
            record = await self.registry.cancel(run_id, CANCELLED)
        if record is None:
            return answer(run_views.unknown_run(run_id))
        return as_json(shown(record), 200 if record.ended else 202)

    @reachable
    async def follow(self, run_id: str) -> Response:
        """Answer with the events of one run that the client does not have yet."""
        if (refusal := _no_stream()) is not None:
            return answer(refusal)
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
        """The rest of a run, for a client that started it and reconnects to the same URL."""
        if (refusal := _no_stream()) is not None:
            return answer(refusal)
        record = await self._seen(run_id)
        if record is None or record.pipeline != pipeline:
            return answer(run_views.unknown_run(run_id))
        return await self.stream(record, seq, sse.resuming_at(run_id))

    async def stream(self, record: Record, seq: int, prefix: bytes = b"") -> Response:
        """The events of a run after number `seq`, as a stream.

        If the client has them all, a GET is answered with 204, so that an `EventSource` stops, and
        a POST with an empty stream, since clients based on `fetch` retry after a 204.

        Raises:
            StateError: the state is unreachable.
        """
        following: Follower | None
        if seq >= LOST_SEQ:  # the client knows that the run is lost: no event comes after that
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
        brief = minimal(self.pipelines.get(record.pipeline))
        return EventStream(FollowedEvents(following, self.settings, seq, prefix, minimal=brief))

    async def _seen(self, run_id: str) -> Record | None:
        """The record of a run, if there is one and the caller may see it."""
        if not sse.is_run_id(run_id):
            return None
        record = await self.registry.get(run_id)
        return record if record is not None and sees(principal(), record) else None

    async def _last(self, record: Record) -> EventLine | None:
        """The last event of an ended run, if it is kept."""
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


def _no_stream() -> problems.HttpProblem | None:
    """The problem that the current request does not accept a stream of events; None if it does."""
    accept = accepted()
    if sse.choose(accept, (sse.STREAM,)) is not None:
        return None
    return problems.not_acceptable(accept or "", (sse.STREAM,))


def sees(principal: Principal, record: Record) -> bool:
    """Whether the caller may see, follow, cancel and list a run."""
    return principal.sees(record.starter, record.pipeline, record.model)


class FollowedEvents(Events):
    """A run's events after a number, written to one client, in whichever process the run is."""

    __slots__ = ()

    def __init__(
        self,
        following: Follower,
        settings: Settings,
        seq: int,
        prefix: bytes = b"",
        *,
        minimal: bool,
    ) -> None:
        self.minimal = minimal
        self._reader = cast("Reader", following)  # a `Follower` has the same contract
        self._heartbeat_s = settings.heartbeat_s
        self._prefix = prefix
        self._seq = seq

    async def write(self, body: Body) -> None:
        """Like `Events.write`; if events become unreachable, the stream ends without a last one."""
        try:
            await super().write(body)
        except (StateError, RunLostError) as error:
            log.warning("a stream of events was cut off, since its run cannot be read: %s", error)

    def _frames(self, batch: tuple[Any, ...]) -> bytes:
        self._seq = batch[-1].seq
        if self.minimal:
            batch = (*batch[:-1], line_without_result(batch[-1]))
        return sse.line_frames(cast("tuple[EventLine, ...]", batch), self._prefix)
