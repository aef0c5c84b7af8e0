"""The routes of pipelines: list and describe them, and run one, streamed or as one response.

Rules of the file: a run lives in the engine, never in the task that writes to its client. When the
request ends, for whatever reason, the pipeline's `linger_s` decides whether the run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextvars import Context, copy_context
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, cast

import msgspec
from msgspec import structs
from quart import request
from quart_trio.wrappers import TrioResponse as Response

from orchestra.computed import computed
from orchestra.event_lines import written
from orchestra.events import RunFinished
from orchestra.observe.trace_context import TRACE
from orchestra.server import sse
from orchestra.server.front.access import may_run
from orchestra.server.front.arrival import REQUEST_ID, Arrival
from orchestra.server.front.departure import arrived, present, principal, when_over, whole_body
from orchestra.server.front.routes import Route
from orchestra.server.front.tags import tags_of_run
from orchestra.server.inputs.reading import schema
from orchestra.server.inputs.requests import Request, read
from orchestra.server.responses import problems
from orchestra.server.responses.caller_problems import NOT_STARTED, not_started
from orchestra.server.responses.problems import HttpProblem
from orchestra.server.responses.whole_answers import answer, as_json
from orchestra.server.runs.event_streams import Events, EventStream, minimal
from orchestra.server.runs.fit_events import fit_for_clients
from orchestra.server.runs.outlines import outline
from orchestra.server.runs.words import model_of
from orchestra.server.settings import is_form
from orchestra.tags import NO_TAGS, Tags

if TYPE_CHECKING:
    from orchestra.engine.engine import Engine
    from orchestra.engine.run import Run
    from orchestra.graph.pipelines import Pipeline
    from orchestra.runs.registry import Registry
    from orchestra.server.front.running import Running
    from orchestra.server.inputs.uploads import Uploads
    from orchestra.server.runs.preferences import Preferences
    from orchestra.server.runs.views import ResultLine
    from orchestra.server.settings import Settings

CANCELLED = "the client cancelled it"


def pipeline_routes(runs: Runs) -> list[Route]:
    """The routes of pipelines, and of starting their runs."""
    at = "/v1/pipelines"
    one = f"{at}/<name>"
    every = "List the pipelines that you may run: the name and the summary of each."
    describe = "Describe a pipeline: its docstring, its inputs as JSON Schema, its graph."
    start = "Run a pipeline; answers with the events as they happen, or with the result."
    return [
        Route("list-pipelines", at, runs.list, every),
        Route("describe-pipeline", one, runs.describe, describe, may_run),
        Route(
            "start-run",
            f"{one}/runs",
            runs.start,
            start,
            may_run,
            ("GET", "POST"),
            prepare=_import_others,
            head=False,
        ),
    ]


def _import_others() -> None:
    """Import what only some runs need, such as those that fail.

    When the first one fails, there may be no descriptor left with which to read a module.
    """
    from orchestra.server.inputs import uploads
    from orchestra.server.runs import durable, failures, problems, words

    del uploads, durable, failures, problems, words


class Runs(msgspec.Struct, dict=True, eq=False):
    """The handlers of the routes under `/v1/pipelines`."""

    engine: Engine
    pipelines: Mapping[str, Pipeline[..., Any]]
    settings: Settings
    registry: Registry
    running: Running | None = None
    only_models: Collection[str] = ()
    """The names of other pipelines, which are served only as models."""
    _context: Context = msgspec.field(default_factory=copy_context)

    @cached_property
    def _uploads(self) -> Uploads:
        from orchestra.server.inputs.uploads import Uploads  # only forms need it

        return Uploads(self.settings)

    async def list(self) -> Response:
        """List the pipelines that the caller may run, with their summaries."""
        scopes = principal().scopes
        served = [
            {"name": name, "summary": pipeline.doc.partition("\n")[0]}
            for name, pipeline in self.pipelines.items()
            if scopes.may_run(name)
        ]
        return as_json({"pipelines": served})

    async def describe(self, name: str) -> Response:
        """Describe a pipeline: its docstring, its inputs as JSON Schema, and its graph."""
        pipeline = self.pipelines.get(name)
        if pipeline is None:
            return answer(self.unknown(name, arrived()))
        return as_json(
            {
                "name": name,
                "doc": pipeline.doc,
                "inputs": schema(pipeline.inputs),
                "graph": outline(pipeline, debug=self.settings.debug),
            }
        )

    async def start(self, name: str) -> Response:
        """Start a run; answer with its events or its result, whichever the client accepts."""
        if given := request.headers.get("Last-Event-ID"):
            rest = await self._rest(name, given)
            if rest is not None:
                return rest
        pipeline = self.pipelines.get(name)
        if pipeline is None:
            return answer(self.unknown(name, arrived()))
        parts = await self._parts()
        reading = partial(read, parts, pipeline)
        asked = await computed(reading, large=parts.large, pipeline_code=True)
        if isinstance(asked, HttpProblem):
            return answer(asked)
        preferences = _preferences() if request.method == "POST" else None
        if isinstance(preferences, HttpProblem):
            return answer(preferences)
        if preferences is not None:
            from orchestra.server.runs.durable import DurableStart

            return await DurableStart(self, parts, asked, preferences).start()
        try:
            run = self.begin(asked.pipeline, asked.inputs)
        except NOT_STARTED as error:
            return answer(not_started(error))
        if asked.streams:
            return EventStream(Events(run, self.settings, minimal=minimal(asked.pipeline)))
        return await self.result(run)

    def unknown(self, name: str, arrival: Arrival) -> HttpProblem:
        """The problem that these routes have no pipeline with this name.

        If the name is served as a model, the problem says so; otherwise it suggests similar names
        among those that the caller may run.
        """
        if name in self.only_models:
            return problems.pipeline_only_as_model(name)
        may_run = arrival.known().scopes.may_run
        return problems.unknown_pipeline(
            name, filter(may_run, (*self.pipelines, *self.only_models))
        )

    async def _parts(self) -> Request:
        """The parts of the current request that `read` needs."""
        parts = Request(
            accept=accepted(),
            query=list(request.args.items(multi=True)),
            content_type=request.headers.get("Content-Type", ""),
            json_limit_bytes=self.settings.body_limit_bytes,
        )
        if request.method == "GET":
            return parts
        if is_form(parts.content_type):
            tenant = principal().caller.fairness_key
            upload = await self._uploads.read(
                request.body, parts.content_type, request.content_length, tenant
            )
            if isinstance(upload, HttpProblem):
                return structs.replace(parts, form=upload)
            present().departure.held = upload.give_back
            return structs.replace(parts, form=upload.parts)
        return structs.replace(parts, body=await whole_body())

    def begin(
        self, pipeline: Pipeline[..., Any], inputs: Mapping[str, object], tags: Tags = NO_TAGS
    ) -> Run:
        """Start a run for the current request, and register it.

        When the request ends, the pipeline's `linger_s` decides what happens to the run.
        The tags of the request's header are added to `tags`.

        Raises:
            InputError: an input does not fit, or the tags are not valid.
            LimitExceededError: there are too many runs.
            LimitReachedError: the caller has the most runs that they may have.
        """
        run = self.launch(pipeline, inputs, tags=tags)
        self.adopt(run)
        when_over(partial(self.left, run))
        return run

    def launch(
        self,
        pipeline: Pipeline[..., Any],
        inputs: Mapping[str, object],
        run_id: str | None = None,
        arrival: Arrival | None = None,
        tags: Tags = NO_TAGS,
    ) -> Run:
        """Start a run for the current request or `arrival`, without registering it: see `adopt`.

        It runs in a copy of the server's context, not the request's, since its steps would keep the
        request alive.

        Raises:
            InputError: an input does not fit, or the tags are not valid.
            LimitExceededError: there are too many runs.
            LimitReachedError: the caller has the most runs that they may have.
        """
        departure = None if arrival is not None else present().departure
        arrival = arrival or arrived()
        caller, tags = arrival.known().caller, tags_of_run(arrival, tags)
        counted = None if self.running is None else self.running.take(caller)
        by: dict[str, Any] = {"caller": caller, "request_id": arrival.request_id, "run_id": run_id}
        start = partial(self.engine.start, **by, tags=tags)
        try:
            context = _context_of_run(self._context, arrival.request_id)
            run = context.run(start, pipeline, inputs)
        except BaseException:
            if counted is not None:
                counted()
            raise
        held = None if departure is None else departure.taken()
        if counted is not None or held is not None:
            run.on_end = partial(_give_back, (counted, held))
        return run

    def adopt(self, run: Run) -> None:
        """Register a run that has one reader; call `left` when the reader has gone."""
        linger_s = self.settings.linger_of(run.pipeline)
        self.registry.adopt(run, linger_s=linger_s, model=model_of(run))

    def left(self, run: Run) -> None:
        """Tell that a reader has gone; after the last, the pipeline's `linger_s` applies."""
        self.registry.leave(run.id)

    async def _rest(self, name: str, given: str) -> Response | None:
        """The rest of a run, for a client that reconnects to the URL where it started the run.

        None if the request has an idempotency key, since then the key names the run.
        """
        posted = request.method == "POST"
        if posted and "Idempotency-Key" in request.headers:
            return None
        found = sse.event_id(given)
        if found is not None and found[0]:
            from orchestra.server.runs.resources import RunResources

            present().body.discard()  # the inputs were read when the run started
            resources = RunResources(self.registry, self.settings, self.pipelines)
            return cast("Response", await resources.resume(name, *found))
        if posted:
            from orchestra.server.runs.views import nothing_to_resume

            return answer(nothing_to_resume(given))
        return Response(status=204)  # otherwise an `EventSource` would reconnect forever

    async def result(self, run: Run) -> Response:
        """Wait for the end of a run; the response with its result, or a problem if it has none."""
        await run.wait_ended()
        event = fit_for_clients(run.journal.last, debug=self.settings.debug)
        if not isinstance(event, RunFinished):
            from orchestra.server.runs.problems import failed_run

            return answer(failed_run(run.id, cast("Any", event), run.error))
        return finished(run.id, msgspec.Raw(written(event.result)), event)


