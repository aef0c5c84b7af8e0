"""What providers do wrong in production, byte for byte, as handlers of an `upstream`.

Each speaks OpenAI's chat completions, in words of its own, so that an answer tells whose it is.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping

import attrs
import trio

from orchestra.accounts import Certainty, Usage
from orchestra.errors import (
    CapabilityError,
    ContentFilterError,
    ContextLengthError,
    MalformedStreamError,
    ModelConnectionError,
    ModelError,
    ModelTimeoutError,
    OverloadedError,
    ProviderServerError,
    RateLimitError,
    TruncatedStreamError,
)
from tests.providers.upstream import CHUNKED, Handler, Visit, holds, sends

PRIMARY = ("Alpha ", "beta ", "gamma")
HEALTHY = ("One ", "two ", "three")
SPENT = Usage(10, 3, cost_nanodollars=16_000)
"""What a whole answer consumes, as each of them counts, at 1 and 2 dollars for a million."""
BEGUN = Usage(10, 2, Certainty.PARTIAL, cost_nanodollars=14_000)
"""Of an answer that was cut: of the question what was counted, of the answer what was said."""
UNCOUNTED = Usage(6, 0, Certainty.ESTIMATED, cost_nanodollars=6_000)
"""Of one that was cut before it was counted: an estimate of the question, which was perhaps read."""
SLOW_S = 0.25
HURRY_S = 0.6
"""How long the silent ones are waited for; and so long may be what comes before their silence."""
LONG_S = 15.0
"""And everybody else: if a test takes as long, it has failed."""
EVENTS = CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-type: text/event-stream\r\n\r\n")
END = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def piece(data: bytes) -> bytes:
    """A chunk of a body that is sent in chunks."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(**fields: object) -> bytes:
    """An event of an answer, as a piece of the body."""
    return piece(b"data: " + json.dumps(fields).encode() + b"\n\n")


def said(text: str, reason: str | None = None, **more: object) -> bytes:
    """Some of an answer's text, and why it ends there."""
    return event(
        choices=[{"index": 0, "delta": {"content": text}, "finish_reason": reason}], **more
    )


ROLE = event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}])
COUNTED = {"prompt_tokens": 10, "completion_tokens": 3}
USAGE = event(choices=[], usage=COUNTED)
FIRST = said(PRIMARY[0], usage={"prompt_tokens": 10, "completion_tokens": 1})
"""The first word, with a count so far, as vLLM tells it."""
ERROR = event(error={"message": "The server is overloaded", "type": "overloaded_error"})
MALFORMED = piece(b"data: {not json\n\n")


def whole(words: tuple[str, ...]) -> tuple[bytes, ...]:
    """A whole answer in these words, up to its count."""
    return (EVENTS, ROLE, *map(said, words), said("", "stop"), USAGE)


