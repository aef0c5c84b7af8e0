"""The commands of the README can be typed as they stand, one after the other."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMANDS = [block.replace("\\\n", " ").splitlines() for block in BLOCK.findall(README.read_text())]
TAKES = re.compile(r"\$([A-Z]+)|(?<!> )\b(\w+\.jsonl)")
MAKES = re.compile(r"^([A-Z]+)=|> (\w+\.jsonl)$")


def test_what_a_command_takes_has_been_made_by_one_before_it() -> None:
    """A variable is set, and a file of rows is written."""
    made: set[str] = set()
    taken: set[str] = set()
    for command in chain.from_iterable(COMMANDS):
        taken |= names(TAKES, command)
        assert taken <= made, command
        made |= names(MAKES, command)
    assert taken == {"KEY", "rows.jsonl"}


def test_nothing_is_typed_below_a_server_which_keeps_its_terminal() -> None:
    for *before, _last in COMMANDS:
        assert not any(command.startswith("orchestra serve") for command in before)


def names(pattern: re.Pattern[str], command: str) -> set[str]:
    """What a pattern names in a command."""
    return {name for found in pattern.findall(command) for name in found if name}
