"""The log waits for nobody: entries come in order, or are counted as dropped."""

from __future__ import annotations

import dis
import logging
import os
import re
import resource
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from tempfile import TemporaryFile
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.cli.serving import log_handler
from orchestra.cli.serving.log import Log
from orchestra.cli.serving.log_handler import LogHandler
from tests.cli.conftest import Project
from tests.cli.serving.test_serve import get, listening
from tests.patience import PATIENCE_S

DROPPED = re.compile(r"log entries dropped, .*: (\d+)")


@contextmanager
def logged_to_a_pipe(*, blocking: bool = True) -> Iterator[tuple[int, Callable[[str], None]]]:
    """Where entries can be read, and what logs one."""
    with logged() as (reads, handler):
        os.set_blocking(handler._descriptor, blocking)
        yield reads, lambda text: handler.emit(entry(text))


@contextmanager
def logged() -> Iterator[tuple[int, LogHandler]]:
    """Where entries can be read, and their handler."""
    reads, writes = os.pipe()
    handler = LogHandler(writes)
    try:
        yield reads, handler
    finally:
        os.close(reads)
        handler.flush()
        os.close(writes)


def entry(text: str) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": text})


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


def test_the_count_of_what_was_dropped_is_not_dropped_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As much waits as may, and only a short entry less when some is read again."""
    monkeypatch.setattr(log_handler, "HELD_BYTES_MAX", 1 + 9 * 100)
    with logged() as (reads, handler):
        stuffed(handler)
        for _ in range(100):
            handler.handle(entry("x" * 99))
        *_, told = lines_of(reads, lambda lines: DROPPED.match(lines[-1]) is not None)
    assert told.endswith(": 91")


def test_what_was_dropped_holds_back_nothing_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """`logging.shutdown` has the handler's lock while it waits for the thread."""
    monkeypatch.setattr(log_handler, "HELD_BYTES_MAX", 1_000)
    monkeypatch.setattr(log_handler, "FLUSH_S", 2 * PATIENCE_S)
    with logged() as (reads, handler):
        stuffed(handler)
        for text in ("last", "x" * 2_000):
            handler.handle(entry(text))
        end = threading.Thread(target=logging.shutdown, args=([weakref.ref(handler)],))
        end.start()
        while not handler._changed._waiters:  # type: ignore[attr-defined]
            pass
        lines_of(reads, lambda lines: "last" in lines)
        end.join(PATIENCE_S)
        assert not end.is_alive()


def test_a_note_comes_behind_the_entries_before_it_and_waits_for_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with logged() as (reads, handler):
        monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
        stuffed(handler)
        handler.handle(entry("a"))
        Log().note("b\x1b[2J")
        handler.handle(entry("c"))
        lines = lines_of(reads, lambda lines: lines[-1] == "c")
    assert lines[-3:] == ["a", "b\N{REPLACEMENT CHARACTER}[2J", "c"]


def test_a_note_is_seen_also_where_code_logs_in_its_own_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.NullHandler()])
    Log().note("here")
    assert capsys.readouterr().err == "here\n"


def stuffed(handler: LogHandler) -> None:
    """Fill the pipe, and have the thread wait for room in it for a short entry."""
    os.set_blocking(handler._descriptor, False)
    with suppress(BlockingIOError):
        while True:
            os.write(handler._descriptor, b"\n" * 4096)
    handler.handle(entry(""))
    while handler._lines:
        pass


def test_what_is_logged_in_the_middle_of_an_entry_is_counted() -> None:
    """By the handler of a signal, or a `__del__`: Python calls them behind any call."""
    with logged() as (reads, handler):
        for index in range(20):  # more calls than it makes
            with interrupted(partial(handler.handle, entry("between")), index):
                handler.handle(entry("it"))
            lines_of(reads, lambda lines: "it" in lines)
        handler.flush()
        assert handler._held_bytes == 0


@contextmanager
def interrupted(act: Callable[[], object], index: int) -> Iterator[None]:
    """Call `act` behind the call of this index that the log's code makes."""
    before = dict[FrameType, str]()

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal index
        frame.f_trace_opcodes = frame.f_code.co_filename == log_handler.__file__
        if event == "opcode":
            index -= before.get(frame, "").startswith("CALL")
            before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if index < 0:
                sys.settrace(None)
                act()
        return trace

    traced = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(traced)


def test_a_pipe_that_somebody_has_made_non_blocking_gets_all_entries() -> None:
    with logged_to_a_pipe(blocking=False) as (reads, say):
        texts = [f"{at}" + "x" * 50_000 for at in range(9)]
        for text in texts:
            say(text)
        assert lines_of(reads, lambda lines: len(lines) == len(texts)) == texts


@given(st.lists(st.integers(1, 300), min_size=1, max_size=20), st.integers(0, 2_000))
@example([100, 100, 100], 150)
@example([100], 0)
@example([1], 2)
def test_a_full_disk_loses_and_tears_no_entry(sizes: list[int], room_bytes: int) -> None:
    """A limit is such a disk. Another process may write first when there is room again."""
    texts = [f"{at}{'x' * size}" for at, size in enumerate(sizes)]
    with TemporaryFile("ab+") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_handler, "AGAIN_S", 0.002)
        handler = LogHandler(file.fileno())
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, limits[1]))
        try:
            for text in texts:
                handler.handle(entry(text))
            filled_bytes = min(room_bytes, sum(map(len, texts)) + len(texts))
            while os.fstat(file.fileno()).st_size < filled_bytes:
                pass
            patch.setattr(log_handler, "FLUSH_S", 0.003)
            handler.flush()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        os.write(file.fileno(), b"\nother\n")
        patch.setattr(log_handler, "FLUSH_S", PATIENCE_S)
        handler.flush()
        file.seek(0)
        lines = file.read().decode().splitlines()
    # A line that was torn before its last byte, the end of the line, is whole twice.
    assert [*dict.fromkeys(line for line in lines if line in texts)] == texts
    torn = [line for line in lines if line and line not in (*texts, "other")]
    assert len(torn) <= 1
    assert all(any(text.startswith(line) for text in texts) for line in torn)


def test_a_forked_process_does_not_wait_for_a_full_disk() -> None:
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123 - it is a device
        log_handler._write_all(full.fileno(), b"a\n", waits=False)


def test_who_has_gone_is_no_error() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    handler = LogHandler(writes)
    handler.handle(logging.makeLogRecord({"msg": "a"}))
    handler.flush()
    assert handler._held_bytes == 0
    os.close(writes)


def test_a_terminal_that_was_closed_holds_back_nothing() -> None:
    """A write to it fails with the error of a disk, for ever: as `nohup` leaves a server."""
    ours, its = os.openpty()
    os.close(ours)
    handler = LogHandler(its)
    handler.handle(entry("a"))
    handler.flush()
    assert handler._held_bytes == 0
    os.close(its)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_that_was_forked_writes_its_own_entries() -> None:
    with logged() as (reads, handler):
        child = os.fork()
        if child == 0:  # pragma: no cover - in the other process
            handler.handle(entry("the child"))
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
