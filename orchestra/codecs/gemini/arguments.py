"""Joins the arguments of a tool call that Vertex streams in pieces (`streamFunctionCallArguments`).

Each piece has a path, as in `$.items[0].name`. Paths come in order: an object's members as they
are written, a list's items from the first. So a list never has a hole, and a path cannot make us
allocate more than its length.
"""

from __future__ import annotations

import re
from itertools import pairwise

import msgspec

from orchestra.codecs.framing.frames import FRAME_BYTES_MAX, PIECE_BYTES
from orchestra.errors import MalformedStreamError

_STEP = re.compile(
    r"""\.([^.\[\]]+)|\[(\d{1,9})\]|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]"""
)
_ESCAPED = re.compile(r"\\(.)")
_EXACT = 2**53  # every number comes as a double, which is exact for whole numbers up to this
_DEPTH_MAX = 100
"""The deepest nesting of arguments; those of real functions are flatter."""


class PartialArgument(msgspec.Struct, rename="camel"):
    """One piece: a path, and the value at it or the next piece of the text at it; else a null."""

    json_path: str
    string_value: str | None = None
    number_value: float | None = None
    bool_value: bool | None = None


class Arguments:
    """Joins the arguments of one call; the time to add a piece depends only on the piece."""

    def __init__(self, given: dict[str, object]) -> None:
        self._root = given
        self._size_bytes = 0  # the approximate size of all pieces so far

    def add(self, piece: PartialArgument) -> None:
        """Add a piece: text is appended to the text at its path, other values are set.

        Raises:
            MalformedStreamError: its path is invalid, or does not fit the values so far; or the
                pieces exceed 16 MiB together.
        """
        self._size_bytes += PIECE_BYTES + len(piece.json_path) + len(piece.string_value or "")
        if self._size_bytes > FRAME_BYTES_MAX:
            raise MalformedStreamError(
                f"the arguments of a tool call are over {FRAME_BYTES_MAX} bytes in total"
            )
        steps = _steps(piece.json_path)
        box: object = self._root
        for step, following in pairwise(steps):
            box = _child(box, step, [] if isinstance(following, int) else {}, piece.json_path)
        if piece.string_value is None:
            _put(box, steps[-1], _plain(piece), piece.json_path)
            return
        text = _child(box, steps[-1], _Text(), piece.json_path)
        if not isinstance(text, _Text):
            raise _wrong(piece.json_path)
        text.pieces.append(piece.string_value)

    def json(self) -> str:
        """All arguments, as JSON text.

        Raises:
            MalformedStreamError: they are nested too deeply.
        """
        try:
            return msgspec.json.encode(_whole(self._root)).decode()
        except RecursionError as error:
            raise MalformedStreamError(
                "the arguments of a tool call are nested too deeply"
            ) from error


class _Text:
    """A text that is growing."""

    def __init__(self) -> None:
        self.pieces: list[str] = []


def _steps(path: str) -> list[str | int]:
    steps: list[str | int] = []
    at = 1
    while path.startswith("$") and at < len(path) and len(steps) < _DEPTH_MAX:
        found = _STEP.match(path, at)
        if found is None:
            break
        member, index, single, double = found.groups()
        quoted = single if single is not None else double
        if index is not None:
            steps.append(int(index))
        else:
            steps.append(member if quoted is None else _ESCAPED.sub(r"\1", quoted))
        at = found.end()
    if not steps or at != len(path):
        raise _wrong(path)
    return steps


def _child(box: object, step: str | int, new: object, path: str) -> object:
    """The value at this place; if there is none, a new one."""
    if isinstance(box, list) and isinstance(step, int) and step < len(box):
        return box[step]
    if isinstance(box, dict) and isinstance(step, str) and step in box:
        return box[step]
    _put(box, step, new, path)
    return new


def _put(box: object, step: str | int, value: object, path: str) -> None:
    if isinstance(box, dict) and isinstance(step, str):
        box[step] = value
    elif isinstance(box, list) and isinstance(step, int) and step <= len(box):
        box[step : step + 1] = [value]
    else:
        raise _wrong(path)


def _plain(piece: PartialArgument) -> object:
    if piece.bool_value is not None:
        return piece.bool_value
    number = piece.number_value
    whole = number is not None and number.is_integer() and abs(number) < _EXACT
    return int(number) if number is not None and whole else number


def _whole(value: object) -> object:
    if isinstance(value, _Text):
        return "".join(value.pieces)
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, list) else value


def _wrong(path: str) -> MalformedStreamError:
    return MalformedStreamError(
        f"a piece of a tool call's arguments has the path {path[:200]!r}, which is invalid, or "
        "does not fit the pieces before it"
    )
