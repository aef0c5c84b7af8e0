"""A supervisor and its workers as processes: started, killed, replaced, stopped, abandoned."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import attrs
import msgspec
import pytest

from tests.patience import PATIENCE_S, eventually, line_with

ROOT = Path(__file__).parents[3]
OBEDIENT = """
on("SIGTERM", lambda: (tell("left", number), os._exit(0)))
on("SIGHUP", lambda: tell("reload", number))
tell("pid", number, os.getpid())
ready()
while line.recv(1): pass
tell("alone", number)
"""


@attrs.frozen
class Supervised:
    """A supervisor in a process of its own, and what it and its workers say."""

    process: subprocess.Popen[bytes]

    def line(self) -> list[str]:
        """The next line of theirs, as words."""
        assert self.process.stdout is not None
        return line_with(self.process.stdout, "").split()

    def workers(self, count: int) -> dict[str, int]:
        """The process of each worker, by its number, once all are ready."""
        said = [self.line() for _ in range(count + 1)]
        assert ["ready"] in said
        return {words[1]: int(words[2]) for words in said if words[0] == "pid"}

    def lines(self, count: int) -> list[list[str]]:
        """So many lines of theirs, sorted: workers do not wait for each other."""
        return sorted(self.line() for _ in range(count))

    def ends(self) -> tuple[int, str, str]:
        """Its exit code, and what was said until then."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out.decode(), err.decode()


@contextmanager
def supervised(script: str, **options: object) -> Iterator[Supervised]:
    """A supervisor of workers that run this; killed when left."""
    arguments = [msgspec.json.encode(options).decode(), script]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-m", "tests.server.supervised", *arguments],
        cwd=ROOT,
        stdout=pipe,
        stderr=pipe,
        bufsize=0,
    ) as process:
        try:
            yield Supervised(process)
        finally:
            process.kill()


def ended(pid: int) -> bool:
    """Wait until a process that is not ours has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with open(descriptor, closefd=True):  # noqa: PTH123 - only to close it
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        return bool(waiting.poll(PATIENCE_S * 1000))


def test_one_that_is_killed_is_back_and_the_others_go_on(tmp_path: Path) -> None:
    """And a signal that comes meanwhile reaches the new one, too, once it can take it."""
    second = f"""
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
born = {str(tmp_path)!r} + f"/{{number}}"
def ready(plain=ready):
    if os.path.exists(born): signal.sigwait([signal.SIGUSR1])
    open(born, "w").close()
    plain()
"""
    with supervised(second + OBEDIENT) as at:
        before = at.workers(2)
        os.kill(before["1"], signal.SIGKILL)
        word, number, pid = at.line()
        assert (word, number) == ("pid", "1")
        assert int(pid) not in before.values()
        at.process.send_signal(signal.SIGHUP)
        assert at.line() == ["reload", "2"], "it was not touched"
        os.kill(int(pid), signal.SIGUSR1)
        assert at.line() == ["reload", "1"]
        at.process.send_signal(signal.SIGTERM)
        assert at.lines(2) == [["left", "1"], ["left", "2"]]
        code, _, err = at.ends()
    assert code == 0
    assert "worker 1 ended with SIGKILL; the next begins in 0.1 s" in err


BEATING = """
import threading
def beat():
    while True:
        line.send(b".")
        time.sleep(0.1)
def ready(plain=ready):
    plain()
    threading.Thread(target=beat, daemon=True).start()
"""


@pytest.mark.parametrize("signal_of_its_end", ["SIGABRT", "SIGKILL"])
def test_one_that_is_stuck_is_killed_and_replaced(tmp_path: Path, signal_of_its_end: str) -> None:
    """In code in C that keeps the interpreter; a process that is suspended cannot even abort."""
    stuck = "ctypes.PyDLL(None).pause()"
    if signal_of_its_end == "SIGKILL":
        stuck = "os.kill(os.getpid(), signal.SIGSTOP)"
    script = f"""
