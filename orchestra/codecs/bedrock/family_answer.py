"""Answers of Bedrock's model families without event types of their own, complete or in pieces.

Each family has its own names for the same two fields: the next text and, at the end, the stop
reason. `FamilyAnswer` has all of these names, so its readers need not know the family.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from orchestra.codecs.bedrock.converse import STOPS, usage_report
from orchestra.codecs.framing.frames import json_text
from orchestra.codecs.raw_json import NOTHING, without_nulls
from orchestra.codecs.tool_calls import next_call
from orchestra.codecs.usage_counts import token_count
from orchestra.values import Json, Stopped, StopReason, TextDelta, ToolCallDelta, UsageReport

_REASONS: Mapping[str, StopReason] = {
    **STOPS,
    "stop": StopReason.END,
    "finish": StopReason.END,
    "finished": StopReason.END,
    "complete": StopReason.END,
    "endoftext": StopReason.END,
    "eos_token": StopReason.END,
    "length": StopReason.LENGTH,
    "model_length": StopReason.LENGTH,
    "error_limit": StopReason.LENGTH,
    "stop_criteria_met": StopReason.STOP_SEQUENCE,
    "tool_calls": StopReason.TOOL_CALLS,
    "content_filter": StopReason.CONTENT_FILTER,
    "error_toxic": StopReason.CONTENT_FILTER,
}
_INTERVENED = "INTERVENED"
_COUNTS = (
    ("inputTokenCount", "outputTokenCount"),
    ("inputTextTokenCount", "tokenCount"),
    ("inputTextTokenCount", "totalOutputTextTokenCount"),
    ("prompt_token_count", "generation_token_count"),
    ("prompt_tokens", "completion_tokens"),
    ("inputTokens", "outputTokens"),
)
"""The names of the input and output counts, of Bedrock and of the families."""


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: msgspec.Raw = NOTHING


class _Call(msgspec.Struct):
    """A tool call; Command R's has name and parameters directly, without a `function`."""

    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    name: str | None = None
    parameters: msgspec.Raw = NOTHING


class _Finish(msgspec.Struct):
    reason: str | None = None


class FamilyAnswer(msgspec.Struct):
    """A complete answer or a piece of one, of any family; each family has only some fields."""

    type: str | None = None
    event_type: str | None = None  # Command R's
    index: object = None  # of several answers
    # the text
    text: str | None = None
    completion: str | None = None
    generation: str | None = None
    generated_text: str | None = None
    output_text: str | None = msgspec.field(default=None, name="outputText")
    content: str | list[FamilyAnswer] | None = None
    tool_calls: list[_Call] | None = None
    # the stop reason
    stop_reason: str | None = None
    finish_reason: str | None = None
    completion_reason: str | None = msgspec.field(default=None, name="completionReason")
    finish: _Finish | str | msgspec.UnsetType | None = msgspec.field(
        default=msgspec.UNSET, name="finishReason"
    )
    # inner objects of the same type
    results: list[FamilyAnswer] | None = None
    generations: list[FamilyAnswer] | None = None
    completions: list[FamilyAnswer] | None = None
    outputs: list[FamilyAnswer] | None = None
    choices: list[FamilyAnswer] | None = None
    data: FamilyAnswer | str | None = None  # a text here is an encrypted thought of Claude
    delta: FamilyAnswer | None = None
    message: FamilyAnswer | str | None = None
    # Nova's events, each under its name
    output: msgspec.Raw = NOTHING
    block_start: msgspec.Raw = msgspec.field(default=NOTHING, name="contentBlockStart")
    block_delta: msgspec.Raw = msgspec.field(default=NOTHING, name="contentBlockDelta")
    message_stop: msgspec.Raw = msgspec.field(default=NOTHING, name="messageStop")
    metadata: msgspec.Raw = NOTHING
    # token counts, by the model and by Bedrock, which after a guardrail writes 3 as `3.0`
    usage: Json | None = None
    input_count: object = msgspec.field(default=None, name="inputTextTokenCount")
    output_count: object = msgspec.field(default=None, name="tokenCount")
    output_total: object = msgspec.field(default=None, name="totalOutputTextTokenCount")
    prompt_count: object = msgspec.field(default=None, name="prompt_token_count")
    generation_count: object = msgspec.field(default=None, name="generation_token_count")
    metrics: Json | None = msgspec.field(default=None, name="amazon-bedrock-invocationMetrics")
    guardrail: str | None = msgspec.field(default=None, name="amazon-bedrock-guardrailAction")
    error: msgspec.Raw = NOTHING

    @property
    def intervened(self) -> bool:
        """Whether a guardrail has changed or replaced the model's text."""
        return self.guardrail == _INTERVENED


