"""A server's process ends within its bounds, whatever is stuck in it."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request

import pytest

from orchestra.cli.failures import FAILED
from orchestra.cli.serving.watchdog import Watchdog
from tests.cli.conftest import Project, said
from tests.cli.serving.test_serve import listening
from tests.patience import PATIENCE_S

SCRIPT = """
import logging, re, threading
from orchestra.cli.serving import watchdog

logging.basicConfig()
watchdog.MARGIN_S, watchdog.HELD_S = {margin_s}, {held_s}

def stuck():
    {stuck}

with watchdog.Watchdog() as dog:
    dog.start(0.1)
    stuck()
"""


@pytest.mark.parametrize(
    ("stuck", "margin_s", "held_s", "told"),
    [
        ("threading.Event().wait()", 0.1, 100, "the process has not ended within 0.2 s and is"),
        ("re.match('(a+)+$', 'a' * 99 + 'b')", 1.9, 0.1, "Timeout (0:00:02.1"),
    ],
    ids=["a thread", "the interpreter"],
)
def test_what_is_stuck_is_told_and_left_behind(
    stuck: str, margin_s: float, held_s: float, told: str
) -> None:
    """By who would be too late on a busy machine: a thread, or what needs none, has all the time."""
    script = SCRIPT.format(stuck=stuck, margin_s=margin_s, held_s=held_s)
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=PATIENCE_S, check=False
    )
    err = ended.stderr.decode()
    assert (ended.returncode, told in err, " in stuck" in err) == (FAILED, True, True), err


def test_a_process_that_ends_by_itself_is_not_ended() -> None:
    with Watchdog() as dog:
        pass
    with Watchdog() as dog:
        dog.start(PATIENCE_S)
    assert dog._timer is not None
    assert dog._timer.finished.is_set()


def test_a_server_whose_thread_is_stuck_ends_after_its_bounds(say: Project) -> None:
    """Ten seconds and what its runs may take to end, of which nobody waits for nine here."""
    say.write(
        "pipelines/sticks.py",
        """
        import sys, threading
        from orchestra import pipeline, step
        from orchestra.cli.serving import watchdog

        watchdog.MARGIN_S -= 9

        @step(thread=True)
        def waits(text: str) -> str:
            sys.stderr.write("stuck\\n")
            threading.Event().wait()
            return text

        @pipeline
        def sticks(text: str) -> str:
            return waits(text)
        """,
    )
    process = say.launch("serve", "--port", "0", "--drain-s", "0.1")
    url = listening(process)
    request = urllib.request.Request(
        f"{url}/v1/pipelines/sticks/runs",
        b'{"inputs": {"text": "a"}}',
        {"Content-Type": "application/json", "Prefer": "respond-async"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        assert answer.status == 202
    said(process, "stuck\n")
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=PATIENCE_S)[1].decode()
    assert process.returncode == FAILED
    assert "ERROR orchestra.server: the process has not ended within 1.1 s and is killed" in err
    assert " in waits\n" in err
