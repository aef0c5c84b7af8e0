"""The problems that are reported of a configuration file."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.config.reading import read
from orchestra.errors import ConfigError
from orchestra.problem import Problem

FILE = Path("some/orchestra.toml")


def problems(text: str, file: Path = FILE) -> list[Problem]:
    """All problems of a file with this text, which must have some."""
    with pytest.raises(ConfigError) as caught:
        read(text, file)
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return list(caught.value.problems)


def problem(text: str) -> Problem:
    """The only problem of a file with this text."""
    (told,) = problems(text)
    return told


def check_told(text: str, line: int, says: str) -> None:
    """Check that a file with this text has one problem: in this line, with this in its text."""
    told = problem(text)
    assert told.where == f"{FILE}:{line}"
    assert says in str(told)
    assert "sesame" not in str(told), "it shows a secret"
