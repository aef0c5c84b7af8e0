"""Tool calls, in all dialects: how many an answer may have, their ids, their arguments. Pure."""

from __future__ import annotations

import re
from hashlib import blake2b

import msgspec

from orchestra.errors import MalformedStreamError
from orchestra.values import Json

CALLS_MAX = 500
"""In one answer. Each is run, kept and sent back, and nobody wants the rest of so many."""
_ID_CHARS = 24


def next_call(calls: int) -> int:
    """The number of the next call of an answer, from 0, behind as many.

    Raises:
        MalformedStreamError: it has as many as an answer may have.
    """
    if calls >= CALLS_MAX:
        raise MalformedStreamError(
            f"the answer calls tools more than {CALLS_MAX} times; ask for less at once, or forbid "
            "it with `parallel_tool_calls=False`"
        )
    return calls


def call_id(id_: str, taken: str, chars: int = _ID_CHARS) -> str:
    """The id if it is as the pattern says, else one of so many digits: the same for the same."""
    return id_ if re.fullmatch(taken, id_) else fingerprint(id_, chars)


def fingerprint(text: str, chars: int) -> str:
    """A name of so many hexadecimal digits, the same for the same text."""
    return blake2b(text.encode("utf-8", "surrogatepass")).hexdigest()[:chars]


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
