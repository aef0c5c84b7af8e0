"""Writes answers in OpenAI's format, for clients that use our server as if it were OpenAI.

A stream is written while the answer arrives, batch by batch, and may contain several answers. It
ends with `[DONE]` only if every answer has a stop reason. If one failed, the error is the last
event, and OpenAI's SDKs raise it.

Rules of the file: the parts that all chunks have in common are encoded once. A piece of text costs
only the encoding of its text, since there are thousands of pieces per second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import add

import attrs

from orchestra.accounts import Usage
from orchestra.answers import Completion
from orchestra.citations import Cited
from orchestra.codecs.openai.annotations import annotation_records
from orchestra.codecs.openai.logprobs import logprobs_record
from orchestra.codecs.openai.reasoning_details import details_of
from orchestra.codecs.openai.usage import usage_record
from orchestra.codecs.openai_serving.errors import openai_error_body
from orchestra.codecs.raw_json import encode
from orchestra.codecs.seals import google_content
from orchestra.codecs.serving.errors import error_reply, not_stopped
from orchestra.logprobs import Logprobs
from orchestra.values import (
    Began,
    Details,
    Json,
    ModelEvent,
    ReasoningDelta,
    ReasoningPart,
    RefusalDelta,
    StopReason,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)

_WORDS: Mapping[StopReason, str] = {
    StopReason.END: "stop",
    StopReason.STOP_SEQUENCE: "stop",
    StopReason.TOOL_CALLS: "tool_calls",
    StopReason.CONTENT_FILTER: "content_filter",
}
_NOT_WHOLE = "length"
"""The word for all other reasons: an answer that may be incomplete never looks complete."""
_DETAILS = ("service_tier", "system_fingerprint")
_DONE = b"data: [DONE]\n\n"


@attrs.define(eq=False)
class _Choice:
    """The state of one of the answers."""

    before: bytes = b""
    """The bytes before each of its deltas; b"" until it has begun."""
    likely: Logprobs | None = None
    """The log probabilities of the next delta's tokens."""
    annotations: int = 0
    """The number of annotations written so far."""
    usage: Usage | None = None
    stopped: bool = False


class AnswerWriter:
    """Writes answers as Server-Sent Events while they arrive.

    `choices` is the number of answers. `answer_id` and `model` are written to the client; if they
    are "", the provider's are used. `created_s` is seconds since 1970.
    """

    __slots__ = ("_choices", "_created_s", "_details", "_id", "_include_usage", "_model")

    def __init__(
        self,
        created_s: int,
        *,
        answer_id: str = "",
        model: str = "",
        include_usage: bool = False,
        choices: int = 1,
    ) -> None:
        self._created_s = created_s
        self._id, self._model = answer_id, model
        self._details: Json = {}
        self._include_usage = include_usage
        self._choices = [_Choice() for _ in range(choices)]

    def write(self, events: Iterable[ModelEvent], choice: int = 0) -> bytes:
        """The chunks for these events of one answer; usage gets none, since `close` writes it."""
        one = self._choices[choice]
        chunks: list[bytes] = []
        for event in events:
            if type(event) is TextDelta and one.before and one.likely is None:  # nearly all
                chunks.append(one.before + _TEXT + encode(event.text) + _AFTER_TEXT)
            else:
                chunks.append(self._event(event, one))
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def close(self, usage: Json | None = None) -> bytes:
        """The usage, if the client asked for it, and the end of the stream.

        `usage` is the record of the usage of the whole request; without it, the reports of the
        answers are added up.

        Raises:
            TruncatedStreamError: an answer has no stop reason; write `failed` instead.
        """
        if not all(each.stopped for each in self._choices):
            raise not_stopped()
        if not self._include_usage:
            return _DONE
        record = usage or summed(each.usage for each in self._choices)
        return (_frame({**self._head(), "choices": [], "usage": record}) if record else b"") + _DONE

    def failed(self, error: BaseException) -> bytes:
        """The error, as the last event of the stream."""
        return b"data: " + openai_error_body(error_reply(error)) + b"\n\n"

    def _event(self, event: ModelEvent, one: _Choice) -> bytes:
        match event:
            case TextDelta(text=text):
                return self._delta({"content": text}, one)
            case ReasoningDelta(text=text, signature=signature):
                beside = _details_of_seal(signature) if signature else {}
                return self._delta({"reasoning_content": text, **beside}, one)
            case RefusalDelta(text=text):
                return self._delta({"refusal": text}, one)
            case ToolCallDelta():
                return self._delta({"tool_calls": [_call_delta(event)]}, one)
            case Logprobs():
                one.likely = event if one.likely is None else one.likely + event
                return b""
            case UsageReport(usage=usage):
                one.usage = usage
                return b""
            case Cited(citations=citations):
                return self._cites(annotation_records(citations), one)
            case Began(id=id_, model=model):
                self._id, self._model = self._id or id_, self._model or model
                if not one.before:  # otherwise all answers have begun, with the first one's details
                    self._details = _details(event.details)
                return self._begin(one)
        one.stopped = True
        begun = self._begin(one)
        return begun + one.before + b"{}" + _after(one, _WORDS.get(event.reason, _NOT_WHOLE))

    def _cites(self, annotations: Sequence[Json], one: _Choice) -> bytes:
        """Annotations, numbered: OpenAI's SDK fails on a second list whose items have no index."""
        if not annotations:
            return b""
        numbered = [{"index": at, **each} for at, each in enumerate(annotations, one.annotations)]
        one.annotations += len(numbered)
        return self._delta({"annotations": numbered}, one)

    def _begin(self, one: _Choice) -> bytes:
        """The first chunks of all answers, with their roles; written once, ordered by index.

        Clients append an answer to their list at its first chunk, so the order matters; OpenAI's
        own SDK fails if the first chunk is not that of answer 0.
        """
        if one.before:
            return b""
        head = encode(self._head())
        chunks: list[bytes] = []
        for index, each in enumerate(self._choices):
            each.before = b'data: %b,"choices":[{"index":%d,"delta":' % (head[:-1], index)
            chunks += (each.before, b'{"role":"assistant","content":""', _AFTER_TEXT)
        return b"".join(chunks)

    def _delta(self, delta: Json, one: _Choice) -> bytes:
        return self._begin(one) + one.before + encode(delta) + _after(one, None)

    def _head(self) -> Json:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created_s,
            "model": self._model,
            **self._details,
            **({"usage": None} if self._include_usage else {}),
        }


