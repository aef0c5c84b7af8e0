"""A supervisor of workers: processes that share a listening socket.

It serves nothing itself, except that `no_workers` answers clients while no worker is ready. The
first worker is started alone, so that an error in the pipelines is reported once, and ends the
command. Later, workers that have died are replaced as `restarts` decides, even if they were never
ready. A worker that is stuck, as `heartbeats` decides, is killed, and replaced in the same way.

Rules of the file: nothing else starts child processes in this process, so it may reap any child. As
the first process of a container, it also inherits children of other processes, and reaps them. Each
worker is in its own process group: Ctrl-C in a terminal reaches only the supervisor, which passes
it on.
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
from trio.lowlevel import ParkingLot

from orchestra.server.processes.heartbeats import LOOK_S, START_S, Pulse
from orchestra.server.processes.no_workers import answer_unavailable
from orchestra.server.processes.restarts import (
    FAILED,
    Ended,
    GiveUp,
    RestartRule,
    after_death,
    code_of_first,
    exit_code,
    spelled,
)
from orchestra.server.processes.signals import HANGUP, Acts, Shutdown, receiving
from orchestra.server.processes.worker_place import READY

STUCK = (
    "worker %d is stuck and is killed: its event loop has stood still for %.1f s, in a deadlock or "
    "in code that blocks, or the process is suspended; the stacks of its threads follow, if it can "
    "still write them (worker_timeout_s in [server] sets the time)"
)

log = logging.getLogger("orchestra.server")

ALONE_S = 2.0
"""How long clients wait while no worker is ready, before they get 503."""
STACKS_S = 2.0
"""How long a worker that is stuck may write its stacks before it is killed."""
READ_BYTES = 4096
"""More heartbeats than arrive between two looks; others are read next."""
MARGIN_S = 5.0
"""How much longer than planned a worker may take to end, since the machine may be busy."""


@attrs.define(eq=False)
class Worker:
    """A worker process, which is alive until `code` is set."""

    number: int
    process: subprocess.Popen[bytes]
    line: trio.socket.SocketType
    ready_at: float | None = None
    outdated: bool = False
    code: int | None = None
    exited: trio.Event = attrs.field(factory=trio.Event)

    def send(self, number: int) -> None:
        """Send the worker a signal, if it is alive."""
        if self.code is None:
            os.kill(self.process.pid, number)  # `send_signal` might reap it

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Kill the worker, and all other processes in its process group."""
        if self.code is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    async def abort(self) -> None:
        """Kill them, but let the worker write the stacks of its threads before.

        The log is flushed first: the reason, which a thread writes, has to stand above the stacks,
        and not in one of their lines.
        """
        for each in logging.getLogger().handlers:
            with suppress(OSError, ValueError):  # as `logging.shutdown` does
                each.flush()
        self.kill(signal.SIGABRT)
        with trio.move_on_after(STACKS_S):
            await self.exited.wait()
        self.kill()

    async def wait_ready(self, start_s: float) -> bool:
        """Wait until the worker is ready; False if it ends first, or is not ready in `start_s`."""
        with trio.move_on_after(start_s) as time, suppress(OSError):
            if await self.line.recv(1) == READY:
                self.ready_at = trio.current_time()
        if time.cancelled_caught:
            log.error("worker %d was not ready within %g s, and is killed", self.number, start_s)
        return self.ready_at is not None

    def lived_s(self) -> float:
        """Seconds since the worker became ready; 0 if it never did."""
        return 0 if self.ready_at is None else trio.current_time() - self.ready_at


