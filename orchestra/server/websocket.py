"""Runs over a WebSocket: several at once, each under an id that the client has chosen.

A socket serves one pipeline. Its runs belong to the caller who opened it. Each start is checked
like a new request: whether the key is still valid, the rate limit, and the budget.

Rules of the file:

1. The task that reads messages waits for nothing else, so that it always notices when the client
   leaves. Its own replies go into a bounded outbox.
2. Each run has a task, which reads more of the journal only after it has sent what it has read: a
   slow socket holds back only its own runs.
3. When a client leaves, in whatever way, each of its runs is informed.
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
from orchestra.graph.nodes import is_stream
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
from orchestra.server.responses.problems import HttpProblem, bad_inputs
from orchestra.server.responses.whole_answers import answer
from orchestra.server.runs.fit_events import fit_for_clients, without_result
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
"""The most problems that wait to be sent; if there are more, the socket is closed."""
UNSENT_FACTOR = 2
"""The most starts with something left to send, as a multiple of the most runs in flight. A refused
start frees its id at once: a client that reads nothing could let more and more of them wait."""
FAREWELL_S = 2.0
"""How long sending the close frame may take."""


class SocketExchange(TrioASGIWebsocketConnection):
    """A WebSocket that passes on the messages of ASGI unchanged, as soon as they arrive.

    The app's `answered` is called after the handshake, since the socket may be open for hours.
    """

    def __init__(self, app: Any, scope: WebsocketScope) -> None:
        super().__init__(app, scope)
        self._templates: Mapping[str, str] = app.templates
        self._answered: Sequence[Answered] = app.answered
        self._began_s = trio.current_time()
        self._handshake: Websocket | None = None

    async def handle_websocket(  # type: ignore[override]
        self, nursery: trio.Nursery, websocket: Websocket, send: ASGISendCallable
    ) -> None:
        """Serve the WebSocket; `send` also sends the response of a refused handshake."""
        self._handshake = websocket
        try:
            await super().handle_websocket(nursery, websocket, partial(self._send, send))
        finally:
            self._report(LEFT)

    async def accept_connection(
        self, send: ASGISendCallable, headers: Headers, subprotocol: str | None
    ) -> None:
        """Accept the handshake."""
        await super().accept_connection(send, headers, subprotocol)
        self._report(OPENED)

    async def _send(self, send: ASGISendCallable, message: Any) -> None:
        await send(message)
        if message["type"] == "websocket.http.response.start":
            self._report(message["status"])

    def _report(self, status: int) -> None:
        """Call `answered` with the handshake's status, unless it was called before."""
        answered, self._answered = self._answered, ()
        for each in answered:
            rule = None if self._handshake is None else self._handshake.url_rule
            route = "" if rule is None else self._templates[rule.endpoint]
            each(self.scope, route, status, trio.current_time() - self._began_s)

    async def handle_messages(  # type: ignore[override]
        self, nursery: trio.Nursery, receive: ASGIReceiveCallable
    ) -> None:
        """Pass on messages as they arrive, and stop serving when the client has left."""
        while (event := cast("Any", await receive()))["type"] != "websocket.disconnect":
            if event["type"] == "websocket.receive":
                await self.send_channel.send(event)
        nursery.cancel_scope.cancel()


@attrs.frozen
class Sockets:
    """The handler of the route that opens WebSockets.

    Each start of a run passes `layers` again. Once `closing` is set, no more runs are started, and
    each socket is closed after its last run has ended.
    """

    runs: Runs
    layers: Sequence[Layer]
    origins: frozenset[str]
    closing: trio.Event

    async def open(self, name: str) -> Response | None:
        """Serve one socket until it is closed, or return the response that refuses it."""
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
        """Start a run for the caller who opened this socket, or return why it cannot start."""
        if self.closing.is_set():
            return problems.too_busy("no more runs are started over this socket; open another")
        handshake = Arrival.of(scope)
        arrival = Arrival(scope, request_id=handshake.request_id)
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
            run = self.runs.launch(pipeline, values, arrival=arrival, tags=start.tags)
        except NOT_STARTED as error:
            return not_started(error)
        self.runs.adopt(run)
        return run


@attrs.define(eq=False)
class SocketRun:
    """A run of a socket; `run` is None until it has started, but it can be cancelled before."""

    run: Run | None = None
    cancelled: bool = False

    def begin(self, run: Run) -> None:
        """Set the started run; it is cancelled at once if `cancel` was called before."""
        self.run = run
        if self.cancelled:
            run.cancel(CANCELLED)

    def cancel(self) -> None:
        """Cancel the run, now or as soon as it has started."""
        self.cancelled = True
        if self.run is not None:
            self.run.cancel(CANCELLED)


