"""What the dialects share about raw JSON, JSON objects and the numbers in them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import msgspec

from orchestra.errors import CapabilityError
from orchestra.values import ChatRequest, Json

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


def arguments_object(text: str) -> Json:
    """The arguments of a tool call as an object, for providers that take nothing else.

    What is no object, because the answer was cut in it or a model wrote it wrong, goes back as
    `{"INVALID_JSON": text}`: the model sees what it did, and may do better.
    """
    try:
        found: object = msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"INVALID_JSON": text}


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


def count(record: Mapping[str, object], key: str) -> int:
    """A number of tokens in a usage record; 0 where there is none."""
    value = record.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def refuse_logprobs(request: ChatRequest, whom: str) -> None:
    """Nothing, unless the request wants to be told how likely tokens were.

    Raises:
        CapabilityError: it does.
    """
    if request.logprobs is not None:
        raise CapabilityError(
            f"logprobs={request.logprobs} cannot be asked of {whom} here; leave it out, or ask a "
            "server that speaks OpenAI's dialect"
        )