def is_of_another(answer: FamilyAnswer) -> bool:
    """Whether a piece belongs to another answer than the first, if several were requested."""
    first = answer.choices[0] if answer.choices else answer
    return bool(first.index)


def text_and_calls(answer: FamilyAnswer) -> Iterable[TextDelta | ToolCallDelta]:
    """The text and the tool calls in an answer or a piece of one.

    Raises:
        MalformedStreamError: a call's arguments are neither JSON nor text, or there are more calls
            than an answer may have.
    """
    if text := _text(answer):
        yield TextDelta(text)
    yield from _calls(answer)


def stops(answer: FamilyAnswer) -> Iterable[Stopped]:
    """The stop reason, if the answer has one."""
    if (word := _stop_word(answer)) is not None:
        yield Stopped(_REASONS.get(word.lower(), StopReason.OTHER), word)


def token_counts(answer: FamilyAnswer) -> Json:
    """The answer's counts under the names of its family; missing ones are left out."""
    if answer.usage is not None:
        return answer.usage
    first = answer.results[0] if answer.results else answer
    found = {
        "inputTextTokenCount": answer.input_count,
        "tokenCount": first.output_count,
        "totalOutputTextTokenCount": answer.output_total,
        "prompt_token_count": answer.prompt_count,
        "generation_token_count": answer.generation_count,
    }
    return without_nulls(found)


def usage_reports(record: Json) -> Iterable[UsageReport]:
    """The report of a record of counts; none if one of the two counts is missing."""
    for names in _COUNTS:
        if all(token_count(record.get(name)) is not None for name in names):
            return usage_report(record, names)
    return ()


def _inner_answers(answer: FamilyAnswer) -> Iterable[FamilyAnswer]:
    """The inner object that has the answer: the first of several."""
    for several in (
        answer.results,
        answer.generations,
        answer.completions,
        answer.outputs,
        answer.choices,
    ):
        if several:
            yield several[0]
    for one in (answer.data, answer.delta, answer.message):
        if isinstance(one, FamilyAnswer):
            yield one


def _text(answer: FamilyAnswer) -> str:
    for text in (
        answer.text,
        answer.completion,
        answer.generation,
        answer.generated_text,
        answer.output_text,
        answer.content,
    ):
        if isinstance(text, str):
            return text
    if isinstance(answer.content, list):
        return "".join(map(_text, answer.content))
    if isinstance(answer.message, str) and answer.finish is not msgspec.UNSET:
        return answer.message  # Pegasus; without a finish reason, it is the message of an error
    return next(filter(None, map(_text, _inner_answers(answer))), "")


def _stop_word(answer: FamilyAnswer) -> str | None:
    own = answer.stop_reason or answer.finish_reason or answer.completion_reason
    finish = answer.finish
    own = own or (finish.reason if isinstance(finish, _Finish) else finish or None)
    return own or next(filter(None, map(_stop_word, _inner_answers(answer))), None)


def _calls(answer: FamilyAnswer) -> Iterable[ToolCallDelta]:
    for at, call in enumerate(answer.tool_calls or ()):
        function = call.function or _Function(call.name, call.parameters)
        index = at if call.index is None or call.index < 0 else call.index
        name = function.name or ""
        id_ = call.id or (f"call_{index}" if name else "")
        yield ToolCallDelta(next_call(index), id_, name, json_text(function.arguments))
    for inner in _inner_answers(answer):
        yield from _calls(inner)
