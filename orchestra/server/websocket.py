"""Runs over a WebSocket: several at once, each under the id that its client gave it.

A socket serves one pipeline. Its runs are those of the one who opened it, and every start is asked
for anew: whether the key is still valid, what the rate allows, and whether there is money.

Rules of the file:

1. Whatever the client sends is taken at once: the task that reads waits for nothing else, so that
   a departure is always heard. What it has to say goes into a bounded outbox.
2. Each run has a task, which asks its journal for more when what it was given is sent: one slow
   socket holds back its own runs.
3. Who leaves is gone, however they leave: every run of theirs is told so.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import attrs
import trio
from quart import websocket
from quart_trio.asgi import TrioASGIWebsocketConnection

from orchestra.computed import computed
from orchestra.events import TERMINAL
from orchestra.groups import contained
from orchestra.server.connections.listen import obey
from orchestra.server.front import ws_messages
from orchestra.server.front.access import may_run
from orchestra.server.front.arrival import Arrival
from orchestra.server.front.departure import LEFT
from orchestra.server.front.ws_messages import (
    FAILED,
    GOING_AWAY,
    IDLE,
    POLICY,
    TOO_LARGE,
    Cancel,
    Mistake,
    Start,
    choose_protocol,
    event_frame,
    foreign,
    id_in_use,
    problem_frame,
    too_many_runs,
)
from orchestra.server.inputs.reading import from_json
from orchestra.server.responses import problems
from orchestra.server.responses.caller_problems import NOT_STARTED, not_started
from orchestra.server.responses.problems import HttpProblem, bad_inputs, fit_for_clients
from orchestra.server.responses.whole_answers import answer
from orchestra.server.runs.pipelines import CANCELLED, Runs

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, WebsocketScope
    from quart.wrappers.websocket import Websocket
    from quart_trio.wrappers import TrioResponse as Response
    from werkzeug.datastructures import Headers

    from orchestra.engine.run import Run
    from orchestra.server.front.layers import Answered, Layer
    from orchestra.server.settings import Settings

log = logging.getLogger("orchestra.server")

OPENED = 101
OUTBOX_MAX = 16
"""Problems that wait to be sent; a client that causes more, and reads none, is left."""
UNTOLD_FACTOR = 2
"""Starts of which something is still to be sent, in runs that may go on. One that is refused has
given its id back already: who reads nothing would have more and more of them waiting."""
FAREWELL_S = 2.0
"""How long a socket that is left may take to be told so."""


class SocketExchange(TrioASGIWebsocketConnection):
    """A WebSocket whose messages come as ASGI has them, and as soon as they do.

    What is told of it as of a request is its handshake: a socket is open for hours.
    """

    def __init__(self, app: Any, scope: WebsocketScope) -> None:
        super().__init__(app, scope)
        self._templates: Mapping[str, str] = app.templates
        self._answered: Answered | None = app.answered
        self._began_s = trio.current_time()
        self._asked: Websocket | None = None

    async def handle_websocket(  # type: ignore[override]
        self, nursery: trio.Nursery, websocket: Websocket, send: ASGISendCallable
    ) -> None:
        """Serve it; `send` is that of a refusal."""
        self._asked = websocket
        try:
            await super().handle_websocket(nursery, websocket, partial(self._refuse, send))
        finally:
            self._tell(LEFT)

    async def accept_connection(
        self, send: ASGISendCallable, headers: Headers, subprotocol: str | None
    ) -> None:
        """Open it."""
        await super().accept_connection(send, headers, subprotocol)
        self._tell(OPENED)

    async def _refuse(self, send: ASGISendCallable, message: Any) -> None:
        await send(message)
        if message["type"] == "websocket.http.response.start":
            self._tell(message["status"])

    def _tell(self, status: int) -> None:
        """Tell it, if it has not been told."""
        answered, self._answered = self._answered, None
        if answered is not None:
            rule = None if self._asked is None else self._asked.url_rule
            route = "" if rule is None else self._templates[rule.endpoint]
            answered(self.scope, route, status, trio.current_time() - self._began_s)

    async def handle_messages(  # type: ignore[override]
        self, nursery: trio.Nursery, receive: ASGIReceiveCallable
    ) -> None:
        """Pass on what comes, and stop serving when the client has left."""
        while (event := cast("Any", await receive()))["type"] != "websocket.disconnect":
            if event["type"] == "websocket.receive":
                await self.send_channel.send(event)
        nursery.cancel_scope.cancel()


@attrs.frozen
class Sockets:
    """The handler of the route on which WebSockets are opened.

    `layers` are what each start goes through again. When `closing` is set, no run is started any
    more, and each socket is closed when its last run has ended.
    """

    runs: Runs
    layers: Sequence[Layer]
    origins: frozenset[str]
    closing: trio.Event

    async def open(self, name: str) -> Response | None:
        """Serve one socket until it is closed; or why it is not opened."""
        socket = cast("Websocket", websocket._get_current_object())  # type: ignore[attr-defined] # noqa: SLF001
        pipeline = self.runs.pipelines.get(name)
        if pipeline is None:
            return answer(self.runs.unknown(name, Arrival.of(socket.scope)))
        headers = socket.headers
        refused = foreign(headers.get("Origin"), headers.get("Host", ""), self.origins)
        if refused is not None:
            return answer(refused)
        obey(socket.scope, self.runs.settings)
        await socket.accept(subprotocol=choose_protocol(socket.requested_subprotocols))
        await Conversation(self, name, socket).hold()
        return None

    async def started(self, name: str, start: Start, scope: Mapping[str, Any]) -> Run | HttpProblem:
        """A run for whoever has opened this socket, or why there is none."""
        if self.closing.is_set():
            return problems.too_busy("no more runs are started over this socket; open another")
        arrival = Arrival(scope, request_id=Arrival.of(scope).request_id)
        for layer in self.layers:
            early = await layer.admit(arrival)
            if early is not None:
                return cast("HttpProblem", early)
        refused = may_run(arrival.principal, {"name": name})
        if refused is not None:
            return refused
        pipeline = self.runs.pipelines[name]
        reading = partial(from_json, pipeline.inputs, start.inputs)
        values, faults = await computed(reading, large=start.large, pipeline_code=True)
        if faults:
            return bad_inputs(faults)
        try:
            run = self.runs.launch(pipeline, values, arrival=arrival)
        except NOT_STARTED as error:
            return not_started(error)
        self.runs.adopt(run)
        return run


@attrs.define(eq=False)
class Going:
    """A run of a socket; None while it is asked for. It may be cancelled before it is there."""

    run: Run | None = None
    cancelled: bool = False

    def begin(self, run: Run) -> None:
        """It is there."""
        self.run = run
        if self.cancelled:
            run.cancel(CANCELLED)

    def cancel(self) -> None:
        """Stop it, now or as soon as it begins."""
        self.cancelled = True
        if self.run is not None:
            self.run.cancel(CANCELLED)


@attrs.define(eq=False)
class Conversation:
    """One socket, open."""

    _sockets: Sockets
    _name: str
    _socket: Websocket
    _nursery: trio.Nursery = attrs.field(init=False)
    _outbox: trio.MemorySendChannel[str] = attrs.field(init=False)
    _going: dict[str, Going] = attrs.field(init=False, factory=dict)
    """Runs whose ids are taken."""
    _untold: int = attrs.field(init=False, default=0)
    """Runs of which something is still to be sent: among them those whose ids are free again."""
    _stirred: trio.Event = attrs.field(init=False, factory=trio.Event)
    _farewell: tuple[int, str] = (GOING_AWAY, "")

    async def hold(self) -> None:
        """Serve it until it is closed, by whoever."""
        self._outbox, waiting = trio.open_memory_channel[str](OUTBOX_MAX)
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._tell, waiting)
            self._nursery.start_soon(self._watch)
            self._nursery.start_soon(self._listen)
        with trio.move_on_after(FAREWELL_S):
            await self._socket.close(*self._farewell)

    def _close(self, code: int, reason: str) -> None:
        self._farewell = (code, reason)
        self._nursery.cancel_scope.cancel()

    async def _listen(self) -> None:
        """Do what the client says."""
        while True:
            event = cast("Any", await self._socket.receive())
            said = event.get("bytes") if event.get("text") is None else event["text"]
            if said is None:
                limit = self._settings.body_limit_bytes
                self._close(TOO_LARGE, f"a message is larger than {limit}")
                return
            self._stir()
            self._hear(ws_messages.read(said))

    def _hear(self, message: Start | Cancel | Mistake) -> None:
        match message:
            case Start(id):
                self._start(message)
            case Cancel(id):
                if (going := self._going.get(id)) is not None:
                    going.cancel()
            case Mistake(id, problem):
                self._refuse(id, problem)

    def _start(self, start: Start) -> None:
        most = self._settings.socket_runs_max
        if start.id in self._going:
            self._refuse(start.id, id_in_use(start.id))
        elif len(self._going) >= most or self._untold >= UNTOLD_FACTOR * most:
            self._refuse(start.id, too_many_runs(most))
        else:
            self._going[start.id] = going = Going()
            self._untold += 1
            self._nursery.start_soon(self._run, start, going)

    def _refuse(self, run: str | None, problem: HttpProblem) -> None:
        try:
            self._outbox.send_nowait(problem_frame(run, problem))
        except trio.WouldBlock:
            self._close(POLICY, "you do not read the problems of your messages")

    async def _tell(self, waiting: trio.MemoryReceiveChannel[str]) -> None:
        while True:
            await self._socket.send(await waiting.receive())

    async def _run(self, start: Start, going: Going) -> None:
        """One run, from the moment it is asked for until its last event is sent."""
        what = f"a run over a WebSocket failed, of pipeline {self._name!r}"
        try:
            if not await contained(partial(self._serve, start, going), log, what):
                self._close(FAILED, "the server's log says why")
        finally:
            self._forget(start.id, going)
            self._untold -= 1
            self._stir()
            if going.run is not None:
                self._sockets.runs.left(going.run)

    async def _serve(self, start: Start, going: Going) -> None:
        run = await self._sockets.started(self._name, start, self._socket.scope)
        if isinstance(run, HttpProblem):
            self._forget(start.id, going)
            await self._socket.send(problem_frame(start.id, run))
        else:
            going.begin(run)
            await self._follow(start.id, run, going)

    async def _follow(self, name: str, run: Run, going: Going) -> None:
        debug, request_id = self._settings.debug, run.request_id
        with run.journal.attach() as reader:
            seq = 0
            while batch := await reader.after(seq):
                for event in batch:
                    if isinstance(event, TERMINAL):
                        self._forget(name, going)  # who hears of its end may use the id again
                    fit = fit_for_clients(event, debug=debug)
                    await self._socket.send(event_frame(name, fit, request_id))
                seq = batch[-1].seq

    def _forget(self, name: str, going: Going) -> None:
        """The id is free again; a second time it may be another's by now."""
        if self._going.get(name) is going:
            del self._going[name]

    def _stir(self) -> None:
        self._stirred.set()
        self._stirred = trio.Event()

    async def _watch(self) -> None:
        """Close it when it is idle, or is to be closed and has nothing going on."""
        self._nursery.start_soon(self._stir_when_closing)
        while self._untold or not self._sockets.closing.is_set():
            with trio.move_on_after(self._settings.socket_idle_s) as silence:
                await self._stirred.wait()
            if silence.cancelled_caught and not self._untold:
                self._close(IDLE, f"nothing was going on for {self._settings.socket_idle_s:g} s")
                return
        self._close(GOING_AWAY, "the server is stopping, or was replaced by a newer one")

    async def _stir_when_closing(self) -> None:
        await self._sockets.closing.wait()
        self._stir()

    @property
    def _settings(self) -> Settings:
        return self._sockets.runs.settings
