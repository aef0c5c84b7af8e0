"""Raw JSON, merged bodies, texts with half a character, and messages for invalid JSON. Pure.

Half a character is a lone surrogate: one half of a pair that together is a character.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress

import msgspec

from orchestra.values import Json

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""The exceptions of msgspec for bytes that are not JSON, or not of the expected type."""
NOTHING = msgspec.Raw()
"""The default of a field of raw JSON: msgspec does not support `Raw | None`."""
_NOTHINGS = (NOTHING, msgspec.Raw(b"null"))
_SURROGATE = re.compile(rb"\\u[dD][89aAbB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])")


def given(raw: msgspec.Raw) -> bool:
    """Whether a field of raw JSON is present, and not null."""
    return raw not in _NOTHINGS


def text_of(raw: msgspec.Raw) -> str:
    """A JSON object as text without whitespace between its tokens; "{}" if it is missing."""
    if not given(raw):
        return "{}"
    text = bytes(raw)
    with suppress(RecursionError, msgspec.DecodeError):  # nested too deep for msgspec
        text = msgspec.json.format(text, indent=-1)
    return text.decode("utf-8", "replace")


def without_nulls(members: Mapping[str, object]) -> Json:
    """An object with only the members that are not None."""
    return {name: value for name, value in members.items() if value is not None}


def object_at(found: Mapping[str, object], key: str) -> Json:
    """The object that is the value of this key; an empty one for any other value."""
    value = found.get(key)
    return value if isinstance(value, dict) else {}


def merged(body: Json, extra: Mapping[str, object]) -> Json:
    """The body with further fields: objects are merged, other values are replaced."""
    result = dict(body)
    for key, value in extra.items():
        there = result.get(key)
        if isinstance(there, dict) and isinstance(value, dict):
            result[key] = merged(there, value)
        else:
            result[key] = value
    return result


def encode(value: object) -> bytes:
    """A value as JSON; half a character in its texts is escaped."""
    try:
        return _encode_whole(value)
    except UnicodeEncodeError:  # half a character
        return json.dumps(value, separators=(",", ":")).encode()


_encode_whole = msgspec.json.Encoder().encode


def invalid_json(sent: bytes, error: Exception, what: str = "the body") -> str:
    """The message for bytes that are not JSON; `what` names them.

    Of half a character, msgspec only says that the JSON was truncated, so this message names it.
    """
    if isinstance(error, RecursionError):  # its text differs between Python versions
        return f"{what} is nested too deeply"
    half = _SURROGATE.search(sent) if "truncated" in str(error) else None
    if half is not None and sent.rstrip().endswith(b"}"):
        return (
            f"{what} is not JSON: {half[0].decode()} is half of a character; send both halves, "
            "or leave it out"
        )
    if "out of range" in str(error):  # it is JSON, but its place is not said: `$[...]`
        return f"{what} has a number that is out of range; numbers go up to 1.8e308"
    return f"{what} is not JSON: {error}"
