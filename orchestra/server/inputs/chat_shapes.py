"""Which pipelines can be called like models; converts their inputs and outputs. Pure.

Such a pipeline has exactly one required input, for a text, a conversation or a request, and returns
text, a completion, or the events of a model. Its output is converted to the events of a model's
answer, or to whole answers. Options of the request are passed to optional inputs that are named
like keywords of `generate`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from orchestra.annotations.facts import MISSING, Fit, accepts, chunk_of, compare
from orchestra.annotations.shapes import plain
from orchestra.answers import Answer, Completion
from orchestra.codecs.serving.requests import refused
from orchestra.errors import InvalidRequestError
from orchestra.policies.answers.replayed import events_of
from orchestra.steps.relay import ChoiceEvents
from orchestra.values import (
    ChatRequest,
    FilePart,
    Message,
    ModelEvent,
    ReasoningEffort,
    Stopped,
    StopReason,
    TextDelta,
    TextPart,
)

if TYPE_CHECKING:
    from orchestra.events import RunFinished
    from orchestra.graph.nodes import Input
    from orchestra.graph.pipelines import Pipeline

_END, _CUT = Stopped(StopReason.END), Stopped(StopReason.LENGTH)
_OPTIONS: Mapping[str, tuple[object, ...]] = {
    "temperature": (float,),
    "top_p": (float,),
    "output_tokens_max": (int,),
    "stop": (tuple[str, ...], list[str]),
    "seed": (int,),
    "reasoning_effort": (ReasoningEffort,),
}
"""Keywords of `generate`, each with the types that an input for it may have."""


class GivesAnswers(ABC):
    """Converts the output of a run to answers of a model."""

    def of_chunk(self, chunk: Any) -> tuple[int, Iterable[ModelEvent]]:
        """The index of the answer to which a chunk belongs, and the chunk's events."""
        del chunk
        return 0, ()

    def ending(self, end: RunFinished) -> Iterable[ModelEvent]:
        """The remaining events of the first answer, when the run has finished; by default none."""
        del end
        return ()

    @abstractmethod
    def whole(self, end: RunFinished) -> list[Completion]:
        """The result of the run, as whole answers.

        Raises:
            TruncatedStreamError: an answer does not say why it stopped.
        """


class GivesRelayed(GivesAnswers):
    """The output of `relay` or `relay_whole`."""

    def of_chunk(self, chunk: ChoiceEvents) -> tuple[int, Iterable[ModelEvent]]:
        return chunk.choice, chunk.events

    def whole(self, end: RunFinished) -> list[Completion]:
        result: Sequence[Completion | ChoiceEvents] = end.result
        growing: dict[int, Answer] = {}
        whole: list[Completion] = []
        for each in result:
            if isinstance(each, Completion):
                whole.append(each)
                continue
            answer = growing.setdefault(each.choice, Answer())
            for event in each.events:
                answer.add(event)
        return whole or [growing[choice].completion() for choice in sorted(growing)]


class GivesText(GivesAnswers):
    """Text, whole or as a stream."""

    def __init__(self, *, streams: bool) -> None:
        self._streams = streams

    def of_chunk(self, chunk: str) -> tuple[int, Iterable[ModelEvent]]:
        return 0, (TextDelta(chunk),)

    def ending(self, end: RunFinished) -> Iterable[ModelEvent]:
        stopped = _CUT if end.cut else _END
        return (stopped,) if self._streams else (TextDelta(end.result), stopped)

    def whole(self, end: RunFinished) -> list[Completion]:
        parts = (TextPart(end.result),) if end.result else ()
        return [Completion(parts, _CUT if end.cut else _END)]


class GivesCompletion(GivesAnswers):
    """A whole answer of a model, which has no chunks."""

    def ending(self, end: RunFinished) -> Iterable[ModelEvent]:
        return events_of(end.result)

    def whole(self, end: RunFinished) -> list[Completion]:
        return [end.result]


class GivesEvents(GivesAnswers):
    """The events of a model's answer."""

    def of_chunk(self, chunk: ModelEvent) -> tuple[int, Iterable[ModelEvent]]:
        return 0, (chunk,)

    def whole(self, end: RunFinished) -> list[Completion]:
        return [Completion.of(end.result)]


