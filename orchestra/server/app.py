"""The application: pipelines behind routes, and every error as problem JSON."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import attrs
import trio
from quart import request
from quart.utils import encode_headers
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers import TrioRequest, TrioResponse
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge

from orchestra.server import problems, sse
from orchestra.server.hardening import Hardened
from orchestra.server.health import Health
from orchestra.server.inputs import check_servable
from orchestra.server.problems import HttpProblem
from orchestra.server.runs import Events, EventStream, Runs, answer
from orchestra.server.settings import Settings

if TYPE_CHECKING:
    from hypercorn.typing import (
        ASGIReceiveCallable,
        ASGIReceiveEvent,
        ASGISendCallable,
        Scope,
    )
    from quart.typing import ResponseTypes
    from quart.wrappers.request import Body

    from orchestra.engine.engine import Engine
    from orchestra.graph.pipelines import Pipeline

log = logging.getLogger("orchestra.server")

LISTENING = "client"
"""The name of the task that listens to one; by default Trio makes a new string for each."""


@attrs.define(eq=False)
class Departure:
    """What is done when a request is over, whatever ended it."""

    act: Callable[[], None] = lambda: None


class DepartingRequest(TrioRequest):
    """A request whose handler may say what is done when it is over."""

    departure: Departure


class Exchange(TrioASGIHTTPConnection):
    """A request and its answer.

    A stream may be open for hours: it holds neither the request nor the answer's object.
    """

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve one request."""
        request = cast("DepartingRequest", self._create_request_from_scope(send))
        request.departure = departure = Departure()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    _listen, request.body, receive, nursery.cancel_scope, name=LISTENING
                )
                response = await self.app.handle_request(request)
                del request
                events = await self._begin(response, send)
                del response
                if events is not None:
                    await events.write(partial(_send_more, send))
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                nursery.cancel_scope.cancel()
        finally:
            departure.act()

    async def _begin(self, response: ResponseTypes, send: ASGISendCallable) -> Events | None:
        """Send an answer as Quart does, without its bound of a minute; of a stream, its head."""
        if not isinstance(response, EventStream):
            await self._send_response(send, response)
            return None
        headers = encode_headers(response.headers)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        return response.events


async def _listen(body: Body, receive: ASGIReceiveCallable, answering: trio.CancelScope) -> None:
    """Fill the request's body, and stop answering when the client has left."""
    while _stays(await receive(), body):
        pass
    answering.cancel()


def _stays(message: ASGIReceiveEvent, body: Body) -> bool:
    """Whether the client is still there, with what it sent put into the body."""
    if message["type"] != "http.request":
        return False
    body.append(message["body"])
    if not message["more_body"]:
        body.set_complete()
    return True


async def _send_more(send: ASGISendCallable, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


class Answer(TrioResponse):
    """An answer that is JSON where nothing else is said: to OPTIONS, for one."""

    default_mimetype = sse.JSON


class App(QuartTrio):
    """Quart, with our request, answer and exchange."""

    request_class = DepartingRequest
    response_class = Answer
    asgi_http_class = Exchange

    def asgi_app(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> Coroutine[Any, Any, None]:
        """Serve one connection; a request without a coroutine of Quart's around it."""
        if scope["type"] == "http":
            return self.asgi_http_class(self, scope)(receive, send)
        return super().asgi_app(scope, receive, send)


def create_app(
    engine: Engine, pipelines: Mapping[str, Pipeline[..., Any]], settings: Settings | None = None
) -> App:
    """The ASGI application that serves these pipelines, each under its key, on this engine.

    Raises:
        CheckError: a pipeline has problems.
        ServeError: a pipeline has an input that JSON cannot give.
    """
    settings = settings or Settings()
    for name, pipeline in pipelines.items():
        engine.plan(pipeline)
        check_servable(name, pipeline.inputs)
    app = App("orchestra", static_folder=None, template_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.body_limit_bytes
    app.config["BODY_TIMEOUT"] = settings.body_timeout_s
    app.url_map.merge_slashes = False  # it would redirect, with a page in HTML
    _route(app, Runs(engine, pipelines, settings))
    _answer_errors(app, settings)
    app.asgi_app = Hardened(app.asgi_app)  # type: ignore[method-assign,assignment]
    return app


def _route(app: App, runs: Runs) -> None:
    at = "/v1/pipelines"
    app.add_url_rule(at, "list", runs.list)
    app.add_url_rule(f"{at}/<name>", "describe", runs.describe)
    app.add_url_rule(f"{at}/<name>/runs", "start", runs.start, methods=["GET", "POST"])
    health = Health(runs.engine.bindings)
    app.add_url_rule("/v1/health/models", "models", health.models)


def _answer_errors(app: App, settings: Settings) -> None:
    async def http(error: HTTPException) -> TrioResponse:
        return answer(_problem(error, settings))

    async def unexpected(error: Exception) -> TrioResponse:
        log.error("a request failed: %s %s", request.method, request.path, exc_info=error)
        return answer(problems.by_status(500, "Internal Server Error", "the server's log says why"))

    app.register_error_handler(HTTPException, http)
    app.register_error_handler(Exception, unexpected)


def _problem(error: HTTPException, settings: Settings) -> HttpProblem:
    if isinstance(error, RequestEntityTooLarge):
        return problems.too_large(settings.body_limit_bytes)
    if isinstance(error, NotFound):
        return problems.not_found(request.path)
    headers: tuple[tuple[str, str], ...] = ()
    if isinstance(error, MethodNotAllowed):
        headers = (("Allow", ", ".join(sorted(error.valid_methods or ()))),)
    detail = error.description or error.name
    return problems.by_status(error.code or 500, error.name, detail, headers)
