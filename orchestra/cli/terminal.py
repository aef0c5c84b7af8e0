"""Output for people: lines, tables and progress bars; plain in a pipe, coloured on a terminal.

Rules of the file: nothing else in `orchestra.cli` writes to standard output, and to standard error
only the log of a server, which must never wait, and its watchdog.
"""

from __future__ import annotations

import os
import select
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TextIO, TypeAlias

import trio

Colour: TypeAlias = Literal["bold", "dim", "red", "green", "yellow", "cyan"]
_CODES: dict[Colour, int] = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "cyan": 36}
OUT, ERR = 1, 2
NOTHING = "-"
"""An empty cell of a table."""
ROOM_S = 0.2
"""Seconds for which a line that may be left out waits for room in a full pipe."""
MoveBar: TypeAlias = Callable[[int, int, str], object]
"""Called with the number of done and of all items, and with a text."""

# The non-ASCII characters of our own output, with replacements for terminals without them.
_PLAIN = str.maketrans(
    {"─": "-", "│": "|", "├": "|", "└": "`", "═": "=", "…": "...", "µ": "u", "→": "->"}
)

CONTROLS = [code for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"]
"""The C0 and C1 controls but tab and line feed: a model's words must not move the cursor, retitle
the window or write to the clipboard."""
_REPLACED = dict.fromkeys(CONTROLS, "\N{REPLACEMENT CHARACTER}")


def say(text: str, *, needed: bool = True) -> None:
    """Write a line, or several, to standard output at once.

    A line that is not `needed` is dropped silently if it cannot be written.

    Raises:
        OSError: a needed line cannot be written: its reader has gone, or a disk is full.
    """
    _write(sys.stdout, text, needed=needed)


def show(text: str) -> None:
    """Write a line, or several, to standard output, without control characters; else as `say`.

    Raises:
        OSError: as of `say`.
    """
    say(visible(text))


def say_json(value: object) -> None:
    """Write a value to standard output, as indented JSON."""
    import msgspec  # deferred, since other commands do not need it

    from orchestra.event_lines import jsonable

    say(msgspec.json.format(msgspec.json.encode(value, enc_hook=jsonable), indent=2).decode())


def note(text: str, colour: Colour | None = "dim", *, needed: bool = True) -> None:
    """Write a line about progress to standard error, without control characters; else as `say`.

    Raises:
        OSError: as of `say`.
    """
    text = visible(text)
    _write(sys.stderr, paint(text, colour, sys.stderr) if colour else text, needed=needed)


def complain(message: str) -> None:
    """Write an error to standard error, as one block, without control characters.

    Raises nothing if it cannot be written: the exit code still reports the failure.
    """
    first, *rest = visible(message).rstrip().split("\n")
    block = [f"{paint('error:', 'red', sys.stderr)} {first}", *(f"  {line}" for line in rest)]
    _write(sys.stderr, "\n".join(block), needed=False)


def paint(text: str, colour: Colour, stream: TextIO) -> str:
    """The text in a colour if the stream shows colours, else unchanged."""
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if colourful(stream) else text


def colourful(stream: TextIO) -> bool:
    """Whether it is a terminal that shows colours, and `NO_COLOR` is not set."""
    unwanted = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not unwanted


def width() -> int | None:
    """The columns of standard output's terminal; None if it is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def visible(text: str) -> str:
    """The text with its control characters replaced, for a terminal."""
    return text.translate(_REPLACED)


def descriptor_of(standard: int) -> int:
    """The descriptor of standard output or error, `OUT` or `ERR`.

    It is nearly always this number. If the caller closed the stream, a library may have opened a
    file there while it was loaded, as libffi does.
    """
    stream = sys.stdout if standard == OUT else sys.stderr
    try:
        return stream.fileno()
    except OSError:  # it was replaced by an object that is not a file
        return standard


def table(rows: Iterable[tuple[str, ...]], width: int | None = None) -> str:
    """The rows, one a line, with each column as wide as its longest cell; the first has headings.

    If the table is wider than `width`, each row is a block instead, with a line for each non-empty
    cell after its heading: folded lines would not be readable as columns.
    """
    rows = list(rows)
    lines = _aligned(rows)
    head, *others = rows
    if width is None or not others or max(map(len, lines)) <= width:
        return "\n".join(lines)
    return "\n\n".join("\n".join(_block(head, row)) for row in others)


@contextmanager
def progress_bar(*, remaining: bool = False) -> Iterator[MoveBar | None]:
    """The function that moves a progress bar; None without a terminal.

    With `remaining`, the bar shows the time left. It disappears at the end of the context.
    """
    if not colourful(sys.stderr):
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = [BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False)]
    columns += [TimeRemainingColumn(compact=True)] if remaining else []
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, text: bar.update(
            task, completed=done, total=total, description=visible(text)
        )


async def write(descriptor: int, data: bytes) -> None:
    """Write all of it to a file descriptor, waiting in a thread for a slow reader.

    A cancellation returns at once; the rest may still be written. `sys.stdout` is not used, since
    an abandoned thread would hold its lock when Python ends.

    Raises:
        BrokenPipeError: the reader has closed it.
    """
    view = memoryview(data)
    while view:
        try:
            taken = await trio.to_thread.run_sync(
                os.write, descriptor, view, abandon_on_cancel=True
            )
        except BlockingIOError:  # the calling process has made it non-blocking
            await trio.lowlevel.wait_writable(descriptor)
        else:
            view = view[taken:]


@contextmanager
def naming(standard: int) -> Iterator[None]:
    """Name standard output or error, `OUT` or `ERR`, in an error of writing to it."""
    try:
        yield
    except OSError as error:
        error.filename = "standard output" if standard == OUT else "standard error"
        raise


def forget_unwritable() -> None:
    """Let Python exit without an error about output that can no longer be written."""
    for stream, descriptor in ((sys.stdout, OUT), (sys.stderr, ERR)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def _write(stream: TextIO, text: str, *, needed: bool) -> None:
    """Write a text to a stream, which may be closed or full, or have a limited encoding."""
    try:
        if not needed and not _has_room(stream):
            return
        with naming(OUT if stream is sys.stdout else ERR):
            stream.write(_fitting(text, stream.encoding or "utf-8") + "\n")
            stream.flush()
    except OSError:
        if needed:
            raise


def _has_room(stream: TextIO) -> bool:
    """Whether a line can be written without waiting for its reader."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
    except OSError:  # it was replaced by an object that is not a file
        return True
    return bool(poll.poll(ROOM_S * 1000))


def _fitting(text: str, encoding: str) -> str:
    """The text reduced to an encoding; if needed, our own lines and arrows become ASCII."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_PLAIN)
    return text.encode(encoding, "replace").decode(encoding)


def _block(head: tuple[str, ...], row: tuple[str, ...]) -> list[str]:
    """A line for each non-empty cell, all indented by the longest heading."""
    first = max(map(len, head))
    pairs = zip(head, row, strict=True)
    return [f"{name.ljust(first)}  {cell}" for name, cell in pairs if cell != NOTHING]


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
