"""The routes of runs: what is served, and a run as a stream of events or as one answer.

Rules of this file: a run lives in the engine and never in the task that writes to its
client; the request's departure cancels it when the request is over, for whatever reason.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import attrs
import msgspec
import trio
from quart import request
from quart_trio.wrappers import TrioResponse as Response
from werkzeug.exceptions import MethodNotAllowed

from orchestra.errors import InputError, LimitExceededError, OrchestraError
from orchestra.events import Event, RunFinished, jsonable
from orchestra.server import problems, sse
from orchestra.server.access import KNOWN, MAY_RUN
from orchestra.server.arrival import Arrival
from orchestra.server.inputs import schema
from orchestra.server.multipart import is_form
from orchestra.server.problems import HttpProblem, fit_for_clients
from orchestra.server.requests import Asked, Request, read
from orchestra.server.routes import Route
from orchestra.server.run_problems import failed_run
from orchestra.server.uploads import Uploads

if TYPE_CHECKING:
    from orchestra.engine.engine import Engine
    from orchestra.engine.run import Run
    from orchestra.graph.pipelines import Pipeline
    from orchestra.server.app import DepartingRequest
    from orchestra.server.bodies import Body
    from orchestra.server.settings import Settings

log = logging.getLogger("orchestra.server")

LEFT = "the client left"


def pipeline_routes(runs: Runs) -> list[Route]:
    """The routes of pipelines, and of the runs that are started of them."""
    at = "/v1/pipelines"
    return [
        Route(
            name="list-pipelines",
            path=at,
            handler=runs.list,
            access=KNOWN,
            summary="What is served: the name and the summary of each pipeline.",
        ),
        Route(
            name="describe-pipeline",
            path=f"{at}/<name>",
            handler=runs.describe,
            access=MAY_RUN,
            summary="One pipeline: its docstring, its inputs as JSON Schema, its graph.",
        ),
        Route(
            name="start-run",
            path=f"{at}/<name>/runs",
            handler=runs.start,
            access=MAY_RUN,
            methods=("GET", "POST"),
            summary="A run: its events as they happen, or its result.",
        ),
    ]


@attrs.frozen
class Runs:
    """The handlers of the routes under `/v1/pipelines`."""

    engine: Engine
    pipelines: Mapping[str, Pipeline[..., Any]]
    settings: Settings
    _context: Context = attrs.field(init=False, factory=copy_context)
    _uploads: Uploads = attrs.field(init=False)

    @_uploads.default
    def _no_uploads(self) -> Uploads:
        return Uploads(self.settings)

    async def list(self) -> Response:
        """What is served: each pipeline's name and the first line of its docstring."""
        scopes = Arrival.of(request.scope).known().scopes
        served = [
            {"name": name, "summary": pipeline.doc.partition("\n")[0]}
            for name, pipeline in self.pipelines.items()
            if scopes.may_run(name)
        ]
        return _json({"pipelines": served})

    async def describe(self, name: str) -> Response:
        """One pipeline: its docstring, its inputs as JSON Schema, and its graph."""
        pipeline = self.pipelines.get(name)
        if pipeline is None:
            return answer(problems.unknown_pipeline(name, self.pipelines))
        return _json(
            {
                "name": name,
                "doc": pipeline.doc,
                "inputs": schema(pipeline.inputs),
                "graph": outline(pipeline, debug=self.settings.debug),
            }
        )

    async def start(self, name: str) -> Response:
        """A run, as the client accepts it: its events as they happen, or its result."""
        if request.method == "HEAD":  # which Quart takes for a GET; nobody would read the run
            raise MethodNotAllowed(["GET", "POST"])
        if request.method == "GET" and "Last-Event-ID" in request.headers:
            return Response(status=204)  # an EventSource asks again behind the end, for ever
        asked = read(await self._parts(name), self.pipelines)
        if isinstance(asked, HttpProblem):
            return answer(asked)
        run = self._start(asked)
        if isinstance(run, HttpProblem):
            return answer(run)
        cast("DepartingRequest", request).departure.act = partial(run.cancel, LEFT)
        if asked.streams:
            return EventStream(Events(run, self.settings))
        return await self._result(run)

    async def _parts(self, name: str) -> Request:
        """The parts of the current request that decide what it asks for."""
        parts = Request(
            pipeline=name,
            accept=request.headers.get("Accept"),
            query=list(request.args.items(multi=True)),
            content_type=request.headers.get("Content-Type", ""),
        )
        if request.method == "GET":
            return parts
        if is_form(parts.content_type):
            form = self._uploads.read(request.body, parts.content_type, request.content_length)
            return attrs.evolve(parts, form=await form)
        return attrs.evolve(parts, body=cast("bytes", await request.get_data()))

    def _start(self, asked: Asked) -> Run | HttpProblem:
        """The run, in the server's context: in the request's, its steps would hold the request."""
        try:
            arrival = Arrival.of(request.scope)
            start = partial(
                self.engine.start,
                caller=arrival.known().caller,
                request_id=arrival.request_id,
            )
            return self._context.copy().run(start, asked.pipeline, asked.inputs)
        except InputError as error:
            field = error.field or "inputs"
            return problems.bad_inputs([problems.Fault(field, f"#/inputs/{field}", str(error))])
        except LimitExceededError as error:
            return problems.too_busy(str(error))

    async def _result(self, run: Run) -> Response:
        await run.wait_ended()
        await report(run)
        event = fit_for_clients(run.journal.kept[-1], debug=self.settings.debug)
        if not isinstance(event, RunFinished):
            return answer(failed_run(run.id, cast("Any", event), run.error))
        return _json(
            {
                "run_id": run.id,
                "result": event.result,
                "timings_s": event.timings_s,
                "usage": event.usage,
            }
        )