def _context_of_run(server: Context, request_id: str) -> Context:
    """A copy of the server's context with the request's id and trace, for the logs of steps."""
    context = server.copy()
    context.run(REQUEST_ID.set, request_id)
    if (trace := TRACE.get()) is not None:
        context.run(TRACE.set, trace)
    return context


def _give_back(held: tuple[Callable[[], None] | None, ...], run: Run) -> None:
    """Release what an ended run held; a callback for its `on_end`."""
    del run
    for each in held:
        if each is not None:
            each()


def finished(run_id: str, result: msgspec.Raw, end: RunFinished | ResultLine) -> Response:
    """The response of a run that has finished, with its result as JSON."""
    of_end = {name: getattr(end, name) for name in ("timings_s", "usage", "usage_by_model", "cut")}
    return as_json({"run_id": run_id, "result": result, **of_end})


def accepted() -> str | None:
    """The `Accept` headers of the current request, joined; None if there are none."""
    return ",".join(request.headers.getlist("Accept")) or None


def _preferences() -> Preferences | HttpProblem | None:
    """The idempotency key and the preferences of the current request; None if it has none."""
    keys, prefer = request.headers.getlist("Idempotency-Key"), request.headers.getlist("Prefer")
    if not keys and not prefer:
        return None
    from orchestra.server.runs.preferences import NO_PREFERENCES, preferences_of

    key = ", ".join(keys) if keys else None  # two keys joined are an invalid key
    preferences = preferences_of(key, ",".join(prefer), request.headers.get("Last-Event-ID"))
    return None if preferences == NO_PREFERENCES else preferences
