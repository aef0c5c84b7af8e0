"""The log waits for nobody: entries come in order, or are counted as dropped."""

from __future__ import annotations

import logging
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.cli.serving import log_handler
from orchestra.cli.serving.log_handler import LogHandler
from tests.cli.conftest import Project
from tests.cli.serving.test_serve import get, listening
from tests.patience import PATIENCE_S

DROPPED = re.compile(r"log entries dropped, .*: (\d+)")


@contextmanager
def logged_to_a_pipe(*, blocking: bool = True) -> Iterator[tuple[int, Callable[[str], None]]]:
    """Where entries can be read, and what logs one; those of the server's logger come, too."""
    reads, writes = os.pipe()
    os.set_blocking(writes, blocking)
    handler = LogHandler(writes)
    log_handler.log.addHandler(handler)
    try:
        yield reads, lambda text: handler.emit(logging.makeLogRecord({"msg": text}))
    finally:
        log_handler.log.removeHandler(handler)
        os.close(reads)
        handler.flush()
        os.close(writes)


def lines_of(reads: int, until: Callable[[list[str]], bool]) -> list[str]:
    data = b""
    while not (data.endswith(b"\n") and until(data.decode().splitlines())):
        data += os.read(reads, 1 << 16)
    return data.decode().splitlines()


@given(st.lists(st.integers(0, 9_999), min_size=1, max_size=20))
@example([9_999] * 20)
def test_entries_are_written_in_order_however_long_they_are(sizes: list[int]) -> None:
    texts = [f"{at}{'x' * size}" for at, size in enumerate(sizes)]
    with logged_to_a_pipe() as (reads, say):
        for text in texts:
            say(text)
        assert lines_of(reads, lambda lines: len(lines) == len(texts)) == texts


def test_what_nobody_reads_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the bound, this test would not end: a pipe holds 64 KiB."""
    monkeypatch.setattr(log_handler, "HELD_BYTES_MAX", 1_000_000)
    with logged_to_a_pipe() as (reads, say):
        for at in range(300):
            say(f"{at:09d}" + "x" * 9_990)
        say("short")
        lines = lines_of(reads, lambda lines: DROPPED.match(lines[-1]) is not None)
    *entries, told = lines
    assert [int(line[:9]) for line in entries if line != "short"] == [*range(100)]
    assert (found := DROPPED.match(told))
    assert int(found[1]) == 200 + ("short" not in entries)


def test_a_pipe_that_somebody_has_made_non_blocking_gets_all_entries() -> None:
    with logged_to_a_pipe(blocking=False) as (reads, say):
        texts = [f"{at}" + "x" * 50_000 for at in range(9)]
        for text in texts:
            say(text)
        assert lines_of(reads, lambda lines: len(lines) == len(texts)) == texts


def test_who_has_gone_is_no_error() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    handler = LogHandler(writes)
    handler.handle(logging.makeLogRecord({"msg": "a"}))
    handler.flush()
    assert handler._held_bytes == 0
    os.close(writes)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_that_was_forked_writes_its_own_entries() -> None:
    with logged_to_a_pipe() as (reads, say):
        child = os.fork()
        if child == 0:  # pragma: no cover - in the other process
            say("the child")
            for each in log_handler.log.handlers:
                each.flush()
            os._exit(0)
        assert lines_of(reads, lambda lines: len(lines) == 1) == ["the child"]
        os.waitpid(child, 0)


def test_a_server_goes_on_when_nobody_reads_its_log(say: Project) -> None:
    """Each entry is as long as a pipe; before, the second stopped the server, and its end."""
    say.write(
        "pipelines/wordy.py",
        """
        import logging
        from orchestra import pipeline, step

        @step
        def logs(text: str) -> str:
            logging.getLogger("wordy").warning(text * 70_000)
            return text

        @pipeline
        def wordy(text: str) -> str:
            return logs(text)
        """,
    )
    process = say.launch("serve", "--port", "0")
    url = listening(process)
    for _ in range(4):
        assert get(f"{url}/v1/pipelines/wordy/runs?text=a")["result"] == "a"
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
