"""Tool calls, in all dialects: their limit, their ids, their arguments. Pure."""

from __future__ import annotations

import re
from hashlib import blake2b

import msgspec

from orchestra.errors import MalformedStreamError
from orchestra.values import Json, Tool

CALLS_MAX = 500
"""The most calls in one answer. Each is run, kept and sent back; no real answer has more."""
_ID_CHARS = 24


def next_call(calls: int) -> int:
    """The number of the next call of an answer, from 0, after `calls` others.

    Raises:
        MalformedStreamError: the answer has the most calls already.
    """
    if calls >= CALLS_MAX:
        raise MalformedStreamError(
            f"the answer calls tools more than {CALLS_MAX} times; ask for less at once, or forbid "
            "it with `parallel_tool_calls=False`"
        )
    return calls


def function_tool(tool: Tool) -> Json:
    """A tool as OpenAI first told one, and others after it."""
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def call_id(id_: str, taken: str, chars: int = _ID_CHARS) -> str:
    """The id if it matches the pattern, else a hash of it with so many digits."""
    return id_ if re.fullmatch(taken, id_) else fingerprint(id_, chars)


def fingerprint(text: str, chars: int) -> str:
    """A hash of the text with so many hexadecimal digits."""
    return blake2b(text.encode("utf-8", "surrogatepass")).hexdigest()[:chars]


def arguments_text(text: str) -> str:
    """The arguments of a tool call unchanged, except that `null` becomes "{}".

    Some models write `null` for no arguments, and some servers refuse it when it comes back.
    """
    return "{}" if text.strip() == "null" else text


def arguments_object(text: str) -> Json:
    """The arguments of a tool call as an object, for providers that accept only objects.

    Arguments that are not an object, cut or invalid, become `{"INVALID_JSON": text}`: the model
    sees them, and may do better.
    """
    try:
        found: object = msgspec.json.decode(arguments_text(text) or "{}")
    except (msgspec.DecodeError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"INVALID_JSON": text}
