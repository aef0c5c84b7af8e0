"""What stands in JSON for a turn of a conversation: `{"role": "user", "content": "..."}`.

As OpenAI's clients write one that is text. Images, files and calls of tools have a form over
OpenAI's API only, where it is known what a provider may be sent. As with documents, `for_msgspec`
puts a class of ours in the place of `Message`, which msgspec would take for something else.
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


class JsonTurn(ABC):  # noqa: B024 - a name for msgspec, as `documents.JsonDocument` is
    """What is read as a turn."""


JsonTurn.register(Message)


def for_msgspec(kind: object) -> Any:
    """The annotation with `JsonTurn` for each `Message` in it; the same where there is none."""
    return with_stand_in(kind, Message, JsonTurn)


def read(kind: type, value: object) -> object:
    """For msgspec's `dec_hook`: the turn that a value in JSON means.

    Raises:
        TypeError, ValueError: it means none; msgspec tells where it stands.
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
    """For msgspec's `schema_hook`: what `read` reads.

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