import ctypes
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # if the test fails, it ends with its supervisor
born = {str(tmp_path)!r} + f"/{{number}}"
first = not os.path.exists(born)
open(born, "w").close()
on("SIGTERM", lambda: (tell("left", number), os._exit(0)))
tell("pid", number, os.getpid())
ready()
if first and number == 1: {stuck}
while line.recv(1): pass
"""
    with supervised(BEATING + script, timeout_s=3) as at:
        before = at.workers(2)
        word, number, pid = at.line()
        assert (word, number) == ("pid", "1")
        assert int(pid) not in before.values()
        at.process.send_signal(signal.SIGTERM)
        at.lines(2)
        code, _, err = at.ends()
    assert code == 0
    assert re.search(r"worker 1 is stuck and is killed: .* has stood still for [34]\.\d s, ", err)
    assert f"worker 1 ended with {signal_of_its_end}; the next begins in 0.1 s" in err
    assert "worker 2 " not in err.replace("worker 2 is ready", "")


@pytest.mark.parametrize("timeout_s", [0, 3])
def test_one_that_is_not_judged_may_be_silent(timeout_s: float) -> None:
    """Without a timeout, and while it stops, for which it has a time."""
    script = f"""
on("SIGTERM", lambda: (time.sleep({timeout_s + 0.5}), os._exit(0)))
ready()
time.sleep({0 if timeout_s else 3.5})
tell("lives")
while True: signal.pause()
"""
    with supervised(script, count=1, timeout_s=timeout_s) as at:
        assert at.lines(2) == [["lives"], ["ready"]]
        at.process.send_signal(signal.SIGTERM)
        code, _, err = at.ends()
    assert code == 0
    assert "is stuck" not in err


def test_one_that_does_not_become_ready_says_where_it_hangs() -> None:
    """It was killed by SIGKILL, and nobody knew which import it was. Its own processes end, too.

    The log writes in a thread: its line stood in the middle of the stacks, or below them.
    """
    script = """
import faulthandler, subprocess
faulthandler.enable(2)
tell(subprocess.Popen(["sleep", "1000"], stdout=2).pid)
def import_for_ever(): signal.pause()
import_for_ever()
"""
    with supervised(script, count=1, start_s=0.5, logs_late=True) as at:
        (pid,) = at.line()
        code, _, err = at.ends()
        assert ended(int(pid))
    assert code == 1
    told, _, below = err.partition("Fatal Python error: Aborted")
    assert "worker 1 was not ready within 0.5 s" in told
    assert "in import_for_ever" in below
    assert "worker 1 ended with SIGABRT before it was ready" in err


def test_workers_hear_that_their_supervisor_was_killed() -> None:
    with supervised(OBEDIENT) as at:
        pids = at.workers(2).values()
        at.process.kill()
        assert at.lines(2) == [["alone", "1"], ["alone", "2"]]
        assert all(ended(pid) for pid in pids)


def test_what_is_wrong_at_the_first_start_is_told_once_and_ends_it() -> None:
    with supervised('tell("my problem"); sys.exit(2)', count=5) as at:
        code, out, err = at.ends()
    assert (code, out) == (2, "my problem\n")
    assert "worker 1 ended with exit code 2 before it was ready" in err


def test_one_of_the_others_that_dies_before_it_was_ready_is_replaced(tmp_path: Path) -> None:
    """What has made the first ready is not wrong for all, and nobody waits for that place."""
    second = f"""
gate = {str(tmp_path / "gate")!r}
if number == 2 and not os.path.exists(gate): sys.exit(7)
"""
    with supervised(second + OBEDIENT, count=3, rule={"delay_max_s": 0.1}) as at:
        said = at.lines(3)
        assert [words[:2] for words in said] == [["pid", "1"], ["pid", "3"], ["ready"]]
        (tmp_path / "gate").touch()
        assert at.line()[:2] == ["pid", "2"]
        at.process.send_signal(signal.SIGTERM)
        assert at.lines(3) == [["left", str(number)] for number in (1, 2, 3)]
        code, _, err = at.ends()
    assert code == 0
    assert "worker 2 ended with exit code 7; the next begins in 0.1 s" in err


def test_who_dies_at_every_start_is_given_up() -> None:
    script = """
