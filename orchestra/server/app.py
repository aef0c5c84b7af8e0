"""The application: pipelines behind routes, and every error as problem JSON."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import trio
from quart import has_request_context, request, websocket
from quart.ctx import AppContext
from quart.globals import _cv_app, _cv_request, websocket_ctx
from quart_trio import QuartTrio
from quart_trio.wrappers import TrioResponse
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge
from werkzeug.routing import WebsocketMismatch

from orchestra.server import sse
from orchestra.server.anthropic.routes import anthropic_routes
from orchestra.server.connections.hardening import Hardened
from orchestra.server.exchange import Exchange
from orchestra.server.front.access import may_run
from orchestra.server.front.arrival import Arrival
from orchestra.server.front.departure import DepartingRequest
from orchestra.server.front.layers import OPEN, Admission, Answered, Front, Layer
from orchestra.server.front.routes import Later, Route
from orchestra.server.health import READY, Readiness, health_routes
from orchestra.server.inputs import reading
from orchestra.server.models.paths import is_openai, shaped
from orchestra.server.openai.routes import openai_api, openai_routes
from orchestra.server.openapi.routes import with_documents
from orchestra.server.responses import problems
from orchestra.server.responses.problems import HttpProblem
from orchestra.server.responses.whole_answers import answer
from orchestra.server.runs.pipelines import Runs, pipeline_routes
from orchestra.server.runs.registries import registry_beside
from orchestra.server.runs.routes import run_routes
from orchestra.server.settings import Settings

if TYPE_CHECKING:
    from hypercorn.typing import (
        ASGIReceiveCallable,
        ASGISendCallable,
        Scope,
        WebsocketScope,
    )
    from quart.ctx import RequestContext, WebsocketContext
    from quart.wrappers.base import BaseRequestWebsocket
    from quart.wrappers.request import Request
    from werkzeug.routing import MapAdapter, Rule

    from orchestra.engine.engine import Engine
    from orchestra.graph.pipelines import Pipeline
    from orchestra.observe.counting import Counting
    from orchestra.observe.otel import Tracing
    from orchestra.runs.registry import Registry
    from orchestra.server.websocket import Sockets

log = logging.getLogger("orchestra.server")


class Answer(TrioResponse):
    """A response whose default media type is JSON; the empty response to OPTIONS uses it."""

    default_mimetype = sse.JSON


class Context:
    """What we use of Quart's request context: it holds the current request."""

    __slots__ = ("request",)

    def __init__(self, request: Request) -> None:
        self.request = request


