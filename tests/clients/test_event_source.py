"""Streams in Node and in Chromium: a server that is restarted under an EventSource loses nothing,
nor does a line that breaks under a POST; and what a page reads of a socket that is not opened.

Two servers share a state: one runs, the other is asked; the latter is killed and started again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import attrs

from orchestra.codecs.withheld import WITHHELD
from orchestra.errors import OverloadedError
from tests.clients.programs import PATIENCE_S, ROOT
from tests.clients.scripts import CALM, HERE, ONCE, browser, node
from tests.patience import line_with
from tests.ports import reserved_port

pytestmark = ONCE
ASKED_MOST = 10_000
"""How often a server is asked for what it writes down in a moment."""
Events = list[list[Any]]
Heard = Queue[list[Any]]


@attrs.define
class Server:
    """A server in a process of its own."""

    process: subprocess.Popen[bytes]
    url: str

    def tell(self, line: str) -> None:
        """What the run in it says next; nothing, to end it."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())

    def kill(self) -> None:
        """End it without a word."""
        self.process.kill()
        self.process.communicate()


def serving(open_: ExitStack, state: Path, port: int = 0) -> Server:
    command = [sys.executable, "-m", "tests.clients.streaming", str(state), str(port)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, bufsize=0)
    open_.callback(process.communicate)
    open_.callback(process.kill)
    assert process.stdout is not None
    return Server(process, line_with(process.stdout, "http").strip())


# --- clients -----------------------------------------------------------------------------------


