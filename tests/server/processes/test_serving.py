"""What is served, replaced while it is: runs go on where they began, and nothing is lost."""

from __future__ import annotations

import math
import os
import re
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from orchestra.engine import engine
from orchestra.engine.bindings import NoBindings
from orchestra.engine.engine import open_engine
from orchestra.errors import ConfigError
from orchestra.graph.pipelines import Pipeline, pipeline
from orchestra.graph.steps import step
from orchestra.observe.counting import counting
from orchestra.protocols import State, Stream
from orchestra.server.app import create_app
from orchestra.server.connections.sockets import bind
from orchestra.server.processes import serving
from orchestra.server.processes.serve import serve_loaded
from orchestra.server.processes.serving import REPLACED, Generation, House, Loaded
from orchestra.server.runs.registries import registry_beside
from orchestra.server.settings import Settings
from orchestra.steps import retrieve
from orchestra.stores.state.memory import MemoryState
from orchestra.values import Passage, Vector
from tests.engine.steps import Panic
from tests.patience import PATIENCE_S
from tests.runs.processes import REAL, Cable
from tests.server.deployment import Well
from tests.server.processes.test_serve import STREAM, last_event, refused
from tests.server.socketing import ClosedError, upgrade
from tests.server.test_sse import Message
from tests.server.wire import Client


class Closable(NoBindings, Well):
    """Bindings that know whether they were closed."""

    def __init__(self) -> None:
        self.closings = 0
        self.flushes = 0

    def closed(self) -> bool:
        """Whether they are; once, as all that was opened."""
        assert self.closings <= 1
        assert self.flushes >= self.closings, "what is late is paid before"
        return self.closings == 1

    async def flush(self, within_s: float) -> None:
        """Pay what is late."""
        assert not self.closings
        assert within_s > 0
        await trio.lowlevel.cancel_shielded_checkpoint()
        self.flushes += 1

    def close(self) -> None:
        """Close them."""
        self.closings += 1


class Late(Closable):
    """Bindings with something to write, which their state takes once it is `there`."""

    def __init__(self) -> None:
        super().__init__()
        self.there = trio.Event()
        self.written = False

    async def flush(self, within_s: float) -> None:
        """Write it, if the state is there in time."""
        with trio.move_on_after(within_s):
            await self.there.wait()
            self.written = True
        await trio.lowlevel.checkpoint()  # whoever stops gives it its time
        await super().flush(within_s)


@attrs.define
class Versions:
    """What is loaded: a pipeline that says its version, then waits, where asked to, and says it again.

    `refuse` is what the next load raises, by itself or when it is checked.
    """

    loaded: list[Closable] = attrs.field(factory=list)
    settings: Settings = attrs.field(factory=Settings)
    gate: trio.Event = attrs.field(factory=trio.Event)
    refuse: BaseException | None = None
    bad: Mapping[str, Pipeline[..., Any]] | None = None
    bindings: Callable[[], Closable] = Closable
    state: State | None = None
    undone: int = 0

    @contextmanager
    def load(self) -> Iterator[Loaded]:
        if self.refuse is not None:
            raise self.refuse
        bindings, number = self.bindings(), len(self.loaded)

        @step
        async def say(wait: bool) -> AsyncIterator[str]:
            yield f"{number} "
            if wait:
                await self.gate.wait()
            yield f"{number} again"

        @pipeline(name="version")
        def version(wait: bool = False) -> Stream[str]:
            return say(wait)

        pipelines = {"version": version} if self.bad is None else self.bad
        self.loaded.append(bindings)
        try:
            yield Loaded(
                pipelines,
                bindings,
                self.settings,
                close=bindings.close,
                state=self.state,
            )
        except BaseException:
            self.undone += 1
            raise


