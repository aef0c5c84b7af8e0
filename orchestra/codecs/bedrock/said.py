"""What the model families on Bedrock say that have no events of their own, whole or in pieces.

They all say the same two things, the next text and at last a word for the stop, under names
of their own: `Said` has them all, and a reader of it need not know whose it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from orchestra.accounts import Usage
from orchestra.codecs.arguments import count, token_count
from orchestra.codecs.bedrock.converse import STOPS, json_text
from orchestra.codecs.calls import next_call
from orchestra.values import Json, Stopped, StopReason, TextDelta, ToolCallDelta, UsageReport

_NONE = msgspec.Raw()
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
"""What Bedrock and the families call the tokens that they read and wrote."""


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: msgspec.Raw = _NONE


class _Call(msgspec.Struct):
    """A call; Command R has name and parameters at once, without a function around them."""

    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    name: str | None = None
    parameters: msgspec.Raw = _NONE


class _Finish(msgspec.Struct):
    reason: str | None = None


class Said(msgspec.Struct):
    """A whole answer or a piece of one, of any family; most of it is there in none."""

    type: str | None = None
    event_type: str | None = None  # Command R's
    index: object = None  # of several answers
    # the text itself
    text: str | None = None
    completion: str | None = None
    generation: str | None = None
    generated_text: str | None = None
    output_text: str | None = msgspec.field(default=None, name="outputText")
    content: str | list[Said] | None = None
    tool_calls: list[_Call] | None = None
    # the stop
    stop_reason: str | None = None
    finish_reason: str | None = None
    completion_reason: str | None = msgspec.field(default=None, name="completionReason")
    finish: _Finish | str | msgspec.UnsetType | None = msgspec.field(
        default=msgspec.UNSET, name="finishReason"
    )
    # what holds one of the like
    results: list[Said] | None = None
    generations: list[Said] | None = None
    completions: list[Said] | None = None
    outputs: list[Said] | None = None
    choices: list[Said] | None = None
    data: Said | str | None = None  # the text is that of a thought of Claude's, encrypted
    delta: Said | None = None
    message: Said | str | None = None
    # of Nova, whose events have their name for a key
    output: msgspec.Raw = _NONE
    block_start: msgspec.Raw = msgspec.field(default=_NONE, name="contentBlockStart")
    block_delta: msgspec.Raw = msgspec.field(default=_NONE, name="contentBlockDelta")
    message_stop: msgspec.Raw = msgspec.field(default=_NONE, name="messageStop")
    metadata: msgspec.Raw = _NONE
    # what was counted, by the model and by Bedrock; behind a guardrail it writes 3 as `3.0`
    usage: Json | None = None
    input_count: object = msgspec.field(default=None, name="inputTextTokenCount")
    output_count: object = msgspec.field(default=None, name="tokenCount")
    output_total: object = msgspec.field(default=None, name="totalOutputTextTokenCount")
    prompt_count: object = msgspec.field(default=None, name="prompt_token_count")
    generation_count: object = msgspec.field(default=None, name="generation_token_count")
    metrics: Json | None = msgspec.field(default=None, name="amazon-bedrock-invocationMetrics")
    guardrail: str | None = msgspec.field(default=None, name="amazon-bedrock-guardrailAction")
    error: msgspec.Raw = _NONE

    @property
    def intervened(self) -> bool:
        """Whether a guardrail has changed it, or says its own words in the model's place."""
        return self.guardrail == _INTERVENED


def of_another(said: Said) -> bool:
    """Whether a piece is of another answer than the first, where several were asked for."""
    first = said.choices[0] if said.choices else said
    return bool(first.index)


def spoken(said: Said) -> Iterable[TextDelta | ToolCallDelta]:
    """The text and the calls in it.

    Raises:
        MalformedStreamError: a call's arguments are neither JSON nor text, or there are more calls
            than an answer may have.
    """
    if text := _text(said):
        yield TextDelta(text)
    yield from _calls(said)


def stops(said: Said) -> Iterable[Stopped]:
    """The stop, if it is in there."""
    if (word := _word(said)) is not None:
        yield Stopped(_REASONS.get(word.lower(), StopReason.OTHER), word)


def counts(said: Said) -> Json:
    """The counts in it as their family names them; those that are missing are left out."""
    if said.usage is not None:
        return said.usage
    first = said.results[0] if said.results else said
    found = {
        "inputTextTokenCount": said.input_count,
        "tokenCount": first.output_count,
        "totalOutputTextTokenCount": said.output_total,
        "prompt_token_count": said.prompt_count,
        "generation_token_count": said.generation_count,
    }
    return {name: value for name, value in found.items() if value is not None}


def reports(record: Json) -> Iterable[UsageReport]:
    """The report that a record of counts makes; none where one of the two is missing."""
    for read, wrote in _COUNTS:
        input_tokens, output_tokens = map(token_count, (record.get(read), record.get(wrote)))
        if input_tokens is not None and output_tokens is not None:
            cached = count(record, "cacheReadInputTokenCount")
            written = count(record, "cacheWriteInputTokenCount")
            usage = Usage(
                input_tokens + cached + written,
                output_tokens,
                cached_input_tokens=cached,
                cache_write_input_tokens=written,
            )
            yield UsageReport(usage, record)
            return


def _within(said: Said) -> Iterable[Said]:
    """What says it in the place of the outer one: the first answer of several."""
    for several in (said.results, said.generations, said.completions, said.outputs, said.choices):
        if several:
            yield several[0]
    for one in (said.data, said.delta, said.message):
        if isinstance(one, Said):
            yield one


def _text(said: Said) -> str:
    for text in (
        said.text,
        said.completion,
        said.generation,
        said.generated_text,
        said.output_text,
        said.content,
    ):
        if isinstance(text, str):
            return text
    if isinstance(said.content, list):
        return "".join(map(_text, said.content))
    if isinstance(said.message, str) and said.finish is not msgspec.UNSET:
        return said.message  # Pegasus; where no finish is beside it, it is an error's
    return next(filter(None, map(_text, _within(said))), "")


def _word(said: Said) -> str | None:
    own = said.stop_reason or said.finish_reason or said.completion_reason
    finish = said.finish
    own = own or (finish.reason if isinstance(finish, _Finish) else finish or None)
    return own or next(filter(None, map(_word, _within(said))), None)


def _calls(said: Said) -> Iterable[ToolCallDelta]:
    for at, call in enumerate(said.tool_calls or ()):
        function = call.function or _Function(call.name, call.parameters)
        index = at if call.index is None or call.index < 0 else call.index
        name = function.name or ""
        id_ = call.id or (f"call_{index}" if name else "")
        yield ToolCallDelta(next_call(index), id_, name, json_text(function.arguments))
    for inner in _within(said):
        yield from _calls(inner)