@contextmanager
def with_node(url: str, script: str = "follows.mjs") -> Iterator[Heard]:
    heard: Heard = Queue()
    command = [node(), str(HERE / script), url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def read() -> None:
        with process, process.stdout or nullcontext(()) as lines:
            for line in lines:
                heard.put(json.loads(line))

    reading = threading.Thread(target=read)
    reading.start()
    try:
        yield heard
    finally:
        with suppress(ProcessLookupError):  # `node` itself is a child of what was started
            os.killpg(process.pid, signal.SIGKILL)
        reading.join()


@contextmanager
def with_chromium(url: str, shown: str = "follows.html") -> Iterator[Heard]:
    heard: Heard = Queue()
    page = (HERE / shown).read_bytes()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(page if self.path == "/" else b"")

        def do_POST(self) -> None:
            heard.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server, ExitStack() as open_:
        serving_page = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving_page.start()
        open_.callback(serving_page.join)
        open_.callback(server.shutdown)
        with _browsing(f"http://127.0.0.1:{server.server_port}/#{url}"):
            yield heard


@contextmanager
def _browsing(address: str) -> Iterator[None]:
    """It ends with all the processes that it is."""
    from tempfile import TemporaryDirectory

    quiet = subprocess.DEVNULL
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [browser(), *CALM, f"--user-data-dir={profile}", address]
        process = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


CLIENTS = (with_node, with_chromium)


def until(heard: Heard, wanted: Callable[[list[Any]], bool]) -> Events:
    """What is heard up to and with what is wanted."""
    found = [heard.get(timeout=PATIENCE_S)]
    while not wanted(found[-1]):
        found.append(heard.get(timeout=PATIENCE_S))
    return found


def said(chunk: str) -> Callable[[list[Any]], bool]:
    return lambda event: event[0] == "delta" and event[2] == chunk


def closed(event: list[Any]) -> bool:
    return bool(event[0] == "closed")


# --- claims ------------------------------------------------------------------------------------


def started(server: Server) -> str:
    """The id of a run in it that nobody waits for."""
    asked = urllib.request.Request(
        f"{server.url}/v1/pipelines/told/runs",
        data=b"{}",
        headers={"Content-Type": "application/json", "Prefer": "respond-async"},
    )
    with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
        return str(json.load(answer)["id"])


def test_a_server_that_is_killed_and_started_again_costs_its_readers_nothing(
    tmp_path: Path,
) -> None:
    with ExitStack() as open_:
        running = serving(open_, tmp_path / "state.sqlite")
        port = open_.enter_context(reserved_port())
        asked = serving(open_, tmp_path / "state.sqlite", port)
        url = f"{asked.url}/v1/runs/{started(running)}/events"
        readers = [open_.enter_context(client(url)) for client in CLIENTS]
        running.tell("one")
        found = [until(heard, said("one")) for heard in readers]
        asked.kill()
        running.tell("two")
        serving(open_, tmp_path / "state.sqlite", port)
        found = add(found, [until(heard, said("two")) for heard in readers])
        running.tell("three")
        running.tell("")
        found = add(found, [until(heard, closed) for heard in readers])
    for events in found:
        assert [event[0] for event in events].count("open") == 2
        told = [event for event in events if event[0] not in ("open", "closed")]
        assert [each[2] for each in told] == [None, "one", "two", "three", None]
        ids = [int(each[1]) for each in told]
        assert ids == sorted(set(ids)), "nothing twice, and in order"
        assert told[-1][0] == "run.finished"


def test_a_run_that_died_with_its_server_is_told_so_and_nothing_is_run_again(
    tmp_path: Path,
) -> None:
    """At the address that starts runs, which a browser asks again whatever becomes of it."""
    with ExitStack() as open_:
        port = open_.enter_context(reserved_port())
        server = serving(open_, tmp_path / "state.sqlite", port)
        url = f"{server.url}/v1/pipelines/unending/runs"
        readers = [open_.enter_context(client(url)) for client in CLIENTS]
        found = [until(heard, said("one")) for heard in readers]
        wait_written_down(server, len(readers))
        server.kill()
        serving(open_, tmp_path / "state.sqlite", port)
        found = add(found, [until(heard, closed) for heard in readers])
    for events in found:
        told = [event for event in events if event[0] not in ("open", "closed")]
        assert [each[0] for each in told] == ["run.started", "delta", "run.failed"]
        assert len({each[1].partition(".")[0] for each in told}) == 1, "all of one run"


def test_a_stream_that_is_posted_for_goes_on_where_its_line_broke(tmp_path: Path) -> None:
    """With @microsoft/fetch-event-source, without and with a key; and with the code in the docs."""
    steps = ["run.started", "step.started", *["delta"] * 3, "step.finished", "run.finished"]
    with ExitStack() as open_:
        server = serving(open_, tmp_path / "state.sqlite")
        url = f"{server.url}/v1/pipelines/awaiting/runs"
        heard = open_.enter_context(with_node(url, "posts.mjs"))
        for told in (steps, steps, ["one", "onetwo", "onetwothree"]):
            server.tell("one")
            assert heard.get(timeout=PATIENCE_S) == ["cut"]
            for line in ("two", "three", ""):
                server.tell(line)
            assert heard.get(timeout=PATIENCE_S) == ["read", "onetwothree", told]
        for line in ("one", ""):
            server.tell(line)
        assert heard.get(timeout=PATIENCE_S) == ["answered", "one", True]
        wait_written_down(server, 4, "finished")  # the next one may have begun
        server.tell("one")
        assert heard.get(timeout=PATIENCE_S) == ["stopped", "AbortError"]
        wait_written_down(server, 1, "cancelled")  # and it would linger for a minute
        assert heard.get(timeout=PATIENCE_S) == ["stopped", "AbortError"]
        wait_written_down(server, 2, "cancelled")  # before its client had heard of it
        assert heard.get(timeout=PATIENCE_S) == ["told", "sources", ["doors.md"]]
        overloaded = "urn:problem-type:orchestra:provider-overloaded"
        assert heard.get(timeout=PATIENCE_S) == ["failed", overloaded, WITHHELD[OverloadedError], 7]


def test_a_browser_tells_its_page_why_a_socket_was_not_opened(tmp_path: Path) -> None:
    with ExitStack() as open_:
        server = serving(open_, tmp_path / "state.sqlite")
        url = f"{server.url.replace('http', 'ws')}/v1/pipelines/nobody/ws"
        heard = open_.enter_context(with_chromium(url, "sockets.html"))
        told = ["urn:problem-type:orchestra:unknown-pipeline", 4404]
        assert heard.get(timeout=PATIENCE_S) == told


def wait_written_down(server: Server, runs: int, status: str = "") -> None:
    """Wait until its runs stand in the state, which is a moment after their start or their end."""
    url = f"{server.url}/v1/runs" + (f"?status={status}" if status else "")
    for _ in range(ASKED_MOST):
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            if len(json.load(answer)["runs"]) == runs:
                return
    raise AssertionError("the runs were never written down")


def add(found: list[Events], more: list[Events]) -> list[Events]:
    return [[*one, *other] for one, other in zip(found, more, strict=True)]