ready()
tell("born")
os._exit(3)
"""
    rule = {"deaths_max": 3, "delay_s": 0.001}
    with supervised(script, count=1, rule=rule) as at:
        code, out, err = at.ends()
    assert code == 1
    assert out.count("born") == 4
    assert "4 deaths in a row" in err


GREETING = """
import select, threading
def serve():
    while True:
        select.select([listener], [], [])
        try: client, _ = listener.accept()
        except BlockingIOError: continue
        client.recv(1000)
        client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
        client.close()
listener.setblocking(False)  # as workers do: it is one for all who share the socket
threading.Thread(target=serve, daemon=True).start()
"""


def answer(port: str) -> int:
    """The status that is answered to a request."""
    connection = HTTPConnection("127.0.0.1", int(port), timeout=PATIENCE_S)
    with closing(connection):
        connection.request("GET", "/")
        return connection.getresponse().status


@pytest.mark.parametrize("fault", ["sys.exit(3)", "line.recv(1)"], ids=["dies", "hangs"])
def test_clients_are_told_while_no_worker_lives(tmp_path: Path, fault: str) -> None:
    """At once where a worker has ended by itself, and soon where it does not come."""
    script = f"""
gate, born = {str(tmp_path / "gate")!r}, {str(tmp_path / "born")!r}
if os.path.exists(born) and not os.path.exists(gate):
    tell("fails", os.getpid())
    {fault}
open(born, "w").close()
tell("port", listener.getsockname()[1])
{GREETING}
"""
    with supervised(script + OBEDIENT, count=1, rule={"delay_max_s": 0.1}) as at:
        said = at.lines(3)
        pid, port = int(said[0][2]), said[1][1]
        assert answer(port) == 200
        os.kill(pid, signal.SIGKILL)
        assert [answer(port) for _ in range(3)] == [503] * 3
        (tmp_path / "gate").touch()
        while (words := at.line())[0] != "pid":
            if words[0] == "fails" and fault != "sys.exit(3)":
                os.kill(int(words[1]), signal.SIGKILL)
        eventually("the new one answers", lambda: answer(port), lambda status: status == 200)
        at.process.send_signal(signal.SIGTERM)
        assert at.line() == ["left", "1"]
        code, _, err = at.ends()
    assert code == 0
    assert "no worker serves" in err


def test_nobody_is_told_anything_behind_the_end(tmp_path: Path) -> None:
    """The port is closed, also while no worker lives."""
    script = f"""
born = {str(tmp_path / "born")!r}
if os.path.exists(born): sys.exit(3)
open(born, "w").close()
tell("port", listener.getsockname()[1])
ready()
os._exit(0)
"""
    with supervised(script, count=1) as at:
        port = at.lines(2)[0][1]
        assert answer(port) == 503
        at.process.send_signal(signal.SIGTERM)
        assert at.ends()[0] == 0
        with pytest.raises(ConnectionRefusedError):
            answer(port)


@pytest.mark.parametrize(
    "leaving",
    [
        pytest.param("os._exit(7 if number == 2 else 0)", id="with-an-error"),
        pytest.param("None", id="not-at-all"),
    ],
)
def test_its_exit_code_says_that_one_did_not_leave_in_order(leaving: str) -> None:
    script = f"""
on("SIGTERM", lambda: {leaving})
ready()
while True: signal.pause()
"""
    with supervised(script, stop_s=-4.9 if leaving == "None" else 10) as at:  # and five of margin
        assert at.line() == ["ready"]
        at.process.send_signal(signal.SIGTERM)
        code, _, err = at.ends()
    assert code == 1
    assert ("does not end, and is killed" in err) == (leaving == "None")
    how = "SIGKILL" if leaving == "None" else "exit code 7"
    assert f"worker 2 ended with {how} at the stop" in err


def test_a_second_signal_hurries_the_workers() -> None:
    script = """
on("SIGTERM", lambda: tell("term"))
on("SIGINT", lambda: os._exit(0))
ready()
while True: signal.pause()
"""
    with supervised(script, count=1) as at:
        assert at.line() == ["ready"]
        at.process.send_signal(signal.SIGINT)
        assert at.line() == ["term"], "the first asks, whichever it is"
        at.process.send_signal(signal.SIGTERM)
        assert at.ends()[0] == 0
