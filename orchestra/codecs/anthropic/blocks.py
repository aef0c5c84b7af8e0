"""Blocks of Anthropic's messages: what they say, and how much of them is kept meanwhile. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import msgspec

from orchestra.codecs.framing.frames import FRAME_BYTES_MAX
from orchestra.codecs.raw_json import NOTHING, text_of
from orchestra.codecs.seals import ANTHROPIC, REDACTED, sealed
from orchestra.errors import MalformedStreamError
from orchestra.values import ModelEvent, ReasoningDelta, TextDelta, ToolCallDelta

BLOCKS = ("text", "thinking", "redacted_thinking", "tool_use")
"""The kinds that are read."""
STRANGE_MAX = 10_000
"""Blocks of other kinds that have begun and not ended; each is passed over by its number."""


class Block(msgspec.Struct):
    """A block of a whole message, or what is known of one at its beginning."""

    type: str = ""
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = NOTHING
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None


def block_events(block: Block, call: int) -> list[ModelEvent]:
    """What a block says, or its beginning; `call` is the number of the next call."""
    match block.type:
        case "text" | "":
            return [TextDelta(block.text)] if block.text else []
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
    """What a block has for arguments at once; "" for none, which is how a stream begins."""
    text = text_of(block.input)
    return "" if text == "{}" else text


def refuse_open(strange: AbstractSet[int], inputs: Mapping[int, str]) -> None:
    """Nothing, unless too much is kept of blocks that have no end yet.

    Raises:
        MalformedStreamError: it is.
    """
    if len(strange) > STRANGE_MAX:
        raise MalformedStreamError(
            f"over {STRANGE_MAX} blocks of the answer are of no known kind, and have no end"
        )
    if sum(map(len, inputs.values())) > FRAME_BYTES_MAX:
        raise MalformedStreamError(
            f"the tool calls of the answer have over {FRAME_BYTES_MAX} bytes of arguments, and "
            "no end"
        )