_TEXT, _AFTER_TEXT = b'{"content":', b'},"finish_reason":null}]}\n\n'


def _after(one: _Choice, finish: str | None) -> bytes:
    """The bytes after a delta."""
    likely, one.likely = one.likely, None
    logprobs = b"" if likely is None else b',"logprobs":' + encode(logprobs_record(likely))
    return logprobs + b',"finish_reason":%b}]}\n\n' % encode(finish)


def answer_record(
    answers: Sequence[Completion],
    created_s: int,
    *,
    answer_id: str = "",
    model: str = "",
    usage: Json | None = None,
) -> Json:
    """The body of a response with complete answers; arguments are as in `AnswerWriter`."""
    record: Json = {
        "id": answer_id or answers[0].id,
        "object": "chat.completion",
        "created": created_s,
        "model": model or answers[0].model,
        **_details(answers[0].details),
        "choices": [_choice(index, each) for index, each in enumerate(answers)],
    }
    if found := usage or summed(each.usage for each in answers):
        record["usage"] = found
    return record


def summed(usages: Iterable[Usage | None]) -> Json | None:
    """The record of the sum of usages; None if there are none."""
    counted = [each for each in usages if each is not None]
    return usage_record(reduce(add, counted)) if counted else None


def _details(details: Details) -> Json:
    """The details of the answering server that the dialect has fields for."""
    return {name: details[name] for name in _DETAILS if name in details} if details else {}


def _choice(index: int, answer: Completion) -> Json:
    message: Json = {
        "role": "assistant",
        "content": answer.text or None,
        "refusal": answer.refusal or None,
    }
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if details := details_of(answer.parts):
        message["reasoning_details"] = details
    if annotations := annotation_records(answer.citations):
        message["annotations"] = annotations
    if calls := answer.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
                **google_content(call.signature),
            }
            for call in calls
        ]
    likely = answer.logprobs
    return {
        "index": index,
        "message": message,
        "logprobs": None if likely is None else logprobs_record(likely),
        "finish_reason": _WORDS.get(answer.stopped.reason, _NOT_WHOLE),
    }


def _details_of_seal(signature: str) -> Json:
    """The field with OpenRouter's list, which clients send back as they do to OpenRouter."""
    details = details_of((ReasoningPart("", signature),))
    return {"reasoning_details": details} if details else {}


def _call_delta(event: ToolCallDelta) -> Json:
    function: Json = {"arguments": event.arguments}
    call: Json = {"index": event.index, "function": function}
    if event.name:
        function["name"] = event.name
    if event.id:
        call |= {"id": event.id, "type": "function"}
    return {**call, **google_content(event.signature)} if event.signature else call


def _frame(chunk: Json) -> bytes:
    return b"data: " + encode(chunk) + b"\n\n"
