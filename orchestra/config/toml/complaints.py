"""Problems of a configuration: each with its line, its key, what stands there, and the fix.

Rules of the file: a value that may be a secret is never shown, whatever key it stands at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from orchestra.config.toml.places import Path, line_of
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
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BITS_MAX = 256
"""TOML's integers have 64; Python refuses to write one of many thousands in decimals."""


class Complaints:
    """The problems of one file, as they are found."""

    def __init__(self, file: str, places: Mapping[Path, int]) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._places = places

    def add(self, code: str, path: Path, message: str, fix: str) -> None:
        """One more, at the key of this path, or where the nearest table above it stands."""
        self.problems.append(Problem(code, self.where(path), f"{dotted(path)}: {message}", fix))

    def not_a_table(self, path: Path, value: object, fix: str) -> None:
        """One more: `value` stands where a table has to."""
        self.add("wrong-type", path, f"{shown(value, str(path[-1]))} is not a table", fix)

    def where(self, path: Path) -> str:
        """`file:line` of a key."""
        return f"{self._file}:{line_of(path, self._places)}"


def dotted(path: Path) -> str:
    """A path as it is written in the file: `models."my model".timeouts.idle_s`."""
    keys = (str(key) if _BARE.fullmatch(str(key)) else _quoted(str(key)) for key in path)
    return ".".join(keys)


def shown(value: object, key: str = "") -> str:
    """A value as it stands in the file, in short; not at all where it may be a secret."""
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
        return _quoted(value[:SHOWN_CHARS] + ("…" if len(value) > SHOWN_CHARS else ""))
    if isinstance(value, int) and value.bit_length() > _BITS_MAX:
        return "a number with too many digits"
    return HIDDEN if names_a_secret(key) else str(value)[:SHOWN_CHARS]


def _quoted(text: str) -> str:
    """The text as a string of TOML on one line; its escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)


def names_a_secret(key: str) -> bool:
    """Whether something of this name would be a key, a token or a password."""
    return bool(_SECRET_NAME.search(key)) and key not in ("key_env", "key_file", "key_header")


def nearest(name: str, known: Iterable[str]) -> str:
    """What to write instead of a wrong name: the nearest right one, or else all there are."""
    names = list(known)
    return did_you_mean(name, names) or f"one of: {', '.join(names)}"
