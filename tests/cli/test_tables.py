"""Tables on a terminal: as columns where they have room, and never folded."""

from __future__ import annotations

import pty
from io import TextIOWrapper
from os import fdopen

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.cli import terminal
from orchestra.cli.terminal import NOTHING, table

HEAD = ("NAME", "ADDRESS", "CAN")
cells = st.text("abc:/.", min_size=1, max_size=40)
rows = st.lists(st.tuples(cells, cells, cells | st.just(NOTHING)), min_size=1, max_size=4)


@given(rows, st.none() | st.integers(1, 140))
def test_a_line_of_several_cells_is_never_folded(
    found: list[tuple[str, ...]], width: int | None
) -> None:
    """Either all is in columns, and fits, or each line has one cell; all that is told is there."""
    lines = table([HEAD, *found], width).splitlines()
    if lines[0].split() == list(HEAD):
        assert width is None or max(map(len, lines)) <= width
        assert [line.split() for line in lines[1:]] == [[*row] for row in found]
    else:
        assert width is not None
        told = [cell for row in found for cell in row if cell != NOTHING]
        assert [line.split()[1] for line in lines if line] == told


def test_without_rows_the_headings_are_there() -> None:
    assert table([HEAD], 1) == "NAME  ADDRESS  CAN"


def test_the_width_is_that_of_a_terminal_and_of_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What goes into a pipe is one line a row, for `grep` and `cut`."""
    monkeypatch.setenv("COLUMNS", "72")
    assert terminal.width() is None
    ours, theirs = pty.openpty()
    with fdopen(ours), TextIOWrapper(fdopen(theirs, "wb", buffering=0)) as stream:
        monkeypatch.setattr("sys.stdout", stream)
        assert terminal.width() == 72
