"""JSON that is passed on unchanged, merged, encoded with half a character, or invalid. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress

import msgspec

from orchestra.values import Json

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises of bytes that are not JSON, or not of the expected type."""
NOTHING = msgspec.Raw()
"""The default of a field of raw JSON: msgspec does not know `Raw | None`."""
_NOTHINGS = (NOTHING, msgspec.Raw(b"null"))
_SURROGATE = re.compile(rb"\\u[dD][89aAbB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])")


def given(raw: msgspec.Raw) -> bool:
    """Whether a field of raw JSON is present, and not null."""
    return raw not in _NOTHINGS


def text_of(raw: msgspec.Raw) -> str:
    """A JSON object as text without blanks, otherwise unchanged; "{}" if it is missing."""
    if not given(raw):
        return "{}"
    text = bytes(raw)
    with suppress(RecursionError, msgspec.DecodeError):  # nested too deep for msgspec
        text = msgspec.json.format(text, indent=-1)
    return text.decode("utf-8", "replace")


def without_nulls(members: Mapping[str, object]) -> Json:
    """An object of those members that are not None."""
    return {name: value for name, value in members.items() if value is not None}


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
    """A value as JSON, even if a text in it has half a character."""
    try:
        return _encode_whole(value)
    except UnicodeEncodeError:  # half a character, which can be escaped
        return json.dumps(value, separators=(",", ":")).encode()


_encode_whole = msgspec.json.Encoder().encode


def invalid_json(sent: bytes, error: Exception, what: str = "the body") -> str:
    """The error text; for half a character, msgspec's own text says that the body was cut."""
    if isinstance(error, RecursionError):  # its text differs between Python versions
        return f"{what} is nested too deeply"
    half = _SURROGATE.search(sent) if "truncated" in str(error) else None
    if half is not None and sent.rstrip().endswith(b"}"):
        return (
            f"{what} is not JSON: {half[0].decode()} is half of a character; send both halves, "
            "or leave it out"
        )
    return f"{what} is not JSON: {error}"
