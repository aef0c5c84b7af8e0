"""What a person sees, in a pipe and on a terminal."""

from __future__ import annotations

import io
import os
import pty
import sys

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.cli import terminal


@given(st.integers(0, 200_000), st.booleans())
def test_all_of_it_is_written(size: int, blocking: bool) -> None:
    """However little the pipe takes at once, and whatever mode it was left in."""
    data = bytes(number % 251 for number in range(size))
    received = bytearray()

    def drain(source: int) -> None:
        while some := os.read(source, 4096):
            received.extend(some)

    async def main() -> None:
        source, target = os.pipe()
        os.set_blocking(target, blocking)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, drain, source)
            await terminal.write(target, data)
            os.close(target)
        os.close(source)

    trio.run(main)
    assert received == data


def test_a_full_pipe_that_does_not_block_is_waited_for() -> None:
    async def main() -> bytes:
        source, target = os.pipe()
        os.set_blocking(target, False)
        full = os.write(target, bytes(1 << 20))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(terminal.write, target, b"the end")
            with trio.fail_after(30):
                while not _waiting_to_write():  # noqa: ASYNC110 - another process does it
                    await trio.lowlevel.checkpoint()
            os.read(source, full)
        said = os.read(source, 100)
        os.close(source)
        os.close(target)
        return said

    assert trio.run(main) == b"the end"


def _waiting_to_write() -> int:
    statistics = trio.lowlevel.current_statistics().io_statistics
    return int(getattr(statistics, "tasks_waiting_write", 0))


def test_a_write_that_nobody_reads_can_be_cancelled() -> None:
    async def main() -> None:
        source, target = os.pipe()
        with trio.move_on_after(0.05) as scope:
            await terminal.write(target, bytes(1 << 20))
        assert scope.cancelled_caught
        os.close(source)  # lets the thread go

    trio.run(main)


def test_a_pipe_whose_reader_has_gone_is_told_of() -> None:
    source, target = os.pipe()
    os.close(source)
    with pytest.raises(BrokenPipeError):
        trio.run(terminal.write, target, b"x")
    os.close(target)


@given(st.text())
def test_nothing_visible_is_lost_and_nothing_else_is_left(text: str) -> None:
    shown = terminal.visible(text)
    assert len(shown) == len(text)
    for before, after in zip(text, shown, strict=True):
        control = (before < " " or "\x7f" <= before < "\xa0") and before not in "\t\n"
        assert after == ("\N{REPLACEMENT CHARACTER}" if control else before)


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A terminal in place of standard error."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def test_an_error_is_one_block(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.complain("first\n  second\nthird\n")
    assert capsys.readouterr() == ("", "error: first\n    second\n  third\n")


def test_an_error_is_red_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = screen(monkeypatch)
    terminal.complain("no")
    terminal.note("by the way")
    terminal.note("plain", None)
    assert shown.getvalue() == "\x1b[31merror:\x1b[0m no\n\x1b[2mby the way\x1b[0m\nplain\n"


def test_a_terminal_is_not_steered_by_what_an_error_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider's message, or the name of a file."""
    shown = screen(monkeypatch)
    terminal.complain("it says \x1b[2J\n\x9bhere")
    terminal.note("it says \x1b[2J", None)
    quoted = shown.getvalue().replace("\x1b[31merror:\x1b[0m", "error:")
    assert quoted == "error: it says \ufffd[2J\n  \ufffdhere\nit says \ufffd[2J\n"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_can_be_declined(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    shown = screen(monkeypatch)
    monkeypatch.setenv(name, value)
    terminal.complain("no")
    assert shown.getvalue() == "error: no\n"


@pytest.mark.parametrize(
    ("encoding", "text", "shown"),
    [
        ("ascii", "├─ a(b ══ c) → 5 µs…", "|- a(b == c) -> 5 us..."),
        ("ascii", "naïve", "na?ve"),
        ("latin-1", "5 µs, naïve", "5 µs, naïve"),
        ("utf-8", "└─ 5 µs", "└─ 5 µs"),
    ],
)
def test_a_narrow_stream_gets_what_it_can_show(
    monkeypatch: pytest.MonkeyPatch, encoding: str, text: str, shown: str
) -> None:
    """Lines of a drawing are drawn with what there is."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    terminal.say(text)
    assert raw.getvalue().decode(encoding) == f"{shown}\n"


@given(st.text(), st.sampled_from(["ascii", "latin-1", "cp1252", "utf-8"]))
def test_what_an_encoding_has_is_written_as_it_is(text: str, encoding: str) -> None:
    """And nothing is too odd for it."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding, newline="")  # kept, since it closes what it wraps
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        terminal.say(text)
    if text == text.encode(encoding, "ignore").decode(encoding):
        assert raw.getvalue().decode(encoding) == f"{text}\n"


def test_a_real_terminal_is_told_from_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    ours, theirs = pty.openpty()
    source, target = os.pipe()
    with os.fdopen(theirs, "w") as tty, os.fdopen(target, "w") as pipe:
        assert terminal.colourful(tty)
        assert not terminal.colourful(pipe)
    os.close(ours)
    os.close(source)
