"""A supervisor: some workers that share a listening socket, each a process of its own.

It serves nothing itself, but while no worker lives, `no_workers` tells clients so. The first worker
is started alone, so that an error in the pipelines is told once, and ends the command. Workers that
have died are replaced as `restarts` decides, also those of the others that were never ready.

Rules of the file: nothing else starts children in this process, so it may reap any child. As the
first process of a container it inherits those of others, and reaps them, too. A worker is in a
process group of its own: Ctrl-C in a terminal reaches the supervisor, which passes it on.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import attrs
import trio

from orchestra.server.processes.no_workers import answer_unavailable
from orchestra.server.processes.restarts import (
    FAILED,
    Ended,
    GiveUp,
    Replace,
    RestartRule,
    after_death,
    code_of_first,
    exit_code,
    spelled,
)
from orchestra.server.processes.signals import HANGUP, Acts, Shutdown, receiving
from orchestra.server.processes.worker_place import READY

log = logging.getLogger("orchestra.server")

START_S = 120.0
"""How long a worker may take to be ready; one that hangs in an import would never be."""
ALONE_S = 2.0
"""How long clients wait for a worker where none is ready, before they are told that nobody is."""
MARGIN_S = 5.0
"""Seconds of a busy machine in addition to the limit of stopping a worker."""


@attrs.define(eq=False)
class Worker:
    """A child: alive until `code` is set."""

    number: int
    process: subprocess.Popen[bytes]
    line: trio.socket.SocketType
    ready_at: float | None = None
    outdated: bool = False
    code: int | None = None
    exited: trio.Event = attrs.field(factory=trio.Event)

    def send(self, number: int) -> None:
        """Send it a signal, if it is alive."""
        if self.code is None:
            os.kill(self.process.pid, number)  # `send_signal` might reap it

    def kill(self) -> None:
        """Kill it, and what it has started in its process group."""
        if self.code is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    async def wait_ready(self) -> bool:
        """Whether it has become ready; otherwise it has closed the line, or takes too long."""
        with trio.move_on_after(START_S) as time, suppress(OSError):
            if await self.line.recv(1) == READY:
                self.ready_at = trio.current_time()
        if time.cancelled_caught:
            log.error("worker %d was not ready within %g s", self.number, START_S)
        return self.ready_at is not None

    def lived_s(self) -> float:
        """How long it has been ready."""
        return 0 if self.ready_at is None else trio.current_time() - self.ready_at


@attrs.define(eq=False, kw_only=True)
class Supervisor:
    """`count` workers that share the listening socket.

    To `command` are added a worker's number, the descriptors of the socket and of its line, and
    whether it replaces another, as 1 or 0 (`WorkerPlace.take`). `on_ready` is called when the first
    is ready, and each of the others is ready or has ended once; `on_stop` when all are to end;
    `on_end`, with its exit code or signal, when one has ended and is replaced. They may take
    `stop_s` to stop.
    """

    command: Sequence[str]
    listener: socket.socket
    count: int
    stop_s: float
    on_ready: Callable[[], object]
    on_stop: Callable[[], object] = lambda: None
    on_end: Callable[[str], object] = lambda _: None
    rule: RestartRule = RestartRule()
    jitter: Callable[[], float] = random.random
    _shutdown: Shutdown = attrs.field(init=False, factory=Shutdown)
    _alive: dict[int, Worker] = attrs.field(init=False, factory=dict)
    _ends: list[Ended] = attrs.field(init=False, factory=list)
    _code: int = attrs.field(init=False, default=0)
    _died: trio.Event = attrs.field(init=False, factory=trio.Event)
    _none_expected: bool = attrs.field(init=False, default=False)
    """Whether the last one that ended before it was ready has said that something is wrong."""
    _settled: trio.Event = attrs.field(init=False, factory=trio.Event)
    """Set, and then replaced, when a worker is ready, has ended, or was given up."""

    async def run(self) -> int:
        """Keep the workers until it is asked to stop, or gives up; the exit code.

        SIGTERM and SIGINT stop them; SIGHUP is passed on. To be called in the main thread.

        The code is 0 where all left in order after they were asked to; that of the first worker
        that ends without ever having been ready, at the start; else 1.
        """
        acts: Acts = {HANGUP: self._reload, signal.SIGCHLD: self._reap}
        with self.listener, receiving(*acts, ignore_after=True) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._shutdown.hear, signals, acts)
                nursery.start_soon(self._start, nursery)
                await self._shutdown.stop.wait()
                self.on_stop()
                await self._stop()
                nursery.cancel_scope.cancel()
        return self._code or exit_code(self._ends)

    async def _start(self, nursery: trio.Nursery) -> None:
        """The first worker; when it is ready, the others; when they are settled, `on_ready`."""
        places = [trio.Event() for _ in range(self.count)]
        for number, settled in enumerate(places, 1):
            nursery.start_soon(self._keep, number, settled)
            if number == 1:
                await settled.wait()
                nursery.start_soon(self._answer_unavailable)
        for settled in places:
            await settled.wait()
        self.on_ready()

    async def _keep(self, number: int, settled: trio.Event) -> None:
        """One place, filled until it is given up.

        `settled` is set when its first worker is ready, or has ended without.
        """
        deaths = 0
        while not self._shutdown.stop.is_set():
            lived_s, code = await self._fill(number, settled)
            if self._shutdown.stop.is_set():
                break
            if number == 1 and not settled.is_set():
                log.error("worker %d ended with %s before it was ready", number, spelled(code))
                self._fail(code_of_first(code))
                break
            settled.set()
            decided = self._decide(deaths, lived_s)
            if isinstance(decided, GiveUp):
                log.error("worker %d: %d deaths in a row, nobody serves", number, decided.deaths)
                self._fail(FAILED)
                break
            deaths, delay_s = decided.deaths, decided.delay_s
            ended = spelled(code)
            self.on_end(ended)
            log.warning(
                "worker %d ended with %s; the next begins in %.1f s", number, ended, delay_s
            )
            await trio.sleep(delay_s)

    def _decide(self, deaths: int, lived_s: float) -> Replace | GiveUp:
        serve = self._serve()
        return after_death(self.rule, deaths, lived_s, self.jitter(), others_serve=serve)

    def _serve(self) -> bool:
        """Whether one is ready."""
        return any(each.ready_at is not None for each in self._alive.values())

    def _tell(self, *, none_expected: bool) -> None:
        self._none_expected = none_expected
        self._settled.set()
        self._settled = trio.Event()

    async def _answer_unavailable(self) -> None:
        """Answer clients for as long as nobody does, and nobody is to be expected soon."""
        while True:  # noqa: ASYNC913 - each way round waits for a worker to come, or to go
            while self._serve():
                await self._died.wait()
            with trio.move_on_after(ALONE_S):
                while not (self._serve() or self._none_expected or self._shutdown.stop.is_set()):
                    await self._settled.wait()
            if self._shutdown.stop.is_set():
                return
            if not self._serve():
                await self._answer_unavailable_until_ready()

    async def _answer_unavailable_until_ready(self) -> None:
        log.warning("no worker serves: clients are told so, with 503")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_unavailable, self.listener)
            while not (self._serve() or self._shutdown.stop.is_set()):
                await self._settled.wait()
            nursery.cancel_scope.cancel()

    async def _fill(self, number: int, settled: trio.Event) -> tuple[float, int]:
        """One worker from its start to its end: how long it was ready, and its exit code."""
        try:
            worker = self._spawn(number, replaces=settled.is_set())
        except OSError as error:
            log.error("worker %d could not be started: %s", number, error)  # noqa: TRY400
            return 0, FAILED
        with worker.line:
            if await worker.wait_ready():
                log.info("worker %d is ready, process %d", number, worker.process.pid)
                settled.set()
                self._tell(none_expected=False)
                if worker.outdated:
                    worker.send(HANGUP)
            else:
                with trio.move_on_after(MARGIN_S):
                    await worker.exited.wait()
                worker.kill()
            await worker.exited.wait()
            if worker.ready_at is None:
                self._tell(none_expected=(worker.code or 0) > 0)
        return worker.lived_s(), worker.code or 0

    def _spawn(self, number: int, *, replaces: bool) -> Worker:
        ours, its = socket.socketpair()
        with its:
            passed = self.listener.fileno(), its.fileno()
            process = subprocess.Popen(  # noqa: S603 - it is our own command
                [*self.command, str(number), *map(str, passed), str(int(replaces))],
                pass_fds=passed,
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        worker = Worker(number, process, trio.socket.from_stdlib_socket(ours))
        self._alive[process.pid] = worker
        return worker

    async def _reload(self) -> None:
        """Pass it on; who is only starting is told when it is ready, and not killed by it."""
        for each in self._alive.values():
            if each.ready_at is None:
                each.outdated = True
            else:
                each.send(HANGUP)

    async def _reap(self) -> None:
        for pid, code in reaped():
            worker = self._alive.pop(pid, None)
            if worker is None:
                continue  # a child of one that has died, given to us
            worker.process.returncode = worker.code = code
            worker.exited.set()
            self._died.set()
            self._died = trio.Event()
            if self._shutdown.stop.is_set():
                self._ends.append(Ended(worker.number, code, worker.ready_at is not None))

    def _fail(self, code: int) -> None:
        """Stop all, and end with this code."""
        self._code = code
        self._shutdown.stop.set()

    async def _stop(self) -> None:
        """Let no more clients in, and the workers out: first asked, then told, then killed."""
        self._tell(none_expected=False)
        self.listener.close()
        for each in self._alive.values():
            each.send(signal.SIGTERM)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hurry)
            with trio.move_on_after(self.stop_s + MARGIN_S):
                await self._wait_none()
            for each in self._alive.values():
                log.error("worker %d does not end, and is killed", each.number)
                each.kill()
            with trio.move_on_after(MARGIN_S):
                await self._wait_none()
            nursery.cancel_scope.cancel()

    async def _hurry(self) -> None:
        await self._shutdown.hurry.wait()
        for each in self._alive.values():
            each.send(signal.SIGINT)

    async def _wait_none(self) -> None:
        while self._alive:
            await self._died.wait()


def reaped() -> Iterator[tuple[int, int]]:
    """Children that have ended, each with its exit code; there is then no trace of them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, os.waitstatus_to_exitcode(status)
