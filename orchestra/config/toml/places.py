"""The line of each key of a TOML file, since `tomllib` gives only the values.

This is not a second parser: `tomllib` has already accepted the text. So a scanner only has to
tell keys from values, and brackets from the text in strings. A path is the keys from the root,
with an index for an element of an array: `("models", "default", "provider")`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias

import attrs

Path: TypeAlias = tuple[str | int, ...]
Kind: TypeAlias = Literal["space", "newline", "text", "word", "mark", "end"]

_TOKENS = re.compile(
    r"(?P<space>[ \t]+|\#[^\n]*)"
    r"|(?P<newline>\r?\n)"
    r'|(?P<text>"""(?:\\[\s\S]|[^\\])*?"{3,5}|\'\'\'[\s\S]*?\'{3,5}'
    r'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\')'
    r"|(?P<mark>[\[\]{}=,.])"
    r"|(?P<word>[^\s\[\]{}=,.\"'\#]+)"
)


def places(text: str) -> Mapping[Path, int]:
    """The line, counted from 1, of every key and table in a valid TOML text.

    For a table that several keys make, such as `a` of `a.b = 1` and `a.c = 2`, the first line;
    for one with its own header, the line of the header.
    """
    return _Scanner(text).scan()


def line_of(path: Path, found: Mapping[Path, int]) -> int:
    """The line of a key, or of the nearest table that contains it; 1 if there is none."""
    while path and path not in found:
        path = path[:-1]
    return found.get(path, 1)


@attrs.frozen
class _Token:
    kind: Kind
    text: str
    line: int

    @property
    def key(self) -> str:
        """The token as a key: a string is unquoted as in TOML."""
        if self.kind != "text":
            return self.text
        return str(tomllib.loads(f"key = {self.text}")["key"])


def _tokens(text: str) -> Iterator[_Token]:
    line = 1
    for match in _TOKENS.finditer(text):
        kind: Kind = match.lastgroup or "word"  # type: ignore[assignment]
        if kind != "space":
            yield _Token(kind, match.group(), line)
        line += match.group().count("\n")
    yield _Token("end", "", line)


class _Scanner:
    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0
        self._found: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}

    def scan(self) -> Mapping[Path, int]:
        table: Path = ()
        while self._now.kind != "end":
            if self._now.kind == "newline":
                self._next()
            elif self._now.text == "[":
                table = self._header()
            else:
                self._pair(table)
        return self._found

    @property
    def _now(self) -> _Token:
        return self._tokens[self._at]

    def _next(self) -> _Token:
        token = self._now
        self._at += 1
        return token

    def _header(self) -> Path:
        """Scan `[a.b]` or `[[a.b]]`; returns the path of the table that it begins."""
        line = self._next().line
        several = self._now.text == "["
        if several:
            self._next()
        path = self._element(())
        *above, last = self._keys()
        for key in above:
            path = self._element((*path, key), line)
        path = (*path, last)
        if several:
            self._found.setdefault(path, line)
            self._counts[path] = self._counts.get(path, -1) + 1
            path = self._element(path)
        self._found[path] = line
        while self._now.text == "]":
            self._next()
        return path

    def _element(self, path: Path, line: int | None = None) -> Path:
        """The path itself; for an array of tables, that of its last element."""
        if line is not None:
            self._found.setdefault(path, line)
        return (*path, self._counts[path]) if path in self._counts else path

    def _pair(self, table: Path) -> None:
        """Scan `a.b = value`."""
        line = self._now.line
        for key in self._keys():
            table = (*table, key)
            self._found.setdefault(table, line)
        self._next()  # =
        self._value(table)

    def _keys(self) -> list[str]:
        keys = [self._next().key]
        while self._now.text == ".":
            self._next()
            keys.append(self._next().key)
        return keys

    def _value(self, path: Path) -> None:
        match self._now.text:
            case "[":
                self._array(path)
            case "{":
                self._inline(path)
            case _:
                self._next()
                while self._now.text == "." or self._now.kind == "word":  # 1.5, 1979-05-27 07:32
                    self._next()

    def _array(self, path: Path) -> None:
        self._next()
        index = 0
        while self._now.text != "]":
            if self._now.text == ",":
                index += 1
            if self._now.text == "," or self._now.kind == "newline":
                self._next()
                continue
            self._found[*path, index] = self._now.line
            self._value((*path, index))
        self._next()

    def _inline(self, path: Path) -> None:
        self._next()
        while self._now.text != "}":
            if self._now.text == "," or self._now.kind == "newline":
                self._next()
            else:
                self._pair(path)
        self._next()