@attrs.define
class At:
    """A server in this process, whose log is read."""

    port: int
    versions: Versions
    log: pytest.LogCaptureFixture
    retired: list[None]

    async def reload(self) -> str:
        """Ask it to load anew, and wait until the log says what came of it."""
        self.log.clear()
        os.kill(os.getpid(), signal.SIGHUP)
        while not self.log.messages:
            await trio.lowlevel.checkpoint()
        return self.log.messages[-1]

    async def refused(self) -> float:
        """How many reloads it has refused, as its metrics say."""
        async with self.client() as client:
            reply = await client.ask("GET /metrics HTTP/1.1")
        (found,) = re.findall(
            r"^orchestra_reloads_refused_total (\S+)$", reply.body.decode(), re.MULTILINE
        )
        return float(found)

    async def version(self) -> object:
        """What it answers now."""
        async with self.client() as client:
            reply = await client.ask("GET /v1/pipelines/version/runs HTTP/1.1")
        return reply.json.get("result", reply.json)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            yield Client(stream)

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[Client]:
        """A client whose run waits, having said its version."""
        async with self.client() as client:
            await client.send(f"GET /v1/pipelines/version/runs?wait=true HTTP/1.1\n{STREAM}")
            await client.until(b'"chunk":')
            yield client


async def end_of(client: Client) -> Message:
    """The last event of its stream, which is complete as HTTP sees it."""
    return last_event(await client.until(b"\r\n0\r\n\r\n"))


Act = Callable[[At], Awaitable[None]]


@pytest.fixture
def serve_while(caplog: pytest.LogCaptureFixture) -> Callable[..., Versions]:
    """Serve while this is done, then stop."""

    def run(act: Act, /, state: State | None = None, **settings: Any) -> Versions:
        versions = Versions(settings=Settings(**settings), state=state)

        async def main() -> None:
            retired: list[None] = []
            house = House(on_retired=lambda: retired.append(None), counting=counting())
            listen = partial(bind, "127.0.0.1", 0)
            with trio.fail_after(PATIENCE_S):
                async with trio.open_nursery() as nursery:
                    url = await nursery.start(partial(serve_loaded, versions.load, listen, house))
                    port = int(url.rpartition(":")[2])
                    await act(At(port, versions, caplog, retired))
                    os.kill(os.getpid(), signal.SIGTERM)

        caplog.set_level("INFO", "orchestra.server")
        trio.run(main)
        assert all(each.closed() for each in versions.loaded)
        return versions

    return run


Serve = Callable[..., Versions]


def test_a_run_goes_on_in_what_it_began_in_while_new_ones_begin_in_the_new(
    serve_while: Serve,
) -> None:
    async def act(at: At) -> None:
        async with at.waiting() as old:
            assert await at.reload() == "reloaded; new requests use the new version"
            assert await at.version() == "1 1 again"
            assert not at.versions.loaded[0].closed(), "a run is in it"
            at.versions.gate.set()
            seen = await end_of(old)
            assert seen.event == "run.finished"
            assert '"result":"0 0 again"' in seen.data
        while not at.retired:
            await trio.lowlevel.checkpoint()
        assert at.versions.loaded[0].closed()
        assert not at.versions.loaded[1].closed()
        assert await at.version() == "1 1 again"

    serve_while(act)


def test_a_server_has_as_many_runs_as_its_settings_say(serve_while: Serve) -> None:
    async def act(at: At) -> None:
        async with at.waiting() as first:
            told: Any = await at.version()
            assert told["type"] == "urn:problem-type:orchestra:too-busy"
            at.versions.gate.set()
            await end_of(first)
        assert await at.version() == "0 0 again"

    serve_while(act, runs_max=1)


