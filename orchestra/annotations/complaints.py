"""Messages about a value, or its class, that could not be read. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import Literal, NoReturn, TypeAlias, get_args, get_origin

import attrs
import msgspec

from orchestra.annotations.places import Place, place_of
from orchestra.annotations.pydantic_models import ModelFaults
from orchestra.annotations.shapes import alternatives, plain
from orchestra.messages import describe, message

_ALLOWED_MAX = 20
_CHARS_MAX = 1_000
"""The most characters of a message; msgspec, for one, quotes a wrong value in full."""
_AT = " - at `"
_PLACE = re.compile(r" - at (?:`key` in )?`\$(?P<path>[^`]*)`")


def complaint_of(error: Exception) -> tuple[str, str]:
    """The message of an error, and the path of its place in the value: `.filters[0].year`, or "".

    An attrs validator raises an error with several arguments: its message is used, and the
    attribute's name is added to the path.
    """
    text = message(error)
    if isinstance(error, msgspec.ValidationError):
        text = _as_a_clause(text)
    elif not text or not isinstance(error, ValueError | TypeError):
        text = describe(error)
    text, path = _without_places(text)
    raised = error.__cause__ if isinstance(error, msgspec.ValidationError) else error
    given = () if raised is None or isinstance(raised, UnicodeError) else raised.args
    if len(given) > 1 and isinstance(given[0], str):
        text = given[0]
        members = (each for each in given if isinstance(each, attrs.Attribute))
        path += "".join(f".{each.alias}" for each in members)
    return _short(text), path


def _without_places(text: str) -> tuple[str, str]:
    """The text before the places at its end, and their path; the last of them is the outermost.

    It takes time in proportion to the text, which may quote whatever a client has sent.
    """
    paths, end = list[str](), len(text)
    while text.endswith("`", 0, end):
        start = text.rfind(_AT, 0, end)
        place = _PLACE.fullmatch(text, start, end) if start >= 0 else None
        if place is None:
            break
        paths.append(place["path"])
        end = start
    return text[:end], "".join(paths)


def _short(text: str) -> str:
    return text if len(text) <= _CHARS_MAX else f"{text[:_CHARS_MAX]}..."


Complaints: TypeAlias = tuple[tuple[str, Place], ...]
"""What is wrong with a value: messages, and their places in it."""


def complaints_of(error: Exception) -> Complaints:
    """The message of an error, and its place; if a Pydantic model does not fit, each of its faults.

    Message and place are as `complaint_of` returns them.
    """
    what, path = complaint_of(error)
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ModelFaults):
        cause = cause.__cause__
    if cause is None:
        return ((what, place_of(path)),)
    outer = path.removesuffix(cause.faults[0][1])
    return tuple((_short(each), place_of(outer + inner)) for each, inner in cause.faults)


def _as_a_clause(text: str) -> str:
    """The sentence with its first letter in lower case, except for names such as URL, KeyError."""
    word = text.partition(" ")[0]
    return text if word[1:] != word[1:].lower() else text[:1].lower() + text[1:]


def refuse_unknown_class(kind: object, *_: object) -> NoReturn:
    """A hook for msgspec: refuses every class that msgspec does not know.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(f"JSON has no form for {kind!r}; use a type that JSON can represent")


def with_allowed(complaint: str, kind: object) -> str:
    """The complaint about a whole value; for an enum or Literal, with the allowed values added."""
    allowed = [repr(each) for each in _allowed(kind)]
    if not allowed or not complaint.startswith("invalid enum value"):
        return complaint
    more = ["..."] if len(allowed) > _ALLOWED_MAX else []
    return f"{complaint}; one of: {', '.join(allowed[:_ALLOWED_MAX] + more)}"


def _allowed(kind: object) -> Iterator[object]:
    """The allowed values of Literals and enums, as they are written in JSON."""
    for each in alternatives(plain(kind)):
        if get_origin(each) is Literal:
            yield from get_args(each)
        elif isinstance(each, type) and issubclass(each, Enum):
            yield from (member.value for member in each)
