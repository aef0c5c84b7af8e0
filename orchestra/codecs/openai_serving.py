"""OpenAI's answers, written: for clients that ask us as if we were OpenAI.

A stream is written as it happens, event by event. It ends in `[DONE]` only where the answer has
said why it stopped; where it failed, the error is the last thing in it, and a client that knows
the dialect raises it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import ceil

import attrs
import msgspec

from orchestra.accounts import Usage
from orchestra.answers import Completion
from orchestra.codecs.openai_usage import usage_record
from orchestra.errors import (
    AuthenticationError,
    ContentFilterError,
    ContextLengthError,
    InvalidRequestError,
    ModelError,
    ModelNotFoundError,
    ModelTimeoutError,
    OverloadedError,
    PermissionDeniedError,
    ProviderServerError,
    QuotaError,
    RateLimitError,
    TruncatedStreamError,
)
from orchestra.values import (
    Began,
    Json,
    ModelEvent,
    ReasoningDelta,
    RefusalDelta,
    StopReason,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)

_WORDS: Mapping[StopReason, str] = {
    StopReason.LENGTH: "length",
    StopReason.TOOL_CALLS: "tool_calls",
    StopReason.CONTENT_FILTER: "content_filter",
}
"""Whatever else made a model stop is `stop`: the dialect has no more words."""
_ERRORS: tuple[tuple[type[ModelError], int, str, str | None], ...] = (
    (ContextLengthError, 400, "invalid_request_error", "context_length_exceeded"),
    (InvalidRequestError, 400, "invalid_request_error", None),
    (ContentFilterError, 400, "invalid_request_error", "content_filter"),
    (AuthenticationError, 401, "authentication_error", "invalid_api_key"),
    (PermissionDeniedError, 403, "permission_error", "permission_denied"),
    (ModelNotFoundError, 404, "invalid_request_error", "model_not_found"),
    (RateLimitError, 429, "rate_limit_error", "rate_limit_exceeded"),
    (QuotaError, 429, "insufficient_quota", "insufficient_quota"),
    (OverloadedError, 503, "server_error", "overloaded"),
    (ModelTimeoutError, 504, "server_error", "timeout"),
    (ProviderServerError, 500, "server_error", "server_error"),
    (ModelError, 502, "server_error", "upstream_error"),
)
"""The first that fits: status, type, and code where the error brings none of its own."""
_PATH = re.compile(r"[a-z_]+(?:\[\d+\]|\.[a-z_]+)*")


@attrs.frozen
class ServedError:
    """An error as an HTTP answer: its status, its headers, and its JSON body."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class AnswerWriter:
    """One answer, written as server-sent events while it arrives.

    `answer_id` and `model` are what the client is told; where they are "", what the provider said.
    `created_s` is seconds since 1970.
    """

    def __init__(
        self,
        created_s: int,
        *,
        answer_id: str = "",
        model: str = "",
        include_usage: bool = False,
    ) -> None:
        self._created_s = created_s
        self._id, self._model = answer_id, model
        self._include_usage = include_usage
        self._usage: Usage | None = None
        self._stopped = False
        self._before = self._after = b""

    def write(self, events: Iterable[ModelEvent]) -> bytes:
        """The chunks that these events are; none for usage, which stands at the end."""
        return b"".join(map(self._event, events))

    def close(self) -> bytes:
        """The usage, where the client asked for it, and the end.

        Raises:
            TruncatedStreamError: the answer has not stopped; write `failed` of it instead.
        """
        if not self._stopped:
            raise TruncatedStreamError(
                "the answer has not said why it stopped, and must not look complete: "
                "tell the client of the error"
            )
        usage = b""
        if self._include_usage and self._usage is not None:
            usage = _frame({**self._head(), "choices": [], "usage": usage_record(self._usage)})
        return usage + b"data: [DONE]\n\n"

    def failed(self, error: ModelError) -> bytes:
        """The error, as the last event of the stream."""
        return b"data: " + error_reply(error).body + b"\n\n"

    def _event(self, event: ModelEvent) -> bytes:
        match event:
            case TextDelta(text=text):
                return self._delta({"content": text})
            case ReasoningDelta(text=text):
                return self._delta({"reasoning_content": text})
            case RefusalDelta(text=text):
                return self._delta({"refusal": text})
            case ToolCallDelta():
                return self._delta({"tool_calls": [_call_delta(event)]})
            case UsageReport(usage=usage):
                self._usage = usage
                return b""
            case Began(id=id_, model=model):
                self._id, self._model = self._id or id_, self._model or model
                return self._begin()
        self._stopped = True
        return self._begin() + self._chunk({}, _WORDS.get(event.reason, "stop"))

    def _begin(self) -> bytes:
        """The chunk that says who speaks, once."""
        if self._before:
            return b""
        head = msgspec.json.encode(self._head())
        self._before = b"data: " + head[:-1] + b',"choices":[{"index":0,"delta":'
        self._after = b',"finish_reason":null}]}\n\n'
        return self._chunk({"role": "assistant", "content": ""}, None)

    def _delta(self, delta: Json) -> bytes:
        return self._begin() + self._before + msgspec.json.encode(delta) + self._after

    def _chunk(self, delta: Json, finish: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _frame({**self._head(), "choices": [choice]})

    def _head(self) -> Json:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created_s,
            "model": self._model,
        }


def answer_body(
    completion: Completion, created_s: int, *, answer_id: str = "", model: str = ""
) -> bytes:
    """A whole answer as the body of a response; `answer_id` and `model` as of an `AnswerWriter`."""
    message: Json = {
        "role": "assistant",
        "content": completion.text or None,
        "refusal": completion.refusal or None,
    }
    if completion.reasoning:
        message["reasoning_content"] = completion.reasoning
    if calls := completion.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in calls
        ]
    finish = _WORDS.get(completion.stopped.reason, "stop")
    answer: Json = {
        "id": answer_id or completion.id,
        "object": "chat.completion",
        "created": created_s,
        "model": model or completion.model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }
    if completion.usage is not None:
        answer["usage"] = usage_record(completion.usage)
    return msgspec.json.encode(answer)


def error_reply(error: ModelError) -> ServedError:
    """An error as OpenAI would tell it; `param` is the field that its message begins with."""
    _, status, type_, code = next(each for each in _ERRORS if isinstance(error, each[0]))
    told = {
        "message": error.message,
        "type": type_,
        "param": _param(error),
        "code": code or error.code or None,
    }
    wait_s = error.retry_after_s
    headers = () if wait_s is None else (("retry-after", str(ceil(wait_s))),)
    return ServedError(status, msgspec.json.encode({"error": told}), headers)


def _param(error: ModelError) -> str | None:
    field, colon, _ = error.message.partition(": ")
    named = colon and isinstance(error, InvalidRequestError) and _PATH.fullmatch(field)
    return field if named else None


def _call_delta(event: ToolCallDelta) -> Json:
    function: Json = {"arguments": event.arguments}
    call: Json = {"index": event.index, "function": function}
    if event.name:
        function["name"] = event.name
    if event.id:
        call |= {"id": event.id, "type": "function"}
    return call


def _frame(chunk: Json) -> bytes:
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"
