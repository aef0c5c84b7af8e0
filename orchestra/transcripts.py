"""Transcripts: conversations, to keep one in a database and continue it in another run.

As JSON, a transcript is an array of messages, each an object with `role`, `content` and, if it has
one, `name`. `content` is a text, or an array of parts. A part has its `type` (a key of `KINDS`) and
the fields of its class, without those that have their default value; bytes are in base64. Fields
that a class does not have are ignored, so that an older version reads what a newer one has written.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)

import attrs
import msgspec

from orchestra.errors import RunError, StoreError
from orchestra.event_lines import read_back, written
from orchestra.values import (
    FilePart,
    ImagePart,
    ImageUrlPart,
    Json,
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCall,
    ToolResult,
)

KINDS: Mapping[str, type[Part]] = {
    "text": TextPart,
    "image": ImagePart,
    "image_url": ImageUrlPart,
    "file": FilePart,
    "reasoning": ReasoningPart,
    "tool_call": ToolCall,
    "tool_result": ToolResult,
}
"""The classes of parts, by the `type` that is written."""
_TYPES = {kind: name for name, kind in KINDS.items()}
_FIX = "give read_messages the bytes that write_messages has returned"


class ApprovalNeededError(RunError):
    """A model calls tools that a person has to approve first: see `tool(needs_approval=True)`.

    `calls` are these calls, none of which has run; `messages` is the conversation up to here, with
    the results of all other calls, and without the prompt of `generate(system=...)`. To go on, also
    in another process: `generate(messages, approved={call.id: True, ...}, tools=...)`.
    """

    def __init__(self, messages: Sequence[Message], calls: Sequence[ToolCall]) -> None:
        self.messages, self.calls = tuple(messages), tuple(calls)
        names = ", ".join(dict.fromkeys(call.name for call in calls))
        super().__init__(
            f"the model calls tools that need a person's approval: {names}; catch this error in a "
            "step around `generate.call(...)`, keep its `messages`, and pass the decisions to a "
            "second run: generate(messages, approved={call.id: True}, tools=...)"
        )


@attrs.frozen
class Refused:
    """A decision that a call does not run, with a reason for the model to read.

    `generate(messages, approved={call.id: Refused("from the other account")}, tools=...)`: the
    model may then call the tool with other arguments, which needs an approval of its own.
    """

    reason: str


@attrs.frozen(eq=False)
class Reply(AsyncIterator[str]):
    """What `generate.call(...)` returns: a model's text in chunks, and the conversation with it.

    Read the chunks within `async with contextlib.aclosing(reply):`, which closes the model's stream
    as soon as you stop reading, whatever the reason.
    """

    _chunks: AsyncGenerator[str, None]
    _messages: Callable[[], tuple[Message, ...]]

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far: what was asked, every round with its tool calls, the answer.

        The prompt of `generate(system=...)` is not in it. After the last chunk, it is complete:
        with a user's turn behind it, it can be asked in another run. At any other time, also if
        the run was cancelled or a call has failed, it has the rounds until then, the text of the
        last one as far as it came, and for each tool call a result. That of a call that was
        stopped, or still runs, says that it may have been done. Only calls that need approval have
        none: see `ApprovalNeededError`.
        """
        return self._messages()

    def __anext__(self) -> Awaitable[str]:
        """The next chunk."""
        return anext(self._chunks)

    async def aclose(self) -> None:
        """Close the model's stream, as `contextlib.aclosing` does."""
        await self._chunks.aclose()


class _Written(msgspec.Struct):
    role: Role
    content: str | list[Json]
    name: str | None = None


def write_messages(messages: Iterable[Message]) -> bytes:
    """The messages as JSON, with all that `read_messages` needs to return equal ones.

    It has everything that the messages have: prompts, images, files, and the provider's seals on
    reasoning. Keep it where clients cannot read or change it.
    """
    return written([_message(each) for each in messages])


def read_messages(data: bytes | str) -> list[Message]:
    """The messages that `write_messages` has written, also with an earlier version.

    Raises:
        StoreError: the data is cut, or is no transcript.
    """
    try:
        found = read_back(data.encode() if isinstance(data, str) else data)
        several = msgspec.convert(found, list[_Written])
        return [_read(each) for each in several]
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors, too
        raise StoreError(f"a transcript cannot be read: {error}; {_FIX}") from error


def open_calls(messages: Sequence[Message]) -> tuple[ToolCall, ...]:
    """The calls in the model's last turn that have no result, in order.

    Each of them needs a decision, or a `ToolResult`, before `generate` can go on.
    """
    ended: set[str] = set()
    for message in reversed(messages):
        if message.role == "assistant":
            calls = (part for part in message.parts if isinstance(part, ToolCall))
            return tuple(each for each in calls if each.id not in ended)
        ended |= {part.call_id for part in message.parts if isinstance(part, ToolResult)}
    return ()


def last_turns(messages: Sequence[Message], most: int) -> list[Message]:
    """The user's last `most` messages, with all that follows each; all messages if there are fewer.

    So a cut conversation begins with a message of the user's, and no tool call is parted from its
    result. Images and files that a tool has shown are no message of the user's. A `system` message
    is cut like any other: the prompt of `generate(system=...)` is not in the conversation.

    Raises:
        ValueError: `most` is less than 1.
    """
    if most < 1:
        raise ValueError(f"last_turns(most={most!r}): it must be 1 or more")
    begins = [at for at in range(len(messages)) if _is_users(messages, at)]
    return list(messages[begins[-most] if most <= len(begins) else 0 :])


def _is_users(messages: Sequence[Message], at: int) -> bool:
    """Whether the message is the user's, and not what a tool has shown."""
    if messages[at].role != "user":
        return False
    text_only = all(isinstance(part, TextPart) for part in messages[at].parts)
    return at == 0 or text_only or messages[at - 1].role != "tool"


def _message(message: Message) -> Json:
    named = {} if message.name is None else {"name": message.name}
    content = message.content
    told = content if isinstance(content, str) else [_part(each) for each in content]
    return {"role": message.role, "content": told, **named}


def _part(part: Part) -> Json:
    kind = type(part)
    values = ((each, getattr(part, each.name)) for each in attrs.fields(kind))
    return {"type": _TYPES[kind]} | {f.name: value for f, value in values if value != f.default}


def _read(written: _Written) -> Message:
    content = written.content
    told = content if isinstance(content, str) else tuple(map(_read_part, content))
    return Message(written.role, told, written.name)


def _read_part(part: Json) -> Part:
    name = part.get("type")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"a part has the type {name!r:.100}, and not one of {', '.join(KINDS)}")
    made: Part = msgspec.convert(part, kind)
    return attrs.evolve(made)  # msgspec does not call the converters of its fields
