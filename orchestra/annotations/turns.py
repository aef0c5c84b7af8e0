"""Turns of a conversation in JSON: `{"role": "user", "content": "..."}`.

This is the form of OpenAI's clients, for text only. Images, files and tool calls have a form
only in OpenAI's API, where the provider's abilities are known. As with documents, `for_msgspec`
replaces `Message` by a class of ours, as msgspec would read `Message` in another form.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import Any, cast

from orchestra.annotations.complaints import refuse_unknown_class
from orchestra.annotations.documents import with_stand_in
from orchestra.values import Json, Message, Role

ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
_SHAPE = '{"role": "user", "content": "..."}'


class JsonTurn(ABC):  # noqa: B024 - a stand-in for msgspec, like `documents.JsonDocument`
    """Stands in an annotation for a `Message`."""


JsonTurn.register(Message)


def for_msgspec(kind: object) -> Any:
    """The annotation with `JsonTurn` in place of each `Message`; unchanged without one."""
    return with_stand_in(kind, Message, JsonTurn)


def read(kind: type, value: object) -> object:
    """A `dec_hook` for msgspec: makes a `Message` from a value in JSON.

    Raises:
        TypeError, ValueError: the value is no turn; msgspec adds its place.
        NotImplementedError: it is another type than `JsonTurn`.
    """
    if kind is not JsonTurn:
        refuse_unknown_class(kind)
    if isinstance(value, Message):
        return value
    if not isinstance(value, Mapping) or not {"role", "content"} <= value.keys():
        raise ValueError(f"Expected a message, {_SHAPE}")
    role, content = value["role"], value["content"]
    if unknown := sorted(map(str, value.keys() - {"role", "content"})):
        raise ValueError(f"A message has no member {unknown[0]!r:.100}: {_SHAPE}")
    if not isinstance(role, str) or role not in ROLES:
        raise ValueError(
            f"A message's role is one of {', '.join(map(repr, ROLES))}, not {role!r:.100}"
        )
    if not isinstance(content, str):
        raise TypeError(
            "A message's content is text here; images, files and calls of tools may be sent to "
            "POST /v1/chat/completions, with the name of the pipeline as its model"
        )
    return Message(ROLES[role], content)


def schema(kind: type) -> Json:
    """A `schema_hook` for msgspec: the schema of a turn.

    Raises:
        NotImplementedError: it is another type than `JsonTurn`.
    """
    if kind is not JsonTurn:
        refuse_unknown_class(kind)
    return cast(
        "Json",
        {
            "title": "Message",
            "description": "A turn of a conversation.",
            "type": "object",
            "properties": {
                "role": {"type": "string", "enum": [*ROLES]},
                "content": {"type": "string"},
            },
            "required": ["role", "content"],
            "additionalProperties": False,
        },
    )