@attrs.define(eq=False)
class Conversation:
    """One open socket."""

    _sockets: Sockets
    _name: str
    _socket: Websocket
    _nursery: trio.Nursery = attrs.field(init=False)
    _outbox: trio.MemorySendChannel[str] = attrs.field(init=False)
    _runs: dict[str, SocketRun] = attrs.field(init=False, factory=dict)
    """The runs in flight, by the ids that are in use."""
    _unsent: int = attrs.field(init=False, default=0)
    """The number of starts with something left to send, some of whose ids are free again."""
    _idling: trio.lowlevel.ParkingLot = attrs.field(init=False, factory=trio.lowlevel.ParkingLot)
    """Woken at each message and at the end of each run."""
    _farewell: tuple[int, str] = (GOING_AWAY, "")

    async def hold(self) -> None:
        """Serve the socket until either side closes it."""
        self._outbox, waiting = trio.open_memory_channel[str](OUTBOX_MAX)
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._send_problems, waiting)
            self._nursery.start_soon(self._watch)
            self._nursery.start_soon(self._listen)
        with trio.move_on_after(FAREWELL_S):
            await self._socket.close(*self._farewell)

    def _close(self, code: int, reason: str) -> None:
        self._farewell = (code, reason)
        self._nursery.cancel_scope.cancel()

    async def _listen(self) -> None:
        """Act on the client's messages."""
        while True:
            event = cast("Any", await self._socket.receive())
            data = event.get("bytes") if event.get("text") is None else event["text"]
            if data is None:
                limit = self._settings.body_limit_bytes
                self._close(TOO_LARGE, f"a message is larger than {limit} bytes")
                return
            self._idling.unpark_all()
            self._act_on(ws_messages.read(data))

    def _act_on(self, message: Start | Cancel | Mistake) -> None:
        match message:
            case Start(id):
                self._start(message)
            case Cancel(id):
                if (running := self._runs.get(id)) is not None:
                    running.cancel()
            case Mistake(id, problem):
                self._refuse(id, problem)

    def _start(self, start: Start) -> None:
        most = self._settings.socket_runs_max
        if start.id in self._runs:
            self._refuse(start.id, id_in_use(start.id))
        elif len(self._runs) >= most or self._unsent >= UNSENT_FACTOR * most:
            self._refuse(start.id, too_many_runs(most))
        else:
            self._runs[start.id] = started = SocketRun()
            self._unsent += 1
            self._nursery.start_soon(self._run, start, started)

    def _refuse(self, run: str | None, problem: HttpProblem) -> None:
        try:
            self._outbox.send_nowait(problem_frame(run, problem))
        except trio.WouldBlock:
            self._close(POLICY, "you do not read the problems that your messages cause")

    async def _send_problems(self, waiting: trio.MemoryReceiveChannel[str]) -> None:
        while True:
            await self._socket.send(await waiting.receive())

    async def _run(self, start: Start, started: SocketRun) -> None:
        """Serve one run, from its start message until its last event is sent."""
        what = f"a run over a WebSocket failed, of pipeline {self._name!r}"
        try:
            if not await contained(partial(self._serve, start, started), log, what):
                self._close(FAILED, "the server failed; its log says why")
        finally:
            self._forget(start.id, started)
            self._unsent -= 1
            self._idling.unpark_all()
            if started.run is not None:
                self._sockets.runs.left(started.run)

    async def _serve(self, start: Start, started: SocketRun) -> None:
        run = await self._sockets.started(self._name, start, self._socket.scope)
        if isinstance(run, HttpProblem):
            self._forget(start.id, started)
            await self._socket.send(problem_frame(start.id, run))
        else:
            started.begin(run)
            await self._follow(start, run, started)

    async def _follow(self, start: Start, run: Run, started: SocketRun) -> None:
        name, debug, request_id = start.id, self._settings.debug, run.request_id
        minimal = start.minimal and is_stream(self._sockets.runs.pipelines[self._name].output)
        with run.journal.attach() as reader:
            seq = 0
            while batch := await reader.after(seq):
                for event in batch:
                    if isinstance(event, TERMINAL):
                        self._forget(name, started)  # the client may use the id after this event
                    sent = without_result(event) if minimal else event
                    fit = fit_for_clients(sent, debug=debug)
                    await self._socket.send(event_frame(name, fit, request_id))
                seq = batch[-1].seq

    def _forget(self, name: str, started: SocketRun) -> None:
        """Free the id, unless another run has it by now: this is called twice for some runs."""
        if self._runs.get(name) is started:
            del self._runs[name]

    async def _watch(self) -> None:
        """Close the socket when it is idle; once `closing` is set, after its last run."""
        self._nursery.start_soon(self._wake_when_closing)
        while self._unsent or not self._sockets.closing.is_set():
            with trio.move_on_after(self._settings.socket_idle_s) as silence:
                await self._idling.park()
            if silence.cancelled_caught and not self._unsent:
                idle_s = self._settings.socket_idle_s
                self._close(IDLE, f"there was no run and no message for {idle_s:g} s")
                return
        self._close(GOING_AWAY, "the server is stopping, or was replaced by a newer one")

    async def _wake_when_closing(self) -> None:
        await self._sockets.closing.wait()
        self._idling.unpark_all()

    @property
    def _settings(self) -> Settings:
        return self._sockets.runs.settings
