"""Tool calls, in all dialects: their limit, their ids, their arguments. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

import attrs
import msgspec

from orchestra.errors import MalformedStreamError
from orchestra.values import Json, Message, Part, Tool, ToolCall, ToolResult

CALLS_MAX = 500
"""The most calls in one answer. Each is run, stored and sent back; no real answer has more."""
_ID_CHARS = 24


def next_call(calls: int) -> int:
    """The number of an answer's next call, counted from 0, after `calls` others.

    Raises:
        MalformedStreamError: the answer already has `CALLS_MAX` calls.
    """
    if calls >= CALLS_MAX:
        raise MalformedStreamError(
            f"the answer calls tools more than {CALLS_MAX} times; ask for less at once, or allow "
            "one call at a time with `parallel_tool_calls=False`"
        )
    return calls


def function_tool(tool: Tool) -> Json:
    """A tool in OpenAI's original format, which other providers have adopted."""
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def call_id(id_: str, pattern: str, chars: int = _ID_CHARS) -> str:
    """The id if all of it matches the pattern, else a hash of it with `chars` digits."""
    return id_ if re.fullmatch(pattern, id_) else fingerprint(id_, chars)


def told_apart(messages: Sequence[Message]) -> Sequence[Message]:
    """The messages, with a new id for each call whose id an earlier one has, and for its result.

    Some models call their first call `call_0` in each of their turns, and Claude refuses a
    conversation in which an id comes twice. What is added at the end changes no id before it.
    """
    parts = (part for each in messages for part in each.parts)
    ids = [part.id for part in parts if isinstance(part, ToolCall)]
    if len(set(ids)) == len(ids):
        return messages
    taken: set[str] = set()
    times: Counter[str] = Counter()
    now: dict[str, str] = {}  # what the last call with an id is called

    def renamed(part: Part) -> Part:
        if isinstance(part, ToolResult):
            return attrs.evolve(part, call_id=now.get(part.call_id, part.call_id))
        if not isinstance(part, ToolCall):
            return part
        new = part.id
        while new in taken:
            times[part.id] += 1
            new = f"{part.id}-{times[part.id]}"
        taken.add(new)
        now[part.id] = new
        return attrs.evolve(part, id=new)

    return [attrs.evolve(each, content=tuple(map(renamed, each.parts))) for each in messages]


def fingerprint(text: str, chars: int) -> str:
    """A hash of the text: `chars` hexadecimal digits."""
    return blake2b(text.encode("utf-8", "surrogatepass")).hexdigest()[:chars]


def arguments_text(text: str) -> str:
    """The arguments of a tool call unchanged, except that `null` becomes "{}".

    Some models write `null` for no arguments, and some servers refuse it when it comes back.
    """
    return "{}" if text.strip() == "null" else text


def arguments_object(text: str) -> Json:
    """The arguments of a tool call as an object, for providers that accept only objects.

    Arguments that are not an object, or are cut or invalid, become `{"INVALID_JSON": text}`: the
    model sees its mistake, and may correct it.
    """
    try:
        found: object = msgspec.json.decode(arguments_text(text) or "{}")
    except (msgspec.DecodeError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"INVALID_JSON": text}
