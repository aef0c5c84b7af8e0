"""The rough memory size of an answer's events. Pure.

A provider decides how many events it sends, and what is in them. So where events are kept, a bound
in bytes has to count all of their contents, not only text.
"""

from __future__ import annotations

from contextlib import suppress
from typing import get_args

import msgspec

from orchestra.citations import Cited, cited_chars
from orchestra.logprobs import Logprobs, TokenLogprob
from orchestra.policies.requests.tokens import output_bytes
from orchestra.values import ModelEvent, ReasoningDelta, TextDelta, ToolCallDelta, UsageReport

MODEL_EVENTS = get_args(ModelEvent)
"""The classes of `ModelEvent`."""
_TOKEN_BYTES = 256  # per token with its log probability
_NUMBER_BYTES = 8
_USAGE_BYTES = 512


def held_bytes(event: ModelEvent) -> int:
    """The bytes of an event's contents, without the fixed size of every event."""
    match event:
        case TextDelta():  # nearly all events
            return output_bytes(event)
        case Logprobs(content=content, refusal=refusal):
            tokens = (*content, *refusal)
            return sum(map(_token_bytes, tokens)) + sum(
                _token_bytes(each) for token in tokens for each in token.top
            )
        case Cited():
            return cited_chars(event)
        case UsageReport(raw=raw):
            size = _USAGE_BYTES
            # a project's own model class may put anything there
            with suppress(TypeError, ValueError, RecursionError):
                size += len(msgspec.json.encode(raw))
            return size
        case ReasoningDelta(signature=signature) | ToolCallDelta(signature=signature):
            return output_bytes(event) + len(signature)
    return output_bytes(event)


def _token_bytes(token: TokenLogprob) -> int:
    return _TOKEN_BYTES + len(token.token) + _NUMBER_BYTES * len(token.data or ())
