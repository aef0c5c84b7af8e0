"""JSON that is passed on as it is, put together of several, or has half a character. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress

import msgspec

from orchestra.values import Json

NOTHING = msgspec.Raw()
"""The default of a field of raw JSON: msgspec does not know `Raw | None`."""
_NOTHINGS = (NOTHING, msgspec.Raw(b"null"))


def given(raw: msgspec.Raw) -> bool:
    """Whether a field of raw JSON is there, and not null."""
    return raw not in _NOTHINGS


def text_of(raw: msgspec.Raw) -> str:
    """A JSON object as text without blanks, its numbers and names as they are; "{}" for none."""
    if not given(raw):
        return "{}"
    text = bytes(raw)
    with suppress(RecursionError, msgspec.DecodeError):  # too deep to be looked through
        text = msgspec.json.format(text, indent=-1)
    return text.decode("utf-8", "replace")


def without_nulls(members: Mapping[str, object]) -> Json:
    """An object of those members that are not None."""
    return {name: value for name, value in members.items() if value is not None}


def merged(body: Json, extra: Mapping[str, object]) -> Json:
    """The body with more in it: objects are merged, whatever else is there is replaced."""
    result = dict(body)
    for key, value in extra.items():
        there = result.get(key)
        if isinstance(there, dict) and isinstance(value, dict):
            result[key] = merged(there, value)
        else:
            result[key] = value
    return result


def encode(value: object) -> bytes:
    """A value as JSON, also where it has half a character."""
    try:
        return _encode_whole(value)
    except UnicodeEncodeError:  # half a character, which JSON has an escape for
        return json.dumps(value, separators=(",", ":")).encode()


_encode_whole = msgspec.json.Encoder().encode