class App(QuartTrio):
    """Quart, with our own classes for requests, responses and exchanges.

    What Quart does around each request and this server does not use is left out: sessions, signals,
    hooks before and after a request, and routes that depend on the host name.
    """

    response_class = Answer
    asgi_http_class = Exchange

    def __init__(self, settings: Settings) -> None:
        super().__init__("orchestra", static_folder=None, template_folder=None)
        self.url_map.merge_slashes = False  # True would redirect, with a page in HTML
        self.settings = settings
        self.templates: dict[str, str] = {}
        """The paths of routes in OpenAPI's syntax, by the route's name."""
        self._routes: dict[str, Route] = {}
        self._context = AppContext(self)
        self._matching = self.url_map.bind("localhost")
        self._fixed: dict[tuple[str, str], Rule] = {}
        """A cache of matched rules by path and method, for routes without variables only."""
        self.answered: tuple[Answered, ...] = ()
        """Called after each request."""
        self.closing = trio.Event()
        """Set it to close the WebSockets, each after its last run."""

    def add_route(self, route: Route) -> None:
        """Serve a route, to the callers that its access rule allows."""
        self._routes[route.name] = route
        self.templates[route.name] = route.template
        if route.websocket:
            self.add_websocket(route.path, route.name, route.handler)
        else:
            self.add_url_rule(route.path, route.name, route.handler, methods=list(route.methods))
        if not route.head:  # Quart adds HEAD to every GET
            for rule in self.url_map.iter_rules(route.name):
                cast("set[str]", rule.methods).remove("HEAD")

    def prepare(self) -> None:
        """Import now what the routes would otherwise import at their first request."""
        for route in self._routes.values():
            if route.prepare is not None:
                route.prepare()

    async def handle_request(self, request: Request) -> Any:
        """Return the response for a request, also if it fails; `quart.request` is set meanwhile."""
        context = cast("RequestContext", Context(request))
        app_token, request_token = _cv_app.set(self._context), _cv_request.set(context)
        try:
            return await self.dispatch_request(context)
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - it is logged and answered
            return await self.make_response(await self.handle_user_exception(error))
        finally:
            _cv_request.reset(request_token)
            _cv_app.reset(app_token)

    async def dispatch_request(self, request_context: RequestContext | None = None) -> Any:
        """Return the response of the matched route, or a problem if the caller may not use it."""
        current = cast("DepartingRequest", cast("RequestContext", request_context).request)
        rule, values = self._matched(current.path, current.method)
        current.url_rule, current.view_args = cast("Any", rule), cast("Any", values)
        current.departure.route = self.templates[rule.endpoint]
        if current.method == "OPTIONS":
            methods = self._matching.allowed_methods(current.path)
            return self.response_class("", headers={"Allow": ", ".join(methods)})
        if refused := self._refusal(current):
            return answer(shaped(Arrival.of(current.scope), refused))
        return await self._routes[rule.endpoint].handler(**values)

    def _matched(self, path: str, method: str) -> tuple[Rule, Mapping[str, Any]]:
        """The rule that matches a path and a method, and the variables in the path.

        Raises:
            HTTPException: no route has this path, or it does not allow this method.
        """
        if (found := self._fixed.get((path, method))) is not None:
            return found, {}
        rule, values = self._matching.match(path, method, return_rule=True)
        if not values:
            self._fixed[path, method] = rule
        return rule, values

    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> MapAdapter | None:
        """The URL adapter that matches routes of WebSockets, for any host name."""
        if request is None:
            return None
        return self.url_map.bind("localhost", url_scheme=request.scheme, path_info=request.path)

    async def dispatch_websocket(self, websocket_context: WebsocketContext | None = None) -> Any:
        """As `dispatch_request`; a refused handshake is answered like a refused request."""
        current = (websocket_context or websocket_ctx).websocket
        refused = self._refusal(current)
        return answer(refused) if refused else await super().dispatch_websocket(websocket_context)

    def _refusal(self, current: BaseRequestWebsocket) -> HttpProblem | None:
        """The problem if the caller may not use the matched route; None otherwise."""
        rule = current.url_rule
        if rule is None or current.routing_exception is not None:
            return None
        access = self._routes[rule.endpoint].access
        return access(Arrival.of(current.scope).principal, current.view_args or {})

    def asgi_app(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> Coroutine[Any, Any, None]:
        """Serve one ASGI connection, for HTTP without the coroutine that Quart would add.

        `HttpServer` sends no other scopes: what has to start and end does so around it.
        """
        if scope["type"] == "http":
            return self.asgi_http_class(self, scope)(receive, send)
        from orchestra.server.websocket import SocketExchange

        return SocketExchange(self, cast("WebsocketScope", scope))(receive, send)


def create_app(
    engine: Engine,
    pipelines: Mapping[str, Pipeline[..., Any]],
    settings: Settings | None = None,
    admission: Admission = OPEN,
    readiness: Readiness = READY,
    *,
    registry: Registry | None = None,
    counting: Counting | None = None,
    tracing: Tracing | None = None,
    by_json: Mapping[str, Pipeline[..., Any]] | None = None,
) -> App:
    """The ASGI application that serves `pipelines`, each under its name, on `engine`.

    `readiness` tells `/readyz` whether the process is stopping. Without a `registry`, runs are
    known to this application alone, and only while the engine is open. With `counting`, requests
    are counted and `/metrics` is served; with `tracing`, each request has a span. `by_json` are the
    pipelines whose inputs can be sent as JSON, if the caller has computed them already.

    Raises:
        CheckError: a pipeline has problems.
        ServeError: a pipeline can be used neither with inputs in JSON nor like a model.
    """
    settings = settings or Settings()
    for pipeline in pipelines.values():
        engine.plan(pipeline)
    app = App(settings)
    if registry is None:
        registry = registry_beside(engine, settings, None if counting is None else counting.metrics)
    of_callers = admission.of_callers()
    layers = _traced(app, [*admission.of_requests(settings), *of_callers], tracing)
    if by_json is None:
        by_json = reading.by_json(pipelines)
    only_models = pipelines.keys() - by_json.keys()
    if only_models:  # otherwise the names of models need not be looked up at the start
        bound = engine.shared.bindings
        only_models -= {*bound.names("model"), *bound.names("embedder")}
    running = admission.running
    runs = Runs(engine, by_json, settings, registry, running=running, only_models=only_models)

    def open_sockets() -> Sockets:
        from orchestra.server.websocket import Sockets

        return Sockets(runs, of_callers, admission.cors.origins, app.closing)

    routes = table(runs, pipelines, open_sockets, readiness)
    if counting is not None:
        from orchestra.server.metrics import metrics_routes

        routes += metrics_routes(counting)
        app.answered = (counting.metrics.answered, *app.answered)
    for route in with_documents(routes, by_json, settings, admission):
        app.add_route(route)
    _answer_errors(app)
    front = Front(app.asgi_app, layers, shaped, app.answered)
    app.asgi_app = Hardened(front)  # type: ignore[method-assign,assignment]
    return app


def _traced(app: App, layers: Sequence[Layer], tracing: Tracing | None) -> Sequence[Layer]:
    """The layers; with tracing, preceded by one that begins each request's span."""
    if tracing is None:
        return layers
    from orchestra.server.front.tracing import TracedRequests, end_span

    app.answered = (end_span,)
    return [TracedRequests(tracing.begin), *layers]


def table(
    runs: Runs,
    pipelines: Mapping[str, Pipeline[..., Any]],
    open_sockets: Callable[[], Sockets],
    readiness: Readiness = READY,
) -> list[Route]:
    """Every route, in the documents' order; `pipelines` includes those used like models."""
    openai, sockets = openai_api(runs, pipelines), Later(open_sockets)
    at, several = "/v1/pipelines/<name>/ws", "Several runs over one WebSocket."
    shared = runs.engine.shared
    return [
        *pipeline_routes(runs),
        sockets.route("open-socket", at, lambda it: it.open, several, methods=(), access=may_run),
        *run_routes(runs),
        *openai_routes(runs, openai),
        *anthropic_routes(runs, lambda: openai.get().catalog),
        *health_routes(shared.bindings, shared.nursery, readiness),
    ]


def _answer_errors(app: App) -> None:
    async def http(error: HTTPException) -> TrioResponse:
        return answer(shaped(_arrival(), _problem(error, app.settings)))

    async def unexpected(error: Exception) -> TrioResponse:
        current = _current()
        log.error("a request failed: %s %r", current.method, current.path, exc_info=error)
        return answer(shaped(_arrival(), problems.server_failed()))

    app.register_error_handler(HTTPException, http)
    app.register_error_handler(Exception, unexpected)


def _not_found(arrival: Arrival) -> HttpProblem:
    """The problem of a path without a route; its hint names paths that exist for this client."""
    if arrival.of_anthropic:
        return problems.not_found(arrival.path, problems.OF_ANTHROPIC)
    hint = problems.OF_OPENAI if is_openai(arrival.path) else problems.OF_SERVER
    return problems.not_found(arrival.path, hint)


def _mismatch() -> HttpProblem:
    """The problem of an HTTP request to a WebSocket's route, or the other way round."""
    if not has_request_context():
        return problems.no_socket(_current().path)
    detail = "open a WebSocket here; see docs/server.md"
    return problems.by_status(426, "Upgrade Required", detail, (("Upgrade", "websocket"),))


def _current() -> BaseRequestWebsocket:
    """The request or WebSocket that is being served."""
    return cast("BaseRequestWebsocket", request if has_request_context() else websocket)


def _arrival() -> Arrival:
    """The arrival of the current request."""
    return Arrival.of(_current().scope)


def _problem(error: HTTPException, settings: Settings) -> HttpProblem:
    if isinstance(error, RequestEntityTooLarge):
        return problems.too_large(settings.body_limit_bytes)
    if isinstance(error, WebsocketMismatch):
        return _mismatch()
    if isinstance(error, NotFound):
        return _not_found(_arrival())
    if isinstance(error, MethodNotAllowed):
        current = _current()
        return problems.wrong_method(current.method, current.path, error.valid_methods or ())
    return problems.by_status(error.code or 500, error.name, error.description or error.name)