class EventStream(Response):
    """The answer that a stream of events begins with."""

    def __init__(self, events: Events) -> None:
        super().__init__(b"", headers=sse.HEADERS)
        del self.headers["Content-Length"]
        self.events = events


class Events:
    """A run's events for one client, from the first to the last, batch by batch."""

    __slots__ = ("_debug", "_heartbeat_s", "_reader", "_run", "_seq", "_wrote_s")

    def __init__(self, run: Run, settings: Settings) -> None:
        self._run = run
        self._reader = run.journal.attach()
        self._heartbeat_s = settings.heartbeat_s
        self._debug = settings.debug
        self._seq = 0
        self._wrote_s = 0.0

    async def write(self, body: Body) -> None:
        """Send all of them as they come, with a heartbeat where there is silence.

        Cancelling it leaves nothing suspended behind: the reader is detached.
        """
        hand = partial(self._hand, body)
        self._wrote_s = trio.current_time()
        with self._reader as reader:
            goes_on = True
            while goes_on:
                with trio.CancelScope(deadline=self._wrote_s + self._heartbeat_s):
                    goes_on = await reader.feed(self._seq, hand)
                # A send waits outside of the scope: a heartbeat must not cut it.
                if body.waits:
                    await body.flush()
                elif goes_on and trio.current_time() >= self._wrote_s + self._heartbeat_s:
                    await body(sse.HEARTBEAT)
                else:
                    continue
                self._wrote_s = trio.current_time()
        await report(self._run)

    def _hand(self, body: Body, batch: tuple[Event, ...]) -> bool:
        """Write a batch, in whichever task it is ready; whether all of it has gone."""
        frames = self._frames(batch)
        self._wrote_s = trio.current_time()
        return body.write_nowait(frames)

    def _frames(self, batch: tuple[Event, ...]) -> bytes:
        self._seq = batch[-1].seq
        return sse.frames([fit_for_clients(event, debug=self._debug) for event in batch])


def outline(pipeline: Pipeline[..., Any], *, debug: bool) -> dict[str, Any]:
    """The graph as its drawing has it; outside debug mode, the nodes and edges of it only.

    A prompt's text and a source line are nobody's business.
    """
    from orchestra.compiler.draw import as_json

    graph = as_json(pipeline)
    if debug:
        return graph
    nodes = [{key: node[key] for key in ("id", "name", "kind", "type")} for node in graph["nodes"]]
    for node in nodes:
        if node["kind"] == "constant":
            node["name"] = "constant"
    edges = [{key: edge[key] for key in ("source", "target", "streams")} for edge in graph["edges"]]
    return {"nodes": nodes, "edges": edges, "output": graph["output"]["source"]}


async def report(run: Run) -> None:
    """Log why a run failed that has ended, if its client is not told."""
    try:
        await run.result()
    except OrchestraError:
        pass  # its message is in the answer
    except Exception:
        log.exception("run %s of pipeline %r failed", run.id, run.pipeline)


def answer(problem: HttpProblem) -> Response:
    """A problem as an answer."""
    response = Response(problem.encode(), problem.status, content_type=problem.media_type)
    response.headers.extend(dict(problem.headers))
    return response


def _json(value: object) -> Response:
    return Response(_ENCODER.encode(value), content_type=sse.JSON)


_ENCODER = msgspec.json.Encoder(enc_hook=jsonable)