@attrs.define(eq=False, kw_only=True)
class Supervisor:
    """Starts, replaces and stops `count` workers that share the listening socket.

    `command` starts a worker, after these arguments were added: its number, the descriptors of the
    socket and of its line, and whether it replaces another worker, as 1 or 0 (`WorkerPlace.take`).
    `on_ready` is called when the first worker is ready, and each other one is ready or has ended
    once. `on_stop` is called when all workers are to stop, for which they have `stop_s`. `on_end`
    is called with its exit code or signal when a worker has ended and will be replaced. A worker
    that is not ready in `start_s` is killed, and so is one that sends no heartbeat for `timeout_s`
    later, unless that is 0.
    """

    command: Sequence[str]
    listener: socket.socket
    count: int
    stop_s: float
    timeout_s: float
    on_ready: Callable[[], object]
    on_stop: Callable[[], object] = lambda: None
    on_end: Callable[[str], object] = lambda _: None
    start_s: float = START_S
    rule: RestartRule = RestartRule()
    jitter: Callable[[], float] = random.random
    _shutdown: Shutdown = attrs.field(init=False, factory=Shutdown)
    _alive: dict[int, Worker] = attrs.field(init=False, factory=dict)
    _ends: list[Ended] = attrs.field(init=False, factory=list)
    _code: int = attrs.field(init=False, default=0)
    _died: ParkingLot = attrs.field(init=False, factory=ParkingLot)
    """Where those wait who wait for the end of a worker."""
    _none_expected: bool = attrs.field(init=False, default=False)
    """Whether the last worker that ended before it was ready had a positive exit code, so that the
    next is not expected to be ready soon."""
    _settled: ParkingLot = attrs.field(init=False, factory=ParkingLot)
    """The same for a worker that becomes ready or ends before that, and for the stop."""

    async def run(self) -> int:
        """Keep the workers running until a signal asks to stop, or it gives up; the exit code.

        SIGTERM and SIGINT stop the workers; SIGHUP is passed on to them. Call this in the main
        thread.

        The exit code is 0 if all workers ended in order after they were asked to stop. If the first
        worker ends before it is ready, see `code_of_first`. Otherwise it is 1.
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
        """Start the first worker; once it is ready, start the others; then call `on_ready`."""
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
        """Keep a worker running in one place, until the server stops.

        `settled` is set when the place's first worker is ready, or has ended before it was.
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
            decided = after_death(
                self.rule, deaths, lived_s, self.jitter(), others_serve=self._serve()
            )
            if isinstance(decided, GiveUp):
                deaths = decided.deaths
                log.error("worker %d: %d deaths in a row; no worker serves", number, deaths)
                self._fail(FAILED)
                break
            deaths, delay_s = decided.deaths, decided.delay_s
            ended = spelled(code)
            self.on_end(ended)
            log.warning(
                "worker %d ended with %s; the next begins in %.1f s", number, ended, delay_s
            )
            await trio.sleep(delay_s)

    def _serve(self) -> bool:
        """Whether a worker is ready."""
        return any(each.ready_at is not None for each in self._alive.values())

    def _tell(self, *, none_expected: bool) -> None:
        self._none_expected = none_expected
        self._settled.unpark_all()

    async def _answer_unavailable(self) -> None:
        """Answer clients with 503 while no worker is ready, and none is expected to be soon."""
        while True:  # noqa: ASYNC913 - each iteration waits for a worker to be ready, or to end
            while self._serve():
                await self._died.park()
            with trio.move_on_after(ALONE_S):
                while not (self._serve() or self._none_expected or self._shutdown.stop.is_set()):
                    await self._settled.park()
            if self._shutdown.stop.is_set():
                return
            if not self._serve():
                await self._answer_unavailable_until_ready()

    async def _answer_unavailable_until_ready(self) -> None:
        log.warning("no worker serves: until one is ready, clients get 503")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_unavailable, self.listener)
            while not (self._serve() or self._shutdown.stop.is_set()):
                await self._settled.park()
            nursery.cancel_scope.cancel()

    async def _fill(self, number: int, settled: trio.Event) -> tuple[float, int]:
        """Run one worker from its start to its end: how long it was ready, and its exit code."""
        try:
            worker = self._spawn(number, replaces=settled.is_set())
        except OSError as error:
            log.error("worker %d could not be started: %s", number, error)  # noqa: TRY400
            return 0, FAILED
        with worker.line:
            if await worker.wait_ready(self.start_s):
                log.info("worker %d is ready, process %d", number, worker.process.pid)
                settled.set()
                self._tell(none_expected=False)
                if worker.outdated:
                    worker.send(HANGUP)
            else:
                with trio.move_on_after(MARGIN_S):
                    await worker.exited.wait()
                await worker.abort()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._kill_if_stuck, worker)
                await worker.exited.wait()
                nursery.cancel_scope.cancel()
            if worker.ready_at is None:
                self._tell(none_expected=(worker.code or 0) > 0)
        return worker.lived_s(), worker.code or 0

    async def _kill_if_stuck(self, worker: Worker) -> None:
        """Kill the worker once it is stuck, unless the server stops: then it has a time anyway."""
        if not self.timeout_s:
            return
        pulse = Pulse(trio.current_time())
        while not pulse.stuck(self.timeout_s):
            heartbeats = b""
            with trio.move_on_after(LOOK_S) as silent, suppress(OSError):
                heartbeats = await worker.line.recv(READ_BYTES)
            if not (heartbeats or silent.cancelled_caught) or self._shutdown.stop.is_set():
                return  # the worker has ended or closed its line, or the server stops
            pulse = pulse.looked(trio.current_time(), heartbeats)
        log.error(STUCK, worker.number, pulse.silent_s)
        await worker.abort()

    def _spawn(self, number: int, *, replaces: bool) -> Worker:
        ours, workers = socket.socketpair()
        with workers:
            passed = self.listener.fileno(), workers.fileno()
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
        """Pass SIGHUP on; workers that are starting, which it may kill, get it when ready."""
        for each in self._alive.values():
            if each.ready_at is None:
                each.outdated = True
            else:
                each.send(HANGUP)

    async def _reap(self) -> None:
        for pid, code in reaped():
            worker = self._alive.pop(pid, None)
            if worker is None:
                continue  # inherited from a process that has died
            worker.process.returncode = worker.code = code
            worker.exited.set()
            self._died.unpark_all()
            if self._shutdown.stop.is_set():
                ended = Ended(worker.number, code, worker.ready_at is not None)
                self._ends.append(ended)
                if not ended.in_order:
                    log.error("worker %d ended with %s at the stop", worker.number, spelled(code))

    def _fail(self, code: int) -> None:
        """Stop all workers, and end with this exit code."""
        self._code = code
        self._shutdown.stop.set()

    async def _stop(self) -> None:
        """Close the listening socket, ask the workers to stop, and kill those that do not in time.

        A second signal in the meantime asks them to hurry.
        """
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
            await self._died.park()


def reaped() -> Iterator[tuple[int, int]]:
    """Reap the child processes that have ended: the id and the exit code of each."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, os.waitstatus_to_exitcode(status)
