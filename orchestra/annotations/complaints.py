"""Complaints: what is wrong with a value that could not be read, and where in it. Pure."""

from __future__ import annotations

import re

import attrs
import msgspec

from orchestra.messages import describe

_PLACE = re.compile(r" - at (?:`key` in )?`\$(?P<path>[^`]*)`$")


def complaint_of(error: Exception) -> tuple[str, str]:
    """What an error of reading says, and the path of the place: `.filters[0].year`, or "".

    Of a validator of attrs, which raises its message with all that it knows, the message counts,
    and the member that it is about is the place.
    """
    text = str(error)
    if isinstance(error, msgspec.ValidationError):
        text = text[:1].lower() + text[1:]
    elif not text or not isinstance(error, ValueError | TypeError):
        text = describe(error)
    path = ""
    while place := _PLACE.search(text):  # the last is the outermost
        path += place["path"]
        text = text[: place.start()]
    raised = error.__cause__ if isinstance(error, msgspec.ValidationError) else error
    if raised is not None and len(raised.args) > 1 and isinstance(raised.args[0], str):
        text = raised.args[0]
        members = (each for each in raised.args if isinstance(each, attrs.Attribute))
        path += "".join(f".{each.alias}" for each in members)
    return text, path