def test_what_is_refused_leaves_everything_as_it_was(serve_while: Serve) -> None:
    """Whether it cannot be loaded or cannot be served."""

    @step
    def same(x: int) -> int:
        return x

    @pipeline
    def unused(x: int, y: int) -> int:
        return same(x)

    async def act(at: At) -> None:
        at.versions.refuse = ConfigError([])
        assert "not reloaded; what was served before stays" in await at.reload()
        foreign = (KeyError("of a module of the project's"), SystemExit(1), Panic("in Rust"))
        for error in foreign:
            at.versions.refuse = error
            assert "not reloaded; what was served before stays" in await at.reload()
        at.versions.refuse, at.versions.bad = None, {"unused": unused}
        assert "[unused-input]" in await at.reload()
        assert await at.refused() == 2 + len(foreign)
        assert at.versions.loaded[1].closed()
        assert await at.version() == "0 0 again"
        assert at.retired == []
        at.versions.bad = None
        assert (await at.reload()).startswith("reloaded; ")
        assert await at.version() == "2 2 again"

    assert serve_while(act).undone == 1


async def begin_slow_reload(at: At, nursery: trio.Nursery) -> threading.Event:
    """Begin a reload that asks a database for the names of its stores; set what is returned."""
    asked, answered = threading.Event(), threading.Event()

    class Slow(Closable):
        def names(self, seam: str) -> tuple[str, ...]:
            asked.set()
            assert answered.wait(PATIENCE_S / 2), f"nothing else runs while {seam}s are asked for"
            return ("notes",)

    @pipeline
    def searched(query: Vector) -> list[Passage]:
        return retrieve(query, store="notes")

    at.versions.bindings, at.versions.bad = Slow, {"searched": searched}
    nursery.start_soon(at.reload)
    while not asked.is_set():
        await trio.lowlevel.checkpoint()
    return answered


def test_what_is_served_answers_while_the_names_of_stores_are_asked_for(serve_while: Serve) -> None:
    """Of a database that takes its time, as one that is away does."""

    async def act(at: At) -> None:
        async with trio.open_nursery() as nursery:
            answered = await begin_slow_reload(at, nursery)
            assert await at.version() == "0 0 again"
            answered.set()
        assert at.log.messages[-1].startswith("reloaded; ")

    serve_while(act)


def test_what_cannot_be_closed_ends_no_other_version(serve_while: Serve) -> None:
    """As a model of the project's own class, whose `close` raises."""

    class Stuck(Closable):
        def close(self) -> None:
            super().close()
            raise OSError("stuck")

    async def act(at: At) -> None:
        at.versions.bindings = Stuck
        for gone in (1, 2):
            await at.reload()
            while len(at.retired) < gone:
                await trio.lowlevel.checkpoint()
        assert "a replaced version of the server was not closed cleanly" in at.log.text
        assert await at.version() == "2 2 again"

    serve_while(act)


def test_a_request_that_is_still_arriving_stays_where_it_came_to(serve_while: Serve) -> None:
    body = b'{"inputs": {}}'

    async def act(at: At) -> None:
        async with at.client() as client:
            head = f"POST /v1/pipelines/version/runs HTTP/1.1\nContent-Length: {len(body)}"
            await client.send(f"{head}\nContent-Type: application/json\nExpect: 100-continue")
            assert b" 100 " in await client.until(b"\r\n\r\n"), "the head has come"
            await at.reload()
            await client.stream.send_all(body)
            assert (await client.reply()).json["result"] == "0 0 again"

    serve_while(act)


def test_a_run_whose_request_is_over_holds_its_generation() -> None:
    async def main() -> None:
        versions = Versions()
        with versions.load() as loaded:
            pass
        async with open_engine() as engine, trio.open_nursery() as nursery:
            settings = Settings()
            registry = registry_beside(engine, settings)
            app = create_app(engine, {}, registry=registry)
            generation = Generation(engine, app.asgi_app, settings, registry, app.closing)
            run = engine.start(loaded.pipelines["version"], {"wait": True})
            nursery.start_soon(generation.wait_over)
            generation.retire(math.inf)
            await wait_all_tasks_blocked()
            assert nursery.child_tasks
            versions.gate.set()
            await run.wait_ended()

    trio.run(main)


