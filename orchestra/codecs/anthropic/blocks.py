"""Content blocks of Anthropic's messages, and the limits of blocks that have not ended. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import msgspec

from orchestra.codecs.framing.frames import FRAME_BYTES_MAX
from orchestra.codecs.raw_json import NOTHING, text_of
from orchestra.codecs.seals import ANTHROPIC, REDACTED, sealed
from orchestra.errors import MalformedStreamError
from orchestra.values import ModelEvent, ReasoningDelta, ToolCallDelta

BLOCKS = ("text", "thinking", "redacted_thinking", "tool_use")
"""The block types that are decoded; all others are ignored."""
STRANGE_MAX = 10_000
"""The most open blocks of other types; their indexes are kept, so that their deltas are ignored."""


class Block(msgspec.Struct):
    """A block of a complete message, or the first event of a streamed block."""

    type: str = ""
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = NOTHING
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    citations: object = None


def block_events(block: Block, call: int) -> list[ModelEvent]:
    """The events of a block other than text, or of its beginning.

    `call` is the number of the next tool call.
    """
    match block.type:
        case "thinking":
            thought = ReasoningDelta(block.thinking or "", sealed(ANTHROPIC, block.signature))
            return [thought] if block.thinking or block.signature else []
        case "redacted_thinking":
            return [ReasoningDelta("", sealed(REDACTED, block.data))] if block.data else []
        case "tool_use":
            return [ToolCallDelta(call, block.id or f"call_{call}", block.name or "")]
        case _:
            return []


def arguments_of(block: Block) -> str:
    """The arguments in a `tool_use` block; "" if empty, as at the beginning of a streamed block."""
    text = text_of(block.input)
    return "" if text == "{}" else text


def refuse_open(strange: AbstractSet[int], inputs: Mapping[int, str]) -> None:
    """Check the limits of blocks that have begun and not ended.

    Raises:
        MalformedStreamError: there are too many blocks, or too many bytes of arguments.
    """
    if len(strange) > STRANGE_MAX:
        raise MalformedStreamError(
            f"over {STRANGE_MAX} blocks of the answer have an unknown type, and no end"
        )
    if sum(map(len, inputs.values())) > FRAME_BYTES_MAX:
        raise MalformedStreamError(
            f"the tool calls of the answer have over {FRAME_BYTES_MAX} bytes of arguments, and "
            "no end"
        )
