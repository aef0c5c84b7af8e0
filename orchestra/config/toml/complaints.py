"""Problems of a configuration: each with its line, its key, the value, and the fix.

Rules of the file: a value that may be a secret is never shown, whatever its key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from orchestra.config.toml.places import Path, line_of
from orchestra.messages import dotted, in_quotes
from orchestra.nearest import did_you_mean
from orchestra.problem import Problem

SHOWN_CHARS = 60
HIDDEN = "(not shown)"
_SECRET_NAME = re.compile(
    r"(?:^|[_-])(?:api)?(?:keys?|token|secrets?|password|passwd|credentials?|authorization|cookie)$"
    r"|^(?:api|access|secret)[_-]?key|^bearer",
    re.IGNORECASE,
)
_WITH_QUERY = re.compile(r"\w+://[^?#]*[?#]")
_LIKE_A_KEY = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9_\-+/=.]{16,}")
_BITS_MAX = 256
"""TOML's integers have 64 bits; Python refuses to print one of many thousands in decimal."""


class Complaints:
    """Collects the problems of one file."""

    def __init__(self, file: str, places: Mapping[Path, int]) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._places = places

    def add(self, code: str, path: Path, message: str, fix: str) -> None:
        """Add a problem, at the line of this key, or of the nearest table that contains it."""
        self.problems.append(Problem(code, self.where(path), f"{dotted(path)}: {message}", fix))

    def not_a_table(self, path: Path, value: object, fix: str) -> None:
        """Add a problem: `value` is not a table, and must be one."""
        self.add("wrong-type", path, f"{shown(value, str(path[-1]))} is not a table", fix)

    def where(self, path: Path) -> str:
        """`file:line` of a key."""
        return f"{self._file}:{line_of(path, self._places)}"


def shown(value: object, key: str = "") -> str:
    """A value as written in the file, shortened; not shown if it may be a secret."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        if (
            names_a_secret(key)
            or key in ("key_env", "password_env", "user_env")
            or "@" in value
            or _WITH_QUERY.match(value)
            or _LIKE_A_KEY.search(value)
        ):
            return f"a text {HIDDEN}"
        return in_quotes(value[:SHOWN_CHARS] + ("…" if len(value) > SHOWN_CHARS else ""))
    if isinstance(value, int) and value.bit_length() > _BITS_MAX:
        return "a number with too many digits"
    return HIDDEN if names_a_secret(key) else str(value)[:SHOWN_CHARS]


def names_a_secret(key: str) -> bool:
    """Whether a value of this name would be a key, a token or a password."""
    return bool(_SECRET_NAME.search(key)) and key not in ("key_env", "key_file", "key_header")


def nearest(name: str, known: Iterable[str]) -> str:
    """The advice for a wrong name: the nearest known name, or a list of all of them."""
    names = list(known)
    return did_you_mean(name, names) or f"one of: {', '.join(names)}"