def test_a_run_in_what_was_replaced_has_an_end(serve_while: Serve) -> None:
    async def act(at: At) -> None:
        async with at.waiting() as old:
            await at.reload()
            seen = await end_of(old)
            assert seen.event == "run.cancelled"
            assert REPLACED in seen.data

    serve_while(act, retire_s=0.01)


def test_only_so_many_are_kept_beside_the_present(
    serve_while: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "KEPT_MAX", 1)

    async def act(at: At) -> None:
        async with at.waiting() as oldest, at.waiting():
            await at.reload()
            async with at.waiting() as newer:
                await at.reload()
                assert (await end_of(oldest)).event == "run.cancelled"
                at.versions.gate.set()
                assert (await end_of(newer)).event == "run.finished"

    serve_while(act)


def test_stopping_lets_all_generations_end(serve_while: Serve) -> None:
    async def act(at: At) -> None:
        async with at.waiting() as old:
            await at.reload()
            os.kill(os.getpid(), signal.SIGTERM)
            while b"stopping" not in await ready(at):
                pass
            told = at.log.messages[-1]
            assert told.startswith(f"stopping: runs in flight: 1, with {1 + PATIENCE_S:g} s to end")
            await refused(at.port)
            await wait_all_tasks_blocked()
            at.versions.gate.set()
            assert (await end_of(old)).event == "run.finished"

    async def ready(at: At) -> bytes:
        async with at.client() as client:
            reply = await client.ask("GET /readyz HTTP/1.1")
        assert reply.status in {200, 503}
        return reply.body

    serve_while(act, shutdown_delay_s=1, drain_s=PATIENCE_S)


def test_a_reload_that_is_done_while_the_server_stops_changes_nothing(serve_while: Serve) -> None:
    """It would cut the runs that are drained."""

    async def act(at: At) -> None:
        async with at.waiting() as old, trio.open_nursery() as nursery:
            answered = await begin_slow_reload(at, nursery)
            os.kill(os.getpid(), signal.SIGTERM)
            while not any(each.startswith("stopping") for each in at.log.messages):
                await trio.lowlevel.checkpoint()
            answered.set()
            while not at.log.messages[-1].startswith(("not reloaded", "reloaded")):
                await trio.lowlevel.checkpoint()
            assert at.log.messages[-1].endswith("the server has begun to stop in the meantime")
            at.versions.gate.set()
            assert (await end_of(old)).event == "run.finished"

    serve_while(act, drain_s=PATIENCE_S)


def test_the_log_says_how_many_runs_a_stop_has_cancelled(serve_while: Serve) -> None:
    async def act(at: At) -> None:
        async with at.waiting() as client:
            os.kill(os.getpid(), signal.SIGTERM)
            assert (await end_of(client)).event == "run.cancelled"
            assert "runs that had not ended, and are cancelled: 1" in at.log.messages

    serve_while(act, drain_s=0.01)


def test_what_only_a_restart_changes_is_said(serve_while: Serve) -> None:
    async def act(at: At) -> None:
        at.versions.settings = Settings(connections_max=7, drain_s=3)
        assert (await at.reload()).endswith("these stay as they were: connections_max")

    serve_while(act)


def test_a_websocket_obeys_what_it_is_opened_in(serve_while: Serve) -> None:
    """Also over a connection that is older."""
    path = "/v1/pipelines/version/ws"

    async def act(at: At) -> None:
        async with at.client() as kept, at.client() as last:
            await kept.ask("GET /healthz HTTP/1.1")
            at.versions.settings = Settings(body_limit_bytes=4000, heartbeat_s=0.01)
            assert await at.reload() == "reloaded; new requests use the new version"
            for stream in (kept.stream, last.stream):
                after = await upgrade(stream, path)
                while not after.pings:
                    await after._read()
                await after.say(type="start", id="a", inputs={"unknown": "x" * 3000})
                assert (await after.receive())["problem"]["status"] == 422
                await after.send("x" * 4001)
                with pytest.raises(ClosedError, match="a message is larger than 4000"):
                    await after.receive()

    serve_while(act, body_limit_bytes=900)


