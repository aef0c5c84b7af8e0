"""The application: pipelines behind routes, and every error as problem JSON."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import trio
from quart import request
from quart.utils import encode_headers
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers import TrioRequest, TrioResponse
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge

from orchestra.server import problems, sse
from orchestra.server.hardening import Hardened
from orchestra.server.inputs import check_servable
from orchestra.server.problems import HttpProblem
from orchestra.server.runs import EventStream, Runs, answer
from orchestra.server.settings import Settings

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable

    from orchestra.engine.engine import Engine
    from orchestra.graph.pipelines import Pipeline

log = logging.getLogger("orchestra.server")


class LeavingRequest(TrioRequest):
    """A request that knows what to do when its client leaves."""

    leave: Callable[[], None] = staticmethod(lambda: None)


class Exchange(TrioASGIHTTPConnection):
    """Quart's request, in one task less, and with `leave` called whatever ends it."""

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve one request."""
        request = cast("LeavingRequest", self._create_request_from_scope(send))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.handle_messages, nursery, request, receive)
                await self._answer(request, send)
                nursery.cancel_scope.cancel()
        finally:
            request.leave()

    async def _answer(self, request: LeavingRequest, send: ASGISendCallable) -> None:
        """As Quart does, without its bound of a minute; streams write themselves."""
        response = await self.app.handle_request(request)
        if not isinstance(response, EventStream):
            await self._send_response(send, response)
            return
        await _start(send, response)
        await response.write(partial(_send_more, send))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _start(send: ASGISendCallable, response: TrioResponse) -> None:
    headers = encode_headers(response.headers)
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _send_more(send: ASGISendCallable, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


class Answer(TrioResponse):
    """An answer that is JSON where nothing else is said: to OPTIONS, for one."""

    default_mimetype = sse.JSON


class App(QuartTrio):
    """Quart, with our request, answer and exchange."""

    request_class = LeavingRequest
    response_class = Answer
    asgi_http_class = Exchange


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
    app.asgi_app = Hardened(app.asgi_app)  # type: ignore[method-assign]
    return app


def _route(app: App, runs: Runs) -> None:
    at = "/v1/pipelines"
    app.add_url_rule(at, "list", runs.list)
    app.add_url_rule(f"{at}/<name>", "describe", runs.describe)
    app.add_url_rule(f"{at}/<name>/runs", "start", runs.start, methods=["GET", "POST"])


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
