"""Tables of text. Pure."""

from __future__ import annotations

from collections.abc import Iterable

NOTHING = "-"


def table(rows: Iterable[tuple[str, ...]], width: int | None = None) -> str:
    """The rows, one a line, with each column as wide as its longest cell; the first has headings.

    Where that is wider than `width`, each row is a block instead, of a line for each cell that
    says something, behind its heading: lines that a terminal folds cannot be read as columns.
    """
    rows = list(rows)
    lines = _aligned(rows)
    head, *others = rows
    if width is None or not others or max(map(len, lines)) <= width:
        return "\n".join(lines)
    return "\n\n".join("\n".join(_block(head, row)) for row in others)


def _block(head: tuple[str, ...], row: tuple[str, ...]) -> list[str]:
    """A line for each cell that says something, all as far in as the longest heading has it."""
    first = max(map(len, head))
    pairs = zip(head, row, strict=True)
    return [f"{name.ljust(first)}  {cell}" for name, cell in pairs if cell != NOTHING]


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