def test_what_is_to_be_written_down_is_and_has_no_more_than_its_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    done: list[str] = []

    async def quick() -> None:
        done.append("quick")

    async def broken() -> None:
        raise OSError("the disk is full")

    async def main() -> None:
        versions = Versions(settings=Settings(flush_s=0.02))
        house = House(flush=[quick, broken, trio.sleep_forever])
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                listen = partial(bind, "127.0.0.1", 0)
                await nursery.start(partial(serve_loaded, versions.load, listen, house))
                os.kill(os.getpid(), signal.SIGTERM)

    trio.run(main)
    assert done == ["quick"]
    assert caplog.messages == [
        "some records were not written: the disk is full",
        "not all records were written within 0.02 s",
    ]


def test_runs_of_what_was_replaced_are_known_to_what_replaced_it(serve_while: Serve) -> None:
    """While they go on, and when they have ended; in memory, with no state that is shared."""

    async def act(at: At) -> None:
        async with at.client() as old, at.client() as new:
            await old.send(f"GET /v1/pipelines/version/runs?wait=true HTTP/1.1\n{STREAM}")
            head = await old.until(b'"chunk":')
            run_id = head.partition(b'"run_id":"')[2][:32].decode()
            await at.reload()
            await new.send(f"GET /v1/runs/{run_id}/events HTTP/1.1\n{STREAM}")
            await new.until(b'"0 "')
            at.versions.gate.set()
            assert (await end_of(new)).event == "run.finished"
            await end_of(old)
        while not at.retired:
            await trio.lowlevel.checkpoint()
        async with at.client() as client:
            found = (await client.ask(f"GET /v1/runs/{run_id} HTTP/1.1")).json
            assert (found["status"], found["result"]) == ("finished", "0 0 again")

    serve_while(act)


@pytest.mark.parametrize("stops", [False, True])
def test_what_was_replaced_waits_for_its_state_unless_the_server_stops(
    stops: bool, serve_while: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes on anyway; so what was spent shortly before is not forgotten."""
    monkeypatch.setattr(engine, "FLUSH_S", 1e-6)  # who stops writes only what is taken at once

    async def act(at: At) -> None:
        at.versions.bindings = Late
        await at.reload()
        await at.reload()
        replaced = at.versions.loaded[1]
        assert isinstance(replaced, Late)
        while len(at.retired) < 1:
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        assert not replaced.closings
        if not stops:
            replaced.there.set()
            while len(at.retired) < 2:
                await trio.lowlevel.checkpoint()

    _, replaced, _ = serve_while(act).loaded
    assert isinstance(replaced, Late)
    assert replaced.written != stops


def test_a_run_that_ends_in_what_was_replaced_is_recorded_when_the_state_is_back(
    serve_while: Serve,
) -> None:
    state = Cable(MemoryState())

    async def act(at: At) -> None:
        async with at.client() as client:
            await client.send(f"GET /v1/pipelines/version/runs?wait=true HTTP/1.1\n{STREAM}")
            head = await client.until(b'"chunk":')
            run_id = head.partition(b'"run_id":"')[2][:32].decode()
            await at.reload()
            state.cut = True
            at.versions.gate.set()
            await end_of(client)
        while "runs cannot be recorded now" not in at.log.text:
            await trio.lowlevel.checkpoint()
        state.cut = False
        while not at.retired:
            await trio.lowlevel.checkpoint()
        async with at.client() as client:
            found = (await client.ask(f"GET /v1/runs/{run_id} HTTP/1.1")).json
        assert (found["status"], found["result"]) == ("finished", "0 0 again")

    serve_while(act, state=state, runs=attrs.evolve(REAL, flush_s=1e-6))
