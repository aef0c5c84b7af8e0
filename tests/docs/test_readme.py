"""The commands of the README, and of other pages, can be typed as they stand, in their order."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
TAKES = re.compile(r"\$([A-Z]+)|(?<!> )\b(\w+\.jsonl)")
MAKES = re.compile(r"^([A-Z]+)=|> (\w+\.jsonl)$")


def test_what_a_command_takes_has_been_made_by_one_before_it() -> None:
    """A variable is set, and a file of rows is written."""
    made: set[str] = set()
    taken: set[str] = set()
    for command in chain.from_iterable(blocks_of(PAGES[0])):
        taken |= names(TAKES, command)
        assert taken <= made, command
        made |= names(MAKES, command)
    assert taken == {"KEY", "rows.jsonl"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_is_typed_below_a_server_which_keeps_its_terminal(page: Path) -> None:
    for *before, _last in blocks_of(page):
        assert not any(command.startswith("orchestra serve") for command in before)


def blocks_of(page: Path) -> list[list[str]]:
    """The commands of each block of a page."""
    return [block.replace("\\\n", " ").splitlines() for block in BLOCK.findall(page.read_text())]


def names(pattern: re.Pattern[str], command: str) -> set[str]:
    """What a pattern names in a command."""
    return {name for found in pattern.findall(command) for name in found if name}
