"""Reads the descriptions of a function and its parameters from a docstring, in three styles.

These are Google's `Args:`, NumPy's underlined `Parameters`, and Sphinx's `:param name:`. The text
before the first section is the description; other sections are left out.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest

import attrs

from orchestra.eventclass import frozen

_MEMBERS = {
    *("args", "arguments", "parameters", "params", "attributes"),
    *("keyword args", "keyword arguments", "other parameters"),
}
_OTHERS = {
    *("returns", "return", "yields", "raises", "example", "examples", "note", "notes"),
    *("see also", "warning", "warnings", "references", "todo"),
}
_HEADING = re.compile(r"(\w[\w ]*?):?\s*")
_LINE = re.compile(r"-{3,}\s*")
_FIELD = re.compile(r":(?P<kind>\w+)\b(?:[^:]*?\s(?:\*{0,2})(?P<name>\w+))?:\s*(?P<text>.*)")
_GOOGLE = re.compile(r"\*{0,2}(?P<name>\w+)\s*(?:\(.*?\))?\s*:\s*(?P<text>.*)")
_NUMPY = re.compile(r"\*{0,2}(?P<name>\w+)\s*(?::.*)?(?P<text>)")
_FIELDS = {"param", "parameter", "arg", "argument", "key", "keyword", "attribute"}


@frozen
class Described:
    """A description, and the descriptions of members (parameters or attributes) by name."""

    text: str = ""
    members: Mapping[str, str] = attrs.field(factory=dict)


def described(docstring: str | None) -> Described:
    """Parse a docstring. Never raises: text that is not recognized stays in the description."""
    if not docstring:
        return Described()
    before: list[str] = []
    members: dict[str, str] = {}
    for heading, lines in _sections(inspect.cleandoc(docstring).splitlines()):
        if not heading:
            before = lines
        elif heading in _MEMBERS:
            members.update(_members(lines))
        elif heading.startswith(":"):
            members[heading[1:]] = _joined(lines)
    return Described("\n".join(before).strip(), members)


def _sections(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The heading and lines of each section.

    The heading is "" for the text before the first section, and `:name` for a field of Sphinx.
    """
    heading, held = "", list[str]()
    for line, after in zip_longest(lines, lines[1:], fillvalue=""):
        found = _heading(line, after)
        if found is None:
            held.append(line)
            continue
        yield heading, held
        heading, text = found
        held = [text] if text else []
    yield heading, held


def _heading(line: str, after: str) -> tuple[str, str] | None:
    """The heading on a line and the text after it; None if the line is not a heading."""
    if field := _FIELD.fullmatch(line):
        name = field["name"] if field["kind"] in _FIELDS else None
        return (f":{name}" if name else "another section", field["text"])
    word = _HEADING.fullmatch(line)
    if word is None or word[1].lower() not in _MEMBERS | _OTHERS:
        return None
    if not line.rstrip().endswith(":") and not _LINE.fullmatch(after):
        return None
    return word[1].lower(), ""


def _members(lines: list[str]) -> dict[str, str]:
    """The entries of a section, by name; each begins at the section's smallest indent."""
    filled = [line for line in lines if line.strip()]
    underlined = bool(filled) and _LINE.fullmatch(filled[0]) is not None
    entry = _NUMPY if underlined else _GOOGLE
    found: dict[str, list[str]] = {}
    text: list[str] = []
    outer = min((_indent(line) for line in filled), default=0)
    for line in filled[underlined:]:
        match = entry.fullmatch(line.strip()) if _indent(line) == outer else None
        if match is not None:
            text = found.setdefault(match["name"], [])
        text.append(line if match is None else match["text"])
    return {name: _joined(held) for name, held in found.items()}


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _joined(lines: Iterable[str]) -> str:
    return " ".join(filter(None, (line.strip() for line in lines)))
