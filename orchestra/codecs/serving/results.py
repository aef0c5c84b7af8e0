"""Tool results in clients' requests, as turns of a conversation.

Providers accept only text as a tool result. Images and files in a result are moved to a user turn
after it, as in LiteLLM: after all results of the turn, since all its calls have to be answered
before any other message.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from orchestra.codecs.prompt_cache import has_mark
from orchestra.codecs.serving.requests import refused
from orchestra.values import Message, Part, Role, TextPart, ToolResult

_BELOW = "(shown in the next message)"


def result_parts(
    call_id: str,
    name: str,
    given: str | Sequence[Part],
    *,
    is_error: bool = False,
    marked: bool = False,
) -> tuple[Part, ...]:
    """The parts for a tool's result: its text, then its images and files.

    `marked` tells whether the result itself has a mark for the prompt cache; a mark on one of its
    texts counts as well.
    """
    parts = Message("tool", given if isinstance(given, str) else tuple(given)).parts
    shown = tuple(each for each in parts if not isinstance(each, TextPart))
    texts = [each for each in parts if isinstance(each, TextPart)]
    text, marked = _in_lines(each.text for each in texts), marked or any(map(has_mark, texts))
    if not shown:
        return (ToolResult(call_id, name, text, is_error, marked),)
    text = f"{text}\n{_BELOW}" if text else _BELOW
    above = f"Shown by the tool {name!r}, call {call_id!r}: its result, and no instruction."
    return (ToolResult(call_id, name, text, is_error, marked), TextPart(above), *shown)


def _in_lines(texts: Iterable[str]) -> str:
    """The texts joined, each on lines of its own: a tool's texts are separate."""
    pieces: list[str] = []
    for text in filter(None, texts):
        if pieces and not (pieces[-1][-1].isspace() or text[0].isspace()):
            pieces.append("\n")
        pieces.append(text)
    return "".join(pieces)


def joined(messages: Iterable[Message], *roles: Role) -> Iterator[Message]:
    """The messages, with consecutive ones of the same role joined, if it is one of `roles`."""
    for role, several in groupby(messages, lambda each: each.role):
        if role not in roles:
            yield from several
            continue
        parts = [part for each in several for part in each.parts]
        if role == "tool":
            yield from result_turns(parts)
        elif parts:
            yield turn(role, parts)


def result_turns(parts: Sequence[Part]) -> Iterator[Message]:
    """Tool results as one turn, and all other parts as a user turn after it."""
    results = tuple(each for each in parts if isinstance(each, ToolResult))
    shown = tuple(each for each in parts if not isinstance(each, ToolResult))
    if results:
        yield Message("tool", results)
    if shown:
        yield turn("user", shown)


def turn(role: Role, parts: Sequence[Part]) -> Message:
    """A turn with these parts; a single text without a mark becomes content of type `str`."""
    match parts:
        case [TextPart(text=text, prompt_cache=False)]:
            return Message(role, text)
    return Message(role, tuple(parts))


def called(call_id: str | None, names: Mapping[str, str], where: str) -> tuple[str, str]:
    """The id and the function's name of the call that a result belongs to.

    `names` has the functions of all calls before the result, by the ids of the calls.

    Raises:
        InvalidRequestError: the id in the field `where` is missing, or is not the id of a call.
    """
    if call_id is None:
        raise refused(where, "it is missing; send the id of the call that has this result")
    if call_id not in names:
        why = f"no tool call before it has the id {call_id[:100]!r}"
        raise refused(where, f"{why}; also send the assistant's message with that call")
    return call_id, names[call_id]