@attrs.frozen
class ChatShape:
    """A pipeline that can be called like a model, and how its inputs and output are converted.

    `input` is its required input, whose value is `take(request)`. `how` are its inputs for options
    of the request, each with its annotation.
    """

    pipeline: Pipeline[..., Any]
    input: str
    take: Callable[[ChatRequest], object]
    gives: GivesAnswers
    how: Mapping[str, object]

    def inputs(self, request: ChatRequest) -> Mapping[str, object]:
        """The inputs of a run that answers this request.

        Raises:
            InvalidRequestError: the request needs a model, or more than the pipeline's input takes.
        """
        given: dict[str, object] = {self.input: self.take(request)}
        for name, annotation in self.how.items():
            value = getattr(request, name)
            if value not in (None, ()):
                given[name] = value if accepts(annotation, value) else list(value)
        return given


def shape_of(pipeline: Pipeline[..., Any]) -> ChatShape | None:
    """How a pipeline is called like a model; None if it cannot be."""
    required = [each for each in pipeline.inputs.values() if each.default is MISSING]
    gives = _gives(pipeline.returns)
    if len(required) != 1 or gives is None:
        return None
    (main,) = required
    take = _take(main.annotation)
    optional = (each for each in pipeline.inputs.values() if each is not main)
    how = {each.name: each.annotation for each in optional if _is_option(each)}
    return None if take is None else ChatShape(pipeline, main.name, take, gives, how)


def _is_option(each: Input) -> bool:
    """Whether an input is for an option of the request, judged by its name and its type."""
    return any(_fits(kind, each.annotation) for kind in _OPTIONS.get(each.name, ()))


def _gives(returns: object) -> GivesAnswers | None:
    chunk, returns = chunk_of(returns), plain(returns)
    if chunk is str or returns is str:
        return GivesText(streams=chunk is str)
    if returns is Completion:
        return GivesCompletion()
    if chunk is not None and _fits(chunk, ModelEvent):
        return GivesEvents()
    return None


def _take(annotation: object) -> Callable[[ChatRequest], object] | None:
    """The function that takes the value of an input with this annotation from a request, if any."""
    if annotation is object or annotation is Any or annotation is MISSING:
        return None  # it accepts anything, so nothing says that it is for a conversation
    if _fits(ChatRequest, annotation):
        return _everything
    if _fits(list[Message], annotation):
        return lambda request: list(_plainly(request).messages)
    if _fits(tuple[Message, ...], annotation):
        return lambda request: _plainly(request).messages
    return _question if _fits(str, annotation) else None


def _fits(source: object, target: object) -> bool:
    return source is not Any and compare(source, target) is Fit.MUST


def _everything(request: ChatRequest) -> object:
    return request


def _question(request: ChatRequest) -> object:
    """The text of the last user message."""
    users = [each for each in _plainly(request).messages if each.role == "user"]
    if not users:
        raise refused("messages", "there is no user message; the pipeline answers the last one")
    for part in users[-1].parts:
        if not isinstance(part, TextPart):
            what = "a file" if isinstance(part, FilePart) else "an image"
            raise refused("messages", f"the last user message has {what}, {_TEXT_ONLY}")
    if not users[-1].text:
        raise refused("messages", f"the last user message has no text, {_TEXT_ONLY}")
    return users[-1].text


def _plainly(request: ChatRequest) -> ChatRequest:
    """The request, if it does not need tools, a response format or logprobs.

    Options for which the pipeline has no input, such as those for sampling, are ignored.

    Raises:
        InvalidRequestError: the request needs what a pipeline that gets only messages cannot do.
    """
    for field, value in (
        ("tools", request.tools and request.tool_choice != "none"),
        ("response_format", request.output),
        ("logprobs", request.logprobs is not None),
    ):
        if value:
            raise _only_models(field)
    return request


def _only_models(field: str) -> InvalidRequestError:
    return refused(
        field,
        "this model is a pipeline that gets only the conversation; leave this field out, or let "
        "the pipeline take a `ChatRequest`",
    )


_TEXT_ONLY = (
    "and this model is a pipeline that gets only the text of that message; let it take "
    "`list[Message]` for the whole conversation"
)
RELAYED = GivesRelayed()