def refusal(status: str, headers: str = "", **error: object) -> bytes:
    """An answer that is none."""
    body = json.dumps({"error": error}).encode() if error else b"{}"
    head = f"HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def speaks(words: tuple[str, ...]) -> Handler:
    """Answers every request with all of these words, and keeps the connection."""

    async def handle(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.send(*whole(words), piece(DONE), END)

    return handle


def once(words: tuple[str, ...]) -> Handler:
    """Answers one request with all of these words, and closes the connection."""
    head = EVENTS.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    return sends(head, *whole(words)[1:], piece(DONE), END)


def in_turn(*handlers: Handler) -> Handler:
    """Each connection is another's; who comes after them is the last one's."""

    async def handle(visit: Visit) -> None:
        await handlers[min(visit.number, len(handlers) - 1)](visit)

    return handle


async def resets(visit: Visit) -> None:
    """Ends the connection as a process that was killed does."""
    await visit.request()
    assert isinstance(visit.stream, trio.SocketStream)
    visit.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def slow(visit: Visit) -> None:
    """Accepts at once, and takes its time to the first word, with signs of life."""
    await visit.request()
    await visit.send(EVENTS, ROLE)
    for _ in range(5):
        with trio.move_on_after(SLOW_S / 5):
            await visit.left()
            return
        await visit.send(piece(b": ping\n\n"))
    await visit.send(*whole(PRIMARY)[2:], piece(DONE), END)
    await visit.left()


@attrs.frozen
class Fault:
    """One thing that goes wrong, and what a client sees of it who has nobody else to ask."""

    handle: Handler
    error: type[ModelError] | None
    """None where the answer is whole in spite of it."""
    midway: bool = False
    """Whether some of the answer was said before."""
    hurry: bool = False
    """Whether it is noticed by waiting."""
    spent: Usage | None = None
    """What it has cost, where it did not answer; None of a call that was refused."""


def _midway(error: type[ModelError], handle: Handler, *, hurry: bool = False) -> Fault:
    return Fault(handle, error, midway=True, hurry=hurry, spent=BEGUN)


def _unclear(error: type[ModelError], handle: Handler, *, hurry: bool = False) -> Fault:
    return Fault(handle, error, hurry=hurry, spent=UNCOUNTED)


_CONTEXT = "This model's maximum context length is 8192 tokens"
_FILTER = "The response was filtered due to the prompt triggering a content management policy"
_PREFILL = (
    "This model does not support assistant message prefill. "
    "The conversation must end with a user message."
)
_BEGUN = (EVENTS, ROLE, FIRST)

FAULTS: Mapping[str, Fault] = {
    "429": Fault(sends(refusal("429 Too Many Requests")), RateLimitError),
    "429 with a wait": Fault(
        sends(refusal("429 Too Many Requests", "retry-after: 30\r\n")), RateLimitError
    ),
    "500": Fault(sends(refusal("500 Internal Server Error")), ProviderServerError),
    "503": Fault(sends(refusal("503 Service Unavailable")), OverloadedError),
    "reset": _unclear(ModelConnectionError, resets),
    "no response": _unclear(ModelTimeoutError, holds(), hurry=True),
    "slow first token": Fault(slow, None),
    "stalls before the first token": _unclear(ModelTimeoutError, holds(EVENTS, ROLE), hurry=True),
    "cut before the first token": _unclear(ModelConnectionError, sends(EVENTS, ROLE)),
    "an error before the first token": Fault(holds(EVENTS, ROLE, ERROR, END), OverloadedError),
    "malformed before the first token": _unclear(
        MalformedStreamError, holds(EVENTS, ROLE, MALFORMED, END)
    ),
    "cut in the middle": _midway(ModelConnectionError, sends(*_BEGUN)),
    "an end in the middle": _midway(TruncatedStreamError, holds(*_BEGUN, END)),
    "an error in the middle": _midway(OverloadedError, holds(*_BEGUN, ERROR, END)),
    "stalls in the middle": _midway(ModelTimeoutError, holds(*_BEGUN), hurry=True),
    "malformed in the middle": _midway(MalformedStreamError, holds(*_BEGUN, MALFORMED, END)),
    "no [DONE]": Fault(holds(*whole(PRIMARY), END), None),
    "no [DONE] and cut": Fault(sends(*whole(PRIMARY)), None),
    "no [DONE] and silence": Fault(holds(*whole(PRIMARY)), None, hurry=True),
    "context length": Fault(
        sends(refusal("400 Bad Request", message=_CONTEXT, code="context_length_exceeded")),
        ContextLengthError,
    ),
    "content filter": Fault(
        sends(refusal("400 Bad Request", message=_FILTER, code="content_filter")),
        ContentFilterError,
    ),
    "content filter in the middle": Fault(
        holds(*_BEGUN, said("", "content_filter"), USAGE, piece(DONE), END),
        ContentFilterError,
        midway=True,
        spent=SPENT,
    ),
    "prefill rejected": Fault(
        sends(refusal("400 Bad Request", message=_PREFILL, type="invalid_request_error")),
        CapabilityError,
    ),
}


def hurry_s(fault: Fault) -> float:
    """How long a model is waited for that does this."""
    return HURRY_S if fault.hurry else LONG_S
