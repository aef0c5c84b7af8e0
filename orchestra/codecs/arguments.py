"""What the dialects share about raw JSON, JSON objects and the numbers in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

import msgspec

from orchestra.accounts import Certainty
from orchestra.errors import CapabilityError, MalformedStreamError
from orchestra.values import ChatRequest, Json

NOTHING = msgspec.Raw()
"""The default of a field of raw JSON: msgspec does not know `Raw | None`."""
TOKENS_MAX = 2**32
"""More is no count but a fault of whoever counted: the longest context known has ten million, and
one such number would be a debt of thousands of dollars."""
COUNTS_MAX = 100
"""Of a usage record, by their names; a record that grows with each event is copied each time."""
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


def arguments_text(text: str) -> str:
    """The arguments of a tool call as they were written, but that `null` is "{}".

    Some models write it for none, and some servers refuse it when it comes back.
    """
    return "{}" if text.strip() == "null" else text


def arguments_object(text: str) -> Json:
    """The arguments of a tool call as an object, for providers that take nothing else.

    What is no object, because the answer was cut in it or a model wrote it wrong, goes back as
    `{"INVALID_JSON": text}`: the model sees what it did, and may do better.
    """
    try:
        found: object = msgspec.json.decode(arguments_text(text) or "{}")
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


def token_count(value: object) -> int | None:
    """A number of tokens, which some servers write as `3.0`; None for what is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= TOKENS_MAX else None


def count(record: Mapping[str, object], key: str) -> int:
    """A number of tokens in a usage record; 0 where there is none."""
    return token_count(record.get(key)) or 0


def certain(record: Mapping[str, object], keys: Iterable[str], certainty: Certainty) -> Certainty:
    """How certain a usage record is: partial where one of its counts is no number of tokens."""
    for key in keys:
        if record.get(key) is not None and token_count(record[key]) is None:
            return Certainty.PARTIAL
    return certainty


def latest(before: Json, told: Json) -> Json:
    """The counts of a usage record, each as it was told last; null tells nothing.

    Raises:
        MalformedStreamError: they have more names than any provider has for what it counts.
    """
    found = before | {name: value for name, value in told.items() if value is not None}
    if len(found) > COUNTS_MAX:
        raise MalformedStreamError(
            f"the usage of the answer has over {COUNTS_MAX} counts, "
            f"such as {list(found)[-1]!r:.100}"
        )
    return found


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
