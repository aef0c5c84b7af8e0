"""What a process is asked by signals, in any order."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from orchestra.server.processes.signals import STOPPING, Shutdown
from tests.patience import PATIENCE_S, line_with

ROOT = Path(__file__).parents[3]
numbers = st.lists(st.sampled_from(STOPPING))


@given(numbers, st.booleans())
def test_the_first_asks_to_stop_and_the_second_to_hurry(
    sent: list[signal.Signals], patient: bool
) -> None:
    """Of a worker only SIGINT hurries: who stops its supervisor may send SIGTERM to both."""
    shutdown = Shutdown(patient=patient)
    for number in sent:
        shutdown.heed(number)
    assert shutdown.stop.is_set() == bool(sent)
    hurries = [each for each in sent[1:] if each == signal.SIGINT or not patient]
    assert shutdown.hurry.is_set() == bool(hurries)


def test_a_reload_that_hangs_keeps_nobody_from_stopping_it() -> None:
    """And those that come meanwhile are one more."""

    async def main() -> None:
        shutdown, over, reloads = Shutdown(), trio.Event(), []
        sent, signals = trio.open_memory_channel[int](4)

        async def reload() -> None:
            reloads.append(trio.current_time())
            await over.wait()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(shutdown.hear, signals, {signal.SIGHUP: reload})
            for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
                sent.send_nowait(number)
                await wait_all_tasks_blocked()
            assert (shutdown.stop.is_set(), len(reloads)) == (True, 1)
            over.set()
            await wait_all_tasks_blocked()
            assert len(reloads) == 2
            nursery.cancel_scope.cancel()

    trio.run(main)


SCRIPT = """
import trio
from orchestra.server.processes.signals import HANGUP, Shutdown, receiving

async def reload():
    print("reload", flush=True)

async def main():
    shutdown = Shutdown()
    with receiving(HANGUP) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shutdown.hear, signals, {HANGUP: reload})
            await trio.testing.wait_all_tasks_blocked()
            print("there", flush=True)
            await shutdown.stop.wait()
            print("stop", flush=True)
            nursery.cancel_scope.cancel()

import trio.testing
trio.run(main)
"""


def test_a_terminal_that_is_closed_stops_it_and_is_no_reload() -> None:
    """Both are SIGHUP."""
    ours, its = pty.openpty()
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import fcntl, termios; fcntl.ioctl({its}, termios.TIOCSCTTY)\n{SCRIPT}",
        ],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
        pass_fds=[its],
    ) as process:
        os.close(its)
        assert process.stdout is not None
        assert line_with(process.stdout, "") == "there\n"
        process.send_signal(signal.SIGHUP)
        assert line_with(process.stdout, "") == "reload\n"
        os.close(ours)
        assert line_with(process.stdout, "") == "stop\n"
    assert process.returncode == 0


EARLY = """
import os, signal
from orchestra.server.processes.hangups import remember
remember()
os.kill(os.getpid(), signal.SIGHUP)
"""
AFTERWARDS = """
os.kill(os.getpid(), signal.SIGHUP)
print("ended", flush=True)
"""


def ran(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        start_new_session=True,
    )


def test_a_hangup_before_it_is_heeded_and_one_behind_the_end_kill_nobody() -> None:
    """The first is heeded once it can be, and the last not at all."""
    stops = SCRIPT.replace(
        'print("reload", flush=True)',
        'print("reload", flush=True); os.kill(os.getpid(), signal.SIGTERM)',
    )
    done = ran(EARLY + stops + AFTERWARDS)
    assert (done.returncode, set(done.stdout.split())) == (0, {"there", "reload", "stop", "ended"})


def test_a_terminal_that_closes_early_ends_it_as_before() -> None:
    script = """
import os, signal
from orchestra.server.processes import hangups
hangups.remember()._had_terminal = True
os.kill(os.getpid(), signal.SIGHUP)
print("goes on")
"""
    done = ran(script)
    assert (done.returncode, done.stdout) == (-signal.SIGHUP, "")


def test_a_stop_before_it_can_be_heeded_is_heeded_and_one_behind_the_end_is_not() -> None:
    """A worker that had lost it would serve until somebody killed it."""
    script = """
import signal, trio
from orchestra.server.processes.signals import receiving

receiver = trio.open_signal_receiver

def late(*numbers):
    signal.raise_signal(signal.SIGTERM)
    return receiver(*numbers)

async def main():
    with receiving(ignore_after=True) as signals, trio.fail_after(10):
        print(signal.Signals(await anext(signals)).name)

trio.open_signal_receiver = late
trio.run(main)
signal.raise_signal(signal.SIGTERM)
print(signal.getsignal(signal.SIGTERM).name)
"""
    done = ran(script)
    assert (done.returncode, done.stdout.split()) == (0, ["SIGTERM", "SIG_IGN"]), done.stderr


def test_who_ignores_hangups_goes_on_ignoring_them() -> None:
    script = """
import signal
from orchestra.server.processes.hangups import remember
signal.signal(signal.SIGHUP, signal.SIG_IGN)
assert remember() is None
assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
"""
    assert ran(script).returncode == 0
