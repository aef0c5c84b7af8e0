"""Turns of a conversation in JSON: `{"role": "user", "content": "..."}`.

This is the form of OpenAI's clients, for text only. Images, files and tool calls are supported
only in the OpenAI-compatible API, where the model's abilities are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from orchestra.annotations.stand_ins import StandIn
from orchestra.values import Json, Message, Role

ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
TURN = '{"role": "user", "content": "..."}'
"""An example of a turn in JSON, for errors."""


class JsonTurn(StandIn):
    """Replaces `Message` in an annotation."""

    stands_for = Message
    schema: ClassVar[Json] = {
        "title": "Message",
        "description": "A turn of a conversation.",
        "type": "object",
        "properties": {
            "role": {"type": "string", "enum": [*ROLES]},
            "content": {"type": "string"},
        },
        "required": ["role", "content"],
        "additionalProperties": False,
    }

    @staticmethod
    def read(value: object) -> Message:
        """The message with this role and this text."""
        if not isinstance(value, Mapping) or not {"role", "content"} <= value.keys():
            raise ValueError(f"Expected a message, {TURN}")
        role, content = value["role"], value["content"]
        if unknown := sorted(map(str, value.keys() - {"role", "content"})):
            raise ValueError(f"A message has no member {unknown[0]!r:.100}: {TURN}")
        if not isinstance(role, str) or role not in ROLES:
            raise ValueError(
                f"A message's role is one of {', '.join(map(repr, ROLES))}, not {role!r:.100}"
            )
        if not isinstance(content, str):
            raise TypeError(
                "A message's content is text here; send images, files and tool calls to "
                "POST /v1/chat/completions, with the name of the pipeline as the model"
            )
        return Message(ROLES[role], content)


JsonTurn.register(Message)
